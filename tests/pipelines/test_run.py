"""`rag-beam run`: the stages from one file, validated first, resumed afterwards."""

import os
from pathlib import Path

import pytest
import yaml

from pipelines.run import RunSettings, read_job
from tests.pipelines.commands import manifest_of, rag_beam, read_table, status_of
from tests.pipelines.conftest import PASSAGE_WORDS, World


def write_run_file(world: World, path: Path) -> dict:
    """A run file beside the world, with paths relative to itself."""

    def relative(target: Path) -> str:
        return os.path.relpath(target, path.parent)

    content = {
        "output": "out",
        "options": {"num_threads": 1, "progress": "none"},
        "steps": {
            "passages": {"stage": "chunk", "input": [relative(world.corpus)], "passage_words": PASSAGE_WORDS},
            "embeddings": {
                "stage": "encode",
                "passages": "passages",
                "encoder": relative(world.passage_encoder),
                "unit_rows": 30,
            },
            "index": {"stage": "index", "embeddings": "embeddings", "passages": "passages", "shard_rows": 50},
            "found": {
                "stage": "retrieve",
                "index": "index",
                "questions": relative(world.questions),
                "encoder": relative(world.question_encoder),
                "n_docs": 4,
            },
            "answers": {
                "stage": "generate",
                "retrievals": "found",
                "model": relative(world.generator),
                "model_type": "rag_token",
                "max_new_tokens": 3,
                "num_beams": 2,
            },
            "scores": {
                "stage": "evaluate",
                "predictions": "answers",
                "references": relative(world.questions),
                "metrics": ["exact_match"],
            },
        },
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return content


def test_the_whole_job_from_one_file_and_again(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = write_run_file(world, tmp_path / "run.yaml")
    assert status_of("run", str(tmp_path / "run.yaml"), plan=True) == 0
    assert capsys.readouterr().out.count("to do") == 6
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["plan.json"]

    rag_beam("run", str(tmp_path / "run.yaml"))
    assert read_table(tmp_path / "out" / "found").equals(read_table(world.made("retrievals")))
    assert manifest_of(tmp_path / "out" / "scores").rows == 1
    estimate_and_fact = capsys.readouterr().out.partition("estimate / fact")[2].splitlines()
    assert [line.split()[0] for line in estimate_and_fact[1:]] == list(content["steps"])
    assert all("80 / 80" in line for line in estimate_and_fact[1:4])  # rows

    rag_beam("run", str(tmp_path / "run.yaml"))
    told, _, table = capsys.readouterr().out.partition("estimate / fact")
    assert told.count("nothing to do") == table.count("nothing to do") == 6
    assert status_of("run", str(tmp_path / "run.yaml"), plan=True) == 0
    assert capsys.readouterr().out.count("complete") == 6


def test_only_some_steps(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_run_file(world, tmp_path / "run.yaml")
    rag_beam("run", str(tmp_path / "run.yaml"), only=["chunk"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["passages"]
    assert status_of("run", str(tmp_path / "run.yaml"), only=["index"]) == 2
    assert "embeddings: no such folder" in capsys.readouterr().err
    assert status_of("run", str(tmp_path / "run.yaml"), only=["indices"]) == 2
    assert "--only indices" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "chunck"}, "step answers: stage is 'chunck'"),
        ({"num_beam": 3}, "did you mean --num_beams"),
        ({"num_beams": 0}, "--num_beams 0"),
        ({"model_type": None}, "--model_type"),
        ({"output": "elsewhere"}, "has an output of its own"),
        (
            {"beam": {"paralellism": 2}},
            "step answers: beam: --paralellism: no such option; did you mean --parallelism",
        ),
        ({"beam": {"parallelism": "two"}}, "step answers: beam: argument --parallelism"),
        ({"beam": "--parallelism=2"}, "step answers: beam: expected Beam's options by name"),
    ],
)
def test_a_wrong_step_is_told_before_anything_is_done(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture, change: dict, message: str
) -> None:
    content = write_run_file(world, tmp_path / "run.yaml")
    content["steps"]["answers"] |= change
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert status_of("run", str(tmp_path / "run.yaml")) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", "is not YAML"),
        ("- a\n- b\n", "expected a mapping"),
        ("output: out\n", "steps: Field required"),
        ("output: out\nsteps: {}\n", ": steps: "),
    ],
)
def test_a_file_that_is_no_run_file(
    tmp_path: Path, capsys: pytest.CaptureFixture, text: str, message: str
) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert status_of("run", str(tmp_path / "run.yaml")) == 2
    assert message in capsys.readouterr().err
    assert status_of("run", str(tmp_path / "none.yaml")) == 2
    assert "no such run file" in capsys.readouterr().err


def test_a_step_that_fails_is_named(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    content = write_run_file(world, tmp_path / "run.yaml")
    content["steps"]["embeddings"]["encoder"] = "no/such/model/here"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert status_of("run", str(tmp_path / "run.yaml")) == 2
    assert "rag-beam: embeddings: no/such/model/here" in capsys.readouterr().err
    assert manifest_of(tmp_path / "out" / "passages").rows > 0


def test_a_steps_own_beam_options_go_before_those_of_the_command_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = write_run_file(world, tmp_path / "run.yaml")
    content["steps"]["embeddings"]["beam"] = {"direct_num_workers": -2, "experiments": ["one", "two"]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    [step] = read_job(str(tmp_path / "run.yaml"), RunSettings(only=["embeddings"])).steps
    assert step.beam_args == ("--direct_num_workers=-2", "--experiments=one", "--experiments=two")
    assert status_of("run", str(tmp_path / "run.yaml"), direct_num_workers=1) == 2
    assert "embeddings: --direct_num_workers -2" in capsys.readouterr().err
    assert manifest_of(tmp_path / "out" / "passages").rows > 0


def test_a_steps_name_leads_into_its_output(world: World, tmp_path: Path) -> None:
    """As in `retriever/passage_encoder`, what a train step made."""
    content = {
        "output": "out",
        "steps": {
            "retriever": {
                "stage": "train_retriever",
                "questions": ["train.json"],
                "question_encoder": str(world.question_encoder),
                "passage_encoder": str(world.passage_encoder),
            },
            "embeddings": {
                "stage": "encode",
                "passages": "passages",
                "encoder": "retriever/passage_encoder",
            },
            "others": {"stage": "encode", "passages": "passages", "encoder": "facebook/dpr"},
        },
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    retriever, embeddings, others = read_job(str(path), RunSettings()).steps
    assert retriever.settings.questions == [str(tmp_path / "train.json")]
    assert embeddings.settings.encoder == str(tmp_path / "out" / "retriever" / "passage_encoder")
    assert others.settings.encoder == "facebook/dpr"
