"""`rag-beam run` night after night: only what is new or changed is answered, and a night equals a full run."""

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipelines.dataset.lock import locked
from pipelines.nightly.record import Night, read_nights, remove_unused, write_nights
from rag_core.errors import UsageError
from tests.pipelines.commands import manifest_of, rag_beam, read_table, status_of
from tests.pipelines.conftest import PASSAGE_WORDS, World, document_text, write_lines

TOLD = {"step", "outcome", "change"}  # labels that tests look at
PLACES_ASKED = ["Aranth", "Belmor", "Corvane", "Dunwick"]


def documents(*changed: int) -> list[dict[str, Any]]:
    """Ten documents; those changed tell something new."""
    return [
        {
            "id": f"d{number}",
            "title": f"Place {number}",
            "text": document_text(number) + " It has burnt down." * (number in changed),
        }
        for number in range(10)
    ]


def questions(*places: str) -> list[dict[str, Any]]:
    return [
        {"question_id": f"asked of {place}", "question": f"When was the market of {place} founded?"}
        for place in places
    ]


@dataclass
class Nightly:
    """A run file with nights, and what it reads."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def run(self, *options: str, status: int = 0) -> dict[str, str]:
        """Runs a night; what its last line tells."""
        assert status_of("run", str(self.folder / "run.yaml"), *options) == status
        told = re.findall(r"(\w+)=(\S+)", self.capsys.readouterr().out.splitlines()[-1])
        return dict(told)

    def current(self) -> dict[str, Any]:
        return json.loads((self.output / "current.json").read_text())

    def newest(self, step: str) -> Path:
        return self.output / self.current()["steps"][step]

    def change(self, **settings: Any) -> None:
        """Other settings of the answers."""
        path = self.folder / "run.yaml"
        content = yaml.safe_load(path.read_text())
        content["steps"]["answers"] |= settings
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def copy(self, name: str) -> "Nightly":
        """The same run in another output, from nothing: a full run."""
        content = yaml.safe_load((self.folder / "run.yaml").read_text())
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(content | {"output": name}, sort_keys=False))
        rag_beam("run", str(self.folder / f"{name}.yaml"))
        self.capsys.readouterr()
        return Copy(self.folder, self.capsys, name)


@dataclass
class Copy(Nightly):
    """A run of the same file into another folder."""

    name: str

    @property
    def output(self) -> Path:
        return self.folder / self.name


def write_run_file(folder: Path, world: World, **steps: dict[str, Any]) -> None:
    """A run file with nights; `steps` adds to the options of its steps."""
    base: dict[str, dict[str, Any]] = {
        "passages": {"stage": "chunk", "input": ["corpus.jsonl"], "passage_words": PASSAGE_WORDS},
        "embeddings": {"stage": "encode", "passages": "passages", "encoder": str(world.passage_encoder)},
        "index": {"stage": "index", "embeddings": "embeddings", "passages": "passages"},
        "retrievals": {
            "stage": "retrieve",
            "index": "index",
            "questions": "questions/*.jsonl",
            "encoder": str(world.question_encoder),
            "n_docs": 3,
        },
        "answers": {
            "stage": "generate",
            "retrievals": "retrievals",
            "model": str(world.generator),
            "model_type": "rag_token",
            "max_new_tokens": 3,
            "own_batches": True,
        },
    }
    for name, options in steps.items():
        base[name] = base.get(name, {}) | options
    content = {"output": "out", "nights": 2, "options": {"num_threads": 1, "progress": "none"}, "steps": base}
    (folder / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def nightly(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Nightly:
    """A small corpus of its own, four questions."""
    write_lines(tmp_path / "corpus.jsonl", documents())
    (tmp_path / "questions").mkdir()
    write_lines(tmp_path / "questions" / "1.jsonl", questions(*PLACES_ASKED))
    write_run_file(tmp_path, world)
    return Nightly(tmp_path, capsys)


def test_only_new_questions_are_answered(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Goes on from what runs without nights made; neither corpus nor encoder are looked at without --refresh."""
    for name in ("passages", "embeddings", "index"):
        shutil.copytree(world.made(name), tmp_path / "out" / name)
    (tmp_path / "questions").mkdir()
    write_lines(tmp_path / "questions" / "1.jsonl", questions(*PLACES_ASKED[:2]))
    write_run_file(tmp_path, world, passages={"input": ["no such corpus"]})
    nightly = Nightly(tmp_path, capsys)
    told = nightly.run()
    assert (told["night"], told["answered"], told["kept"], told["status"]) == ("1", "2", "0", "0")
    first = read_table(nightly.newest("answers"))
    write_lines(tmp_path / "questions" / "2.jsonl", questions(*PLACES_ASKED[2:]))
    metrics = tmp_path / "rag_beam.prom"
    told = nightly.run("--metrics_file", str(metrics))
    assert (told["night"], told["answered"], told["kept"], told["new_question"]) == ("2", "2", "2", "2")
    answers = read_table(nightly.newest("answers"))
    assert answers.slice(0, 2).equals(first) and answers.num_rows == 4
    assert nightly.current()["steps"]["index"] == "index"
    assert nightly.current()["steps"]["answers"] == "night-000002/answers"
    changes = read_table(nightly.output / nightly.current()["changes"]["answers"]).to_pylist()
    assert [(row["question_id"], row["change"]) for row in changes] == [
        (f"asked of {place}", "new_question") for place in PLACES_ASKED[2:]
    ]
    figures = sample_values(metrics)
    assert figures["rag_beam_run_exit_status", ""] == 0
    assert figures["rag_beam_step_records", "answers new"] == 2
    assert figures["rag_beam_step_records", "answers kept"] == 2
    assert figures["rag_beam_step_records", "index kept"] == 80
    assert figures["rag_beam_changes", "answers new_question"] == 2
    assert figures["rag_beam_run_last_success_timestamp_seconds", ""] == pytest.approx(time.time(), abs=600)

    with locked(str(nightly.output)):
        assert status_of("run", str(tmp_path / "run.yaml"), metrics_file=metrics) == 2
    captured = capsys.readouterr()
    assert "is working on it; wait for it" in captured.err and "run: status=2 night=none" in captured.out
    later = sample_values(metrics)
    assert later["rag_beam_run_exit_status", ""] == 2
    success = "rag_beam_run_last_success_timestamp_seconds"
    assert later[success, ""] == figures[success, ""]


def sample_values(path: Path) -> dict[tuple[str, str], float]:
    """The figures of a metrics file by name and, joined, the labels that tell them apart."""
    return {
        (
            sample.name,
            " ".join(value for name, value in sorted(sample.labels.items(), reverse=True) if name in TOLD),
        ): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("steps", "options", "message"),
    [
        ({}, {"only": ["answers"]}, "--only: "),
        ({}, {"plan": True}, "--plan: "),
        ({"answers": {"overwrite": True}}, {}, "answers: --overwrite: a run with nights"),
        (
            {"answers_changes": {"stage": "chunk", "input": ["a"]}},
            {},
            "is what the changes of answers are called",
        ),
        (
            {},
            {"metrics_file": "no/such/folder/rag_beam.prom"},
            "--metrics_file no/such/folder/rag_beam.prom: ",
        ),
    ],
)
def test_what_has_no_meaning_with_nights_is_told_before_anything_is_done(
    nightly: Nightly, world: World, steps: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    write_run_file(nightly.folder, world, **steps)
    assert status_of("run", str(nightly.folder / "run.yaml"), **options) == 2
    told = nightly.capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not nightly.output.exists()


def test_refresh_needs_nights(nightly: Nightly) -> None:
    content = yaml.safe_load((nightly.folder / "run.yaml").read_text())
    del content["nights"]
    (nightly.folder / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert status_of("run", str(nightly.folder / "run.yaml"), refresh=True) == 2
    assert "keeps no nights; write nights: 3" in nightly.capsys.readouterr().err


def test_the_record_tells_the_newest_of_each_step_and_what_nobody_needs_is_removed(tmp_path: Path) -> None:
    output = str(tmp_path)
    nights = [
        Night(3, {"a": "night-000003/a", "b": "night-000001/b"}, {"a": "night-000003/a_changes"}),
        Night(2, {"a": "night-000002/a", "b": "night-000001/b"}, {}),
    ]
    write_nights(output, nights)
    assert read_nights(output) == nights
    needed = ["night-000001/b", "night-000002/a", "night-000003/a", "night-000003/a_changes", "mine"]
    for name in [*needed, "night-000001/a", "night-000003/left", "night-000000/a"]:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text("{}")
    remove_unused(output, nights)
    assert [
        str(path.parent.relative_to(tmp_path)) for path in sorted(tmp_path.glob("**/manifest.json"))
    ] == sorted(needed)
    assert not (tmp_path / "night-000000").exists()
    (tmp_path / "current.json").write_text('{"night": 3}')
    with pytest.raises(UsageError, match="put it back, or remove it"):
        read_nights(output)


@pytest.mark.slow
def test_a_night_equals_a_full_run_and_tells_what_changed(nightly: Nightly) -> None:
    told = nightly.run()
    assert (told["night"], told["answered"], told["kept"], told["status"]) == ("1", "4", "0", "0")
    first = read_table(nightly.newest("answers"))

    write_lines(nightly.folder / "questions" / "2.jsonl", questions("Eastholm"))
    write_lines(nightly.folder / "corpus.jsonl", documents(2))
    told = nightly.run()  # the corpus is not looked at: one question is new
    assert (told["night"], told["answered"], told["kept"], told["new_question"]) == ("2", "1", "4", "1")
    assert read_table(nightly.newest("answers")).slice(0, 4).equals(first)
    steps = nightly.current()["steps"]
    assert steps["index"] == "night-000001/index" and steps["answers"] == "night-000002/answers"

    told = nightly.run("--refresh")
    full = nightly.copy("full")
    for step in ("retrievals", "answers"):
        assert read_table(nightly.newest(step)).equals(read_table(full.newest(step)))
    before = {
        row["question_id"]: row for row in read_table(nightly.output / "night-000002/retrievals").to_pylist()
    }
    changed = [
        row["question_id"]
        for row in read_table(nightly.newest("retrievals")).to_pylist()
        if row != before[row["question_id"]]
    ]
    assert 0 < len(changed) < 5  # the document is among the passages of some
    assert (told["answered"], told["kept"]) == (str(len(changed)), str(5 - len(changed)))
    changes = read_table(nightly.output / nightly.current()["changes"]["answers"]).to_pylist()
    assert [row["question_id"] for row in changes] == changed
    assert int(told["new_answer"]) + int(told["same_answer"]) == len(changed)
    for row in changes:
        came = [passage for passage in row["passages"] if passage["change"] in ("came", "text")]
        left = [passage for passage in row["passages"] if passage["change"] == "left"]
        assert came or left
        # what came instead of a changed passage may be any, and so may be what left for it
        assert "d2" in {passage["document_id"] for passage in [*came, *left]}

    # two nights are kept, with what they need of the first
    assert sorted(path.name for path in (nightly.output / "night-000001").iterdir()) == [
        *("embeddings", "index", "passages")
    ]
    assert sorted(path.name for path in nightly.output.iterdir()) == [
        *("current.json", "night-000001", "night-000002", "night-000003", "question_vectors")
    ]
    assert len(list((nightly.output / "question_vectors").iterdir())) == 1
    told = nightly.run("--refresh")
    assert (told["night"], told["answered"], told["kept"]) == ("none", "0", "5")
    assert (
        status_of("verify", *(str(nightly.output / name) for name in nightly.current()["steps"].values()))
        == 0
    )


@pytest.mark.slow
def test_a_night_that_was_interrupted_is_gone_on_with_and_other_answers_are_not_kept(
    nightly: Nightly,
) -> None:
    nightly.run()
    model = yaml.safe_load((nightly.folder / "run.yaml").read_text())["steps"]["answers"]["model"]
    nightly.change(model="no/such/model/here")
    write_lines(nightly.folder / "corpus.jsonl", documents(1))
    assert status_of("run", str(nightly.folder / "run.yaml"), "--refresh") == 2
    assert nightly.current()["night"] == 1  # what is whole stays the current one
    begun = nightly.output / "night-000002"
    assert manifest_of(begun / "retrievals").rows == 4 and not (begun / "answers").exists()
    nightly.capsys.readouterr()

    # the corpus changes once more before somebody mends the mistake, and the settings with it
    write_lines(nightly.folder / "corpus.jsonl", documents(1, 2))
    nightly.change(model=model, max_new_tokens=2)
    told = nightly.run("--refresh")
    assert (told["night"], told["answered"], told["kept"]) == ("2", "4", "0")
    full = nightly.copy("full")
    for step in ("passages", "embeddings", "retrievals", "answers"):
        assert read_table(nightly.newest(step)).equals(read_table(full.newest(step)))
    before = read_table(nightly.output / "night-000001/passages").column("text").to_pylist()
    after = read_table(nightly.newest("passages")).column("text").to_pylist()
    unchanged = sum(text in before for text in after)
    assert manifest_of(nightly.newest("embeddings")).counts.extra["reused"] == unchanged < len(after)
