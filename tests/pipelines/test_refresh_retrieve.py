"""`retrieve --question_vectors`: a question is encoded once, whatever is asked beside it and of which index."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rag_core.encoders import load_question_encoder
from tests.pipelines.commands import manifest_of, rag_beam, read_table
from tests.pipelines.conftest import PLACES, World, write_lines
from tests.rag_core.tiny_encoders import write_dpr_question_encoder


def ask(folder: Path, places: list[str]) -> Path:
    """A question file."""
    path = folder / f"{len(places)}.jsonl"
    write_lines(path, [{"question": f"Who lives in {place}, and since when?"} for place in places])
    return path


def retrieve(world: World, questions: Path, output: Path, **options: Any) -> pa.Table:
    rag_beam(
        "retrieve",
        index=world.made("index"),
        questions=questions,
        n_docs=4,
        num_threads=1,
        output=output,
        **{"encoder": world.question_encoder} | options,
    )
    return read_table(output)


def test_questions_are_encoded_once(world: World, tmp_path: Path) -> None:
    kept = {"question_vectors": tmp_path / "vectors"}
    few, many = ask(tmp_path, PLACES[:6]), ask(tmp_path, PLACES[:2] + PLACES[4:])
    retrieve(world, few, tmp_path / "few", **kept)
    found = retrieve(world, many, tmp_path / "many", **kept)
    fresh = retrieve(world, many, tmp_path / "fresh")
    if load_question_encoder(str(world.question_encoder)).batch_invariant:
        assert found.equals(fresh)
    else:  # a matrix library that sums by what else is in the batch
        for one, other in zip(found.to_pylist(), fresh.to_pylist(), strict=True):
            scores = [[passage.pop("score") for passage in row["passages"]] for row in (one, other)]
            np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
            assert one == other
    assert vectors_reused(tmp_path, "many") == 4

    # the same questions of another output: nothing is encoded; another encoder takes nothing
    assert retrieve(world, many, tmp_path / "again", **kept).equals(found)
    assert len(list((tmp_path / "vectors").iterdir())) == 2
    other = write_dpr_question_encoder(tmp_path / "other_encoder", seed=77)
    retrieve(world, many, tmp_path / "other", encoder=other, **kept)
    assert vectors_reused(tmp_path, "other") == 0


def vectors_reused(folder: Path, output: str) -> int:
    """How many questions of a retrieval's were not encoded."""
    name = manifest_of(folder / output).details["question_vectors"][:16]
    return manifest_of(folder / "vectors" / name).counts.extra["reused"]
