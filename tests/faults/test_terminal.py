"""What steers a terminal is harmless wherever it stands in the data: in texts, titles, ids, answers, names."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.commands import rag_beam, status_of
from tests.pipelines.conftest import PLACES, World, document_text, write_lines

# clears the screen, sets the title, turns the direction of writing, goes back to the line's start, rings
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\r\x08\x9b31m"
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")

Shown = Callable[[], str]


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str]) -> Shown:
    """All that was printed since the last call, which must steer nothing."""

    def read() -> str:
        said = "".join(capfd.readouterr())
        assert not STEERING.search(said), repr(said)
        return said

    return read


def test_from_corpus_to_scores(world: World, tmp_path: Path, shown: Shown) -> None:
    folder = tmp_path / f"in {HOSTILE}"
    folder.mkdir()
    corpus, questions = folder / f"c{HOSTILE}.jsonl", folder / f"q{HOSTILE}.jsonl"
    place = PLACES[0] + HOSTILE
    write_lines(
        corpus,
        [{"id": f"{n}{HOSTILE}", "title": place, "text": document_text(n) + HOSTILE} for n in range(4)],
    )
    write_lines(
        questions,
        [
            {
                "question_id": f"q{n}{HOSTILE}",
                "question": f"Where is {place}?",
                "answers": [HOSTILE],
                "kind": HOSTILE,
            }
            for n in range(2)
        ],
    )
    out = folder / "out"
    rag_beam("chunk", input=corpus, output=out / "passages")
    encoder = {"encoder": world.passage_encoder, "num_threads": 1}
    rag_beam("encode", passages=out / "passages", **encoder, output=out / "vectors")
    rag_beam("index", embeddings=out / "vectors", passages=out / "passages", output=out / "index")
    search = {"index": out / "index", "encoder": world.question_encoder, "num_threads": 1}
    rag_beam("retrieve", questions=questions, **search, n_docs=20, output=out / "retrievals")
    answering = {"retrievals": out / "retrievals", "model": world.generator, "max_new_tokens": 2}
    rag_beam("generate", **answering, model_type="rag_token", token_posteriors=True, output=out / "answers")
    labels = {"label_set": [f"A{HOSTILE}=yes", "B=no"]}
    rag_beam(
        "classify", retrievals=out / "retrievals", model=world.generator, **labels, output=out / "labels"
    )
    scoring = {"references": questions, "slice_by": "kind", "output": out / "scores"}
    rag_beam("evaluate", predictions=out / "answers", **scoring)
    assert "kind=" in shown()
    for name in ("passages", "vectors", "index", "retrievals", "answers", "labels", "scores"):
        rag_beam("inspect", str(out / name))
        assert name in shown()
        rag_beam("verify", str(out / name))
        assert name in shown()
    for name in ("retrievals", "answers", "labels"):
        rag_beam("inspect", str(out / name), question_id=f"q1{HOSTILE}")
        assert "Where is" in shown()
    rag_beam("evaluate", predictions=out / "answers", **scoring)
    assert "nothing to do" in shown()


def test_refusals(world: World, tmp_path: Path, shown: Shown) -> None:
    bad = tmp_path / f"bad{HOSTILE}.jsonl"
    bad.write_text('{"' + HOSTILE)
    out = tmp_path / f"out{HOSTILE}"
    assert status_of("chunk", input=bad, output=out) == 2
    assert "fits none of" in shown()
    assert status_of("chunk", input=tmp_path / f"none{HOSTILE}", output=out) == 2
    assert "no file matches" in shown()
    assert status_of(f"chunk{HOSTILE}") == 2
    assert "no such command" in shown()
    assert status_of("chunk", input=bad, output=out, **{f"option{HOSTILE}": 1}) == 2
    shown()
    assert status_of("inspect", str(out)) == 2
    shown()
    assert status_of("inspect", world.made("retrievals"), question_id=HOSTILE) == 2
    assert "no row has the question_id" in shown()
    assert status_of("verify", str(out)) != 0
    shown()


def test_a_flood_of_rejects(tmp_path: Path, shown: Shown) -> None:
    corpus = tmp_path / f"c{HOSTILE}.jsonl"
    corpus.write_text('{"text": "a"}\n' + (json.dumps({HOSTILE: 1}) + "\n") * 150)
    assert status_of("chunk", input=corpus, output=tmp_path / f"out{HOSTILE}") == 1
    assert "bad_field 150" in shown()


def test_a_run_of_stages_and_its_plan(world: World, tmp_path: Path, shown: Shown) -> None:
    corpus = tmp_path / f"c{HOSTILE}.jsonl"
    corpus.write_text(world.corpus.read_text())
    run = tmp_path / f"run{HOSTILE}.yaml"
    steps = {f"step{HOSTILE}": {"stage": "chunk", "input": [str(corpus)]}}
    for content, status in ((steps, 0), ({"passages": {"stage": HOSTILE}}, 2)):
        run.write_text(json.dumps({"output": f"out{HOSTILE}", "steps": content}))
        for plan in ({"plan": True}, {}):
            assert status_of("run", str(run), **plan) == status
            assert shown()


def test_a_model_that_speaks_to_the_terminal(world: World, tmp_path: Path, shown: Shown) -> None:
    model = tmp_path / f"model{HOSTILE}"
    model.mkdir()
    for config in ({"model_type": HOSTILE, "architectures": [HOSTILE]}, HOSTILE, [HOSTILE]):
        (model / "config.json").write_text(json.dumps(config))
        options = {"passages": world.made("passages"), "output": tmp_path / "out"}
        assert status_of("encode", encoder=model, **options) == 2
        retrieved = {
            "retrievals": world.made("retrievals"),
            "model_type": "rag_token",
            "output": tmp_path / "out",
        }
        assert status_of("generate", model=model, **retrieved) == 2
        assert shown()
        status_of("inspect", str(model))
        assert shown()
