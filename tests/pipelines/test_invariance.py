"""The same rows with any number of workers, part size, unit size and batch size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipelines.commands import manifest_of, rag_beam, read_table
from tests.pipelines.conftest import PASSAGE_WORDS, World


@pytest.fixture(scope="module")
def by_two_workers(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes what a stage made in `world` again with two worker processes, of one thread each as there."""
    folder = tmp_path_factory.mktemp("two_workers")
    steps: dict[str, tuple[str, dict[str, Any]]] = {
        "passages": ("chunk", {"input": world.corpus, "passage_words": PASSAGE_WORDS}),
        "embeddings": (
            "encode",
            {
                "passages": world.made("passages"),
                "encoder": world.passage_encoder,
                "unit_rows": 30,
                "num_threads": 1,
            },
        ),
        "index": (
            "index",
            {
                "embeddings": world.made("embeddings"),
                "passages": world.made("passages"),
                "shard_rows": 50,
            },
        ),
        "retrievals": (
            "retrieve",
            {
                "index": world.made("index"),
                "questions": world.questions,
                "encoder": world.question_encoder,
                "n_docs": 4,
                "num_threads": 1,
            },
        ),
    }

    def made(name: str) -> Path:
        stage, options = steps[name]
        rag_beam(stage, **options, output=folder / name, direct_num_workers=2)
        return folder / name

    return made


# workers that load a model are slow to start: those of retrieve stand for those of encode
@pytest.mark.parametrize(
    "name", ["passages", "index", "retrievals", pytest.param("embeddings", marks=pytest.mark.slow)]
)
def test_one_worker_and_two_give_equal_tables(
    world: World, by_two_workers: Callable[[str], Path], name: str
) -> None:
    """Parts are equal where their SHA-256 is."""
    assert manifest_of(by_two_workers(name)).parts == manifest_of(world.made(name)).parts


@pytest.mark.parametrize("rows_per_part", [1, 7, 1_000])
def test_part_sizes_change_nothing_but_the_parts(world: World, tmp_path: Path, rows_per_part: int) -> None:
    rag_beam(
        "chunk",
        input=world.corpus,
        passage_words=PASSAGE_WORDS,
        rows_per_part=rows_per_part,
        output=tmp_path / "passages",
    )
    whole = read_table(world.made("passages"))
    assert read_table(tmp_path / "passages").equals(whole)
    rows = [part.rows for part in manifest_of(tmp_path / "passages").parts]
    assert max(rows) == min(rows_per_part, whole.num_rows)
    if rows_per_part == 7:  # parts of any size are read as one corpus
        rag_beam(
            "encode",
            passages=tmp_path / "passages",
            encoder=world.passage_encoder,
            output=tmp_path / "embeddings",
        )
        assert [part.rows for part in manifest_of(tmp_path / "embeddings").parts] == rows
        assert_same_vectors(tmp_path / "embeddings", world.made("embeddings"))


def encode_all(world: World, output: Path, **options: int) -> Path:
    chosen = {"passages": world.made("passages"), "encoder": world.passage_encoder, "vector_dtype": "float32"}
    rag_beam("encode", **chosen, **options, output=output)
    return output


@pytest.fixture(scope="module")
def embeddings(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode_all(world, tmp_path_factory.mktemp("embeddings") / "out")


@pytest.mark.parametrize("options", [{"batch_tokens": 64}, {"batch_tokens": 100_000}, {"unit_rows": 11}])
def test_batches_and_units_change_vectors_by_rounding_alone(
    world: World, embeddings: Path, tmp_path: Path, options: dict[str, int]
) -> None:
    assert_same_vectors(embeddings, encode_all(world, tmp_path / "other", **options), tolerance=1e-5)


@pytest.mark.parametrize(
    "options", [{"question_block": 3}, {"rows_per_part": 2}, {"unit_rows": 3}, {"memory_bytes": 2**21}]
)
def test_retrievals_do_not_depend_on_blocks_or_memory(
    world: World, tmp_path: Path, options: dict[str, int]
) -> None:
    rag_beam(
        "retrieve",
        index=world.made("index"),
        questions=world.questions,
        encoder=world.question_encoder,
        n_docs=4,
        output=tmp_path / "retrievals",
        **options,
    )
    one, other = (
        read_table(world.made("retrievals")).to_pylist(),
        read_table(tmp_path / "retrievals").to_pylist(),
    )
    for left, right in zip(one, other, strict=True):
        # another batch may move a question's vector by rounding, and its scores with it
        scores = [[passage.pop("score") for passage in row["passages"]] for row in (left, right)]
        np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
        assert left == right


def answer_all(world: World, output: Path, **options: int) -> list[dict[str, Any]]:
    chosen = {
        "retrievals": world.made("retrievals"),
        "model": world.generator,
        "model_type": "rag_sequence",
        "max_new_tokens": 5,
        "num_beams": 2,
    }
    rag_beam("generate", **chosen, **options, output=output)
    return read_table(output).to_pylist()


@pytest.fixture(scope="module")
def answers(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return answer_all(world, tmp_path_factory.mktemp("answers") / "out")


@pytest.mark.parametrize("options", [{"batch_tokens": 40}, {"unit_rows": 3}, {"rows_per_part": 4}])
def test_answers_do_not_depend_on_batches(
    world: World, answers: list[dict[str, Any]], tmp_path: Path, options: dict[str, int]
) -> None:
    one, other = answers, answer_all(world, tmp_path / "other", **options)
    assert [row["answer"] for row in one] == [row["answer"] for row in other]
    np.testing.assert_allclose(
        [row["log_prob"] for row in one], [row["log_prob"] for row in other], atol=1e-4
    )


def assert_same_vectors(one: Path | str, other: Path | str, tolerance: float = 2**-9) -> None:
    """Equal within `tolerance` of the vectors' norms: by default what half precision tells apart."""
    left, right = (
        np.array(read_table(folder).column("vector").to_pylist(), dtype=np.float32) for folder in (one, other)
    )
    distances = np.linalg.norm(left - right, axis=1)
    assert (distances <= tolerance * np.linalg.norm(left, axis=1)).all()
