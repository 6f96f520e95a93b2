"""The run files of the examples: every step's stage and options exist and fit."""

from pathlib import Path

import pytest
import yaml

import examples
from examples.ablations import MODEL_TYPES, N_DOCS, VARIANTS, Ablations, Result, table
from examples.hot_swap import table as hot_swap_table
from pipelines.run import RunSettings, read_job
from tests.examples.score_tables import write_scores

FOLDER = Path(examples.__file__).parent


@pytest.mark.parametrize("name", ["run.yaml", "train.yaml", "hot_swap.yaml"])
def test_run_files_are_valid(name: str) -> None:
    job = read_job(str(FOLDER / name), RunSettings())
    assert len(job.steps) > 5


def ablations(folder: Path) -> Ablations:
    return Ablations(folder / "train", folder / "practice", folder / "out", steps=3, seed=0)


def test_the_ablations_are_a_valid_run(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(ablations(tmp_path).run_file(), sort_keys=False))
    steps = {step.name: step.settings for step in read_job(str(path), RunSettings()).steps}
    trained = [
        name for name in steps if name.startswith(tuple(VARIANTS)) and name.endswith(tuple(MODEL_TYPES))
    ]
    assert len(trained) == len(VARIANTS) * len(MODEL_TYPES)
    assert steps["frozen_rag_token"].freeze_retriever
    assert not steps["trained_rag_token"].freeze_retriever
    assert steps["closed_rag_token"].n_docs == 0
    assert len({steps[name].max_steps for name in trained}) == 1


def test_the_table_of_the_ablations_reads_the_scores(tmp_path: Path) -> None:
    made = ablations(tmp_path)
    for model_type in MODEL_TYPES:
        for variant in VARIANTS:
            name = f"{variant}_{model_type}"
            if variant == "closed":
                write_scores(made.output / f"{name}_0_scores", {"exact_match": 0.03})
                continue
            write_scores(
                made.output / f"{name}_recall", {f"recall@{n_docs}": n_docs / 100 for n_docs in N_DOCS}
            )
            for n_docs in N_DOCS:
                write_scores(made.output / f"{name}_{n_docs}_scores", {"exact_match": n_docs / 200})
    results = made.results()
    assert Result("closed book", "RAG-Token", 0, 0.03, None) in results
    assert Result("BM25", "RAG-Sequence", 20, 0.1, 0.2) in results
    lines = table(results).splitlines()
    assert len(lines) == 1 + len(VARIANTS) * len(MODEL_TYPES)
    [line] = [line for line in lines if line.startswith("RAG-Token, frozen retriever")]
    assert line.split()[-2:] == ["0.250", "(0.500)"]


def test_the_table_of_the_exchanged_index_has_matched_dates_on_its_diagonal(tmp_path: Path) -> None:
    for index in ("2018", "2024"):
        for answers in ("2018", "2024"):
            value = 0.9 if index == answers else 0.05
            write_scores(tmp_path / f"index_{index}_answers_{answers}", {"exact_match": value})
    first, second = [line.split()[-2:] for line in hot_swap_table(tmp_path).splitlines()[1:]]
    assert (first, second) == (["0.900", "0.050"], ["0.050", "0.900"])
