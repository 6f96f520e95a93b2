"""The same rows with any number of workers, part size, unit size and batch size."""

from pathlib import Path

import numpy as np
import pytest

from tests.pipelines.commands import manifest_of, rag_beam, read_table
from tests.pipelines.conftest import PASSAGE_WORDS, World


@pytest.fixture(scope="module")
def by_two_workers(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole main job with two worker processes, of one thread each as in `world`."""
    folder = tmp_path_factory.mktemp("two_workers")
    two = {"direct_num_workers": 2, "num_threads": 1}
    rag_beam(
        "chunk",
        input=world.corpus,
        passage_words=PASSAGE_WORDS,
        output=folder / "passages",
        direct_num_workers=2,
    )
    rag_beam(
        "encode",
        passages=folder / "passages",
        encoder=world.passage_encoder,
        unit_rows=30,
        output=folder / "embeddings",
        **two,
    )
    rag_beam(
        "index",
        embeddings=folder / "embeddings",
        passages=folder / "passages",
        shard_rows=50,
        output=folder / "index",
        direct_num_workers=2,
    )
    rag_beam(
        "retrieve",
        index=folder / "index",
        questions=world.questions,
        encoder=world.question_encoder,
        n_docs=4,
        output=folder / "retrievals",
        **two,
    )
    return folder


@pytest.mark.parametrize("name", ["passages", "embeddings", "retrievals"])
def test_one_worker_and_two_give_equal_tables(world: World, by_two_workers: Path, name: str) -> None:
    one, two = read_table(world.made(name)), read_table(by_two_workers / name)
    assert one.equals(two)
    assert manifest_of(world.made(name)).parts == manifest_of(by_two_workers / name).parts


def test_one_worker_and_two_give_equal_indexes(world: World, by_two_workers: Path) -> None:
    assert manifest_of(world.made("index")).parts == manifest_of(by_two_workers / "index").parts


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


@pytest.mark.parametrize("options", [{"batch_tokens": 64}, {"batch_tokens": 100_000}, {"unit_rows": 11}])
def test_batches_and_units_change_vectors_by_rounding_alone(
    world: World, tmp_path: Path, options: dict[str, int]
) -> None:
    common = {"passages": world.made("passages"), "encoder": world.passage_encoder, "vector_dtype": "float32"}
    rag_beam("encode", output=tmp_path / "one", **common)
    rag_beam("encode", output=tmp_path / "other", **common, **options)
    assert_same_vectors(tmp_path / "one", tmp_path / "other", tolerance=1e-5)


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


@pytest.mark.parametrize("options", [{"batch_tokens": 40}, {"unit_rows": 3}, {"rows_per_part": 4}])
def test_answers_do_not_depend_on_batches(world: World, tmp_path: Path, options: dict[str, int]) -> None:
    common = {
        "retrievals": world.made("retrievals"),
        "model": world.generator,
        "model_type": "rag_sequence",
        "max_new_tokens": 5,
        "num_beams": 2,
    }
    rag_beam("generate", output=tmp_path / "one", **common)
    rag_beam("generate", output=tmp_path / "other", **common, **options)
    one, other = read_table(tmp_path / "one").to_pylist(), read_table(tmp_path / "other").to_pylist()
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
