"""A small world for the stages: a corpus, questions, claims and tiny random models, made once."""

import fcntl
import gc
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipelines.beam_findings import remembered
from tests.pipelines.commands import rag_beam

PLACES = [
    "Aranth",
    "Belmor",
    "Corvane",
    "Dunwick",
    "Eastholm",
    "Farrow",
    "Glenmar",
    "Hollin",
    "Irvale",
    "Jorvik",
]
PASSAGE_WORDS = 20


@dataclass(frozen=True)
class World:
    """Paths of what the stages read, and of what each has made of it."""

    folder: Path
    corpus: Path
    questions: Path
    claims: Path
    passage_encoder: Path
    question_encoder: Path
    generator: Path

    def made(self, name: str) -> str:
        """The output folder of a step."""
        return str(self.folder / "made" / name)


def document_text(number: int) -> str:
    """Some 45 words about a place, different from document to document."""
    place = PLACES[number % len(PLACES)]
    facts = [
        f"{place} lies on the river {place[::-1].title()} in district {number}.",
        f"Its market was founded in {1200 + 7 * number} by the weavers of {PLACES[(number + 3) % len(PLACES)]}.",
        f"The bridge has {number % 9 + 2} arches and a toll house of {number % 4 + 1} floors.",
        f"About {1000 + 31 * number} people live there today.",
    ]
    return " ".join(facts)


@pytest.fixture(scope="package", autouse=True)
def _collect_little() -> Iterator[None]:
    """Each run ends with a garbage collection, which would go through every module that the tests loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="package", autouse=True)
def _inspect_once() -> Iterator[None]:
    """Beam inspects and parses anew for every run, which would be most of what a small one takes."""
    with remembered():
        yield


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """Processes that a test starts heed SIGINT, which a shell has its jobs in the background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills, once for all processes that share the tests; the others wait for it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each process has its own below it
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Inputs made here; passages, embeddings, index and retrievals made by the stages themselves."""
    return world_in(made_once(tmp_path_factory, "world", lambda folder: make_world(world_in(folder))))


def world_in(folder: Path) -> World:
    """Where everything is."""
    return World(
        folder=folder,
        corpus=folder / "corpus.jsonl",
        questions=folder / "questions.jsonl",
        claims=folder / "claims.jsonl",
        passage_encoder=folder / "passage_encoder",
        question_encoder=folder / "question_encoder",
        generator=folder / "generator",
    )


def make_world(world: World) -> None:
    """Writes corpus, questions, claims and models, and runs the stages up to the retrievals."""
    # late: torch and transformers take long, and who only gives out tests does not need them
    from tests.rag_core.tiny_encoders import write_dpr_passage_encoder, write_dpr_question_encoder
    from tests.rag_core.tiny_generators import save_rag_checkpoint

    write_dpr_passage_encoder(world.passage_encoder)
    write_dpr_question_encoder(world.question_encoder)
    save_rag_checkpoint(world.generator)
    write_lines(
        world.corpus,
        [
            {"id": f"d{number}", "title": PLACES[number % len(PLACES)], "text": document_text(number)}
            for number in range(40)
        ],
    )
    write_lines(
        world.questions,
        [
            {
                "question_id": f"q{number}",
                "question": f"When was the market of {place} founded?",
                "answers": [str(number)],
            }
            for number, place in enumerate(PLACES)
        ],
    )
    write_lines(
        world.claims,
        [
            {"id": number, "claim": f"{place} has a bridge.", "label": "SUPPORTS"}
            for number, place in enumerate(PLACES[:4])
        ],
    )
    rag_beam("chunk", input=world.corpus, passage_words=PASSAGE_WORDS, output=world.made("passages"))
    rag_beam(
        "encode",
        passages=world.made("passages"),
        encoder=world.passage_encoder,
        unit_rows=30,
        num_threads=1,
        output=world.made("embeddings"),
    )
    rag_beam(
        "index",
        embeddings=world.made("embeddings"),
        passages=world.made("passages"),
        shard_rows=50,
        output=world.made("index"),
    )
    for name, questions in (("retrievals", world.questions), ("claim_retrievals", world.claims)):
        rag_beam(
            "retrieve",
            index=world.made("index"),
            questions=questions,
            encoder=world.question_encoder,
            n_docs=4,
            num_threads=1,
            output=world.made(name),
        )


@pytest.fixture(scope="session")
def whole_run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output of each stage, of a corpus and questions among which some are bad."""
    return made_once(tmp_path_factory, "whole_run", lambda folder: make_whole_run(world, folder)) / "out"


def make_whole_run(world: World, folder: Path) -> None:
    """Runs every stage, each into a folder of its own below `out`."""
    out = folder / "out"
    (folder / "corpus.jsonl").write_text(
        world.corpus.read_text()
        + "no json\n"
        + json.dumps({"id": "d3", "text": "the second of its id"})
        + "\n"
    )
    (folder / "questions.jsonl").write_text(world.questions.read_text() + '{"question_id": "q10"}\n')
    rag_beam("chunk", input=folder / "corpus.jsonl", passage_words=PASSAGE_WORDS, output=out / "passages")
    encoder = {"encoder": world.passage_encoder, "num_threads": 1}
    rag_beam("encode", passages=out / "passages", **encoder, output=out / "embeddings")
    made = {"embeddings": out / "embeddings", "passages": out / "passages"}
    rag_beam("index", **made, shard_rows=70, output=out / "index")
    search = {"index": out / "index", "encoder": world.question_encoder, "n_docs": 4, "num_threads": 1}
    rag_beam("retrieve", questions=folder / "questions.jsonl", **search, output=out / "retrievals")
    rag_beam("retrieve", questions=world.claims, **search, output=out / "claim_retrievals")
    answering = {"retrievals": out / "retrievals", "model": world.generator, "max_new_tokens": 3}
    for kind in ("rag_sequence", "rag_token"):
        more = {"token_posteriors": True} if kind == "rag_token" else {}
        rag_beam("generate", **answering, model_type=kind, **more, output=out / f"answers_{kind}")
    rag_beam(
        "classify",
        retrievals=out / "claim_retrievals",
        model=world.generator,
        label_set=["SUPPORTS=yes", "REFUTES=no"],
        output=out / "labels",
    )
    rag_beam(
        "evaluate",
        predictions=out / "answers_rag_token",
        references=folder / "questions.jsonl",
        exports="kilt",
        output=out / "scores",
    )


def write_lines(path: Path, rows: list[dict]) -> None:
    """Writes JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
