"""The run files of the examples: every step's stage and options exist and fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import examples
from examples.ablation_runs import COMPARED, MODEL_TYPES, N_DOCS, VARIANTS, Ablations, Result, Trial
from examples.ablations import gain, table
from examples.hot_swap import table as hot_swap_table
from pipelines.run import RunSettings, read_job
from tests.examples.score_tables import write_scores

FOLDER = Path(examples.__file__).parent


@pytest.mark.parametrize("name", ["run.yaml", "train.yaml", "hot_swap.yaml"])
def test_run_files_are_valid(name: str) -> None:
    job = read_job(str(FOLDER / name), RunSettings())
    assert len(job.steps) > 5


def ablations(folder: Path) -> Ablations:
    return Ablations(folder / "train", folder / "practice", folder / "out", steps=3, seeds=(0,))


def steps_of(made: Ablations, folder: Path) -> dict[str, Any]:
    """The settings of each step, as `rag-beam run` reads them."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(made.run_file(), sort_keys=False))
    return {step.name: step.settings for step in read_job(str(path), RunSettings()).steps}


def test_the_ablations_are_a_valid_run(tmp_path: Path) -> None:
    steps = steps_of(ablations(tmp_path), tmp_path)
    trained = [name for name in steps if name.startswith(tuple(VARIANTS)) and name.endswith("_seed_0")]
    assert len(trained) == len(VARIANTS) * len(MODEL_TYPES)
    assert steps["frozen_rag_token_seed_0"].freeze_retriever
    assert not steps["trained_rag_token_seed_0"].freeze_retriever
    assert steps["closed_rag_token_seed_0"].n_docs == 0
    assert len({steps[name].max_steps for name in trained}) == 1
    average = tmp_path / "average" / "sixth_reader"  # beside what training wrote, where train.sh puts it
    assert {steps[name].model for name in trained} == {str(average)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_alone_has_what_it_reads(tmp_path: Path, variant: str) -> None:
    made = replace(ablations(tmp_path), variants=(variant,))
    steps = steps_of(made, tmp_path)
    answering = [name for name in steps if name.endswith("_answers")]
    assert len(answering) == sum(len(trial.n_docs) for trial in made.trials())
    for name in answering:
        read = (steps[name].retrievals, steps[name].model.removesuffix("/model"))
        assert {Path(path).relative_to(made.output).as_posix() for path in read} <= steps.keys()


def test_further_seeds_tell_what_training_gains_and_no_more(tmp_path: Path) -> None:
    of_seeds: dict[int, set[tuple[str, tuple[int, ...]]]] = {}
    for trial in replace(ablations(tmp_path), seeds=(4, 7)).trials():
        of_seeds.setdefault(trial.seed, set()).add((trial.variant, tuple(trial.n_docs)))
    assert of_seeds[4] == {("closed", (0,)), ("bm25", N_DOCS), ("frozen", N_DOCS), ("trained", N_DOCS)}
    assert of_seeds[7] == {("frozen", (5,)), ("trained", (5,))}


def test_another_retriever_searches_in_an_index_of_its_own(tmp_path: Path) -> None:
    made = replace(ablations(tmp_path), retriever=tmp_path / "start", variants=COMPARED)
    steps = steps_of(made, tmp_path)
    for name in ("embeddings", "practice_embeddings"):
        assert steps[name].encoder == str(tmp_path / "start" / "passage_encoder")
    trained = steps["trained_rag_sequence_seed_0"]
    assert trained.index == str(made.output / "practice_index")
    assert trained.question_encoder == str(tmp_path / "start" / "question_encoder")


def test_the_table_of_the_ablations_reads_the_scores(tmp_path: Path) -> None:
    made = ablations(tmp_path)
    for model_type in MODEL_TYPES:
        for variant in VARIANTS:
            name = Trial(variant, model_type, 0, ()).name
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


def test_what_training_gains_is_paired_over_questions_and_meant_over_seeds(tmp_path: Path) -> None:
    """Of two questions' answers with the first seed, and of one's with the second, only the trained one is right."""
    asked = [{"question_id": f"q{number}", "answers": [f"Aranth {number}"]} for number in range(200)]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(f"{json.dumps(row)}\n" for row in asked), encoding="utf-8")
    made = replace(ablations(tmp_path), seeds=(0, 1), variants=COMPARED, questions=questions)
    for seed, better in ((0, 2), (1, 1)):
        for variant in COMPARED:
            right = 100 + better * (variant == "trained")
            rows = [
                {"question_id": row["question_id"], "answer": row["answers"][0] if number < right else "?"}
                for number, row in enumerate(asked)
            ]
            folder = made.output / f"{Trial(variant, 'rag_token', seed, ()).name}_5_answers"
            folder.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows), folder / "part-00000-00000.parquet")
    found = gain(made, "rag_token")
    assert found.n == len(asked)
    assert found.difference == pytest.approx(1.5 / len(asked))
    assert found.ci_low <= found.difference <= found.ci_high
