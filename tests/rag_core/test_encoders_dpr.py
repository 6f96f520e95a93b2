"""DPR towers against transformers' own models, with plain padding, in float32."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DPRContextEncoder, DPRQuestionEncoder, RagModel, RagSequenceForGeneration

from rag_core.encoders import PassageEncoder, load_passage_encoder, load_question_encoder
from rag_core.model_files import model_fingerprint
from tests.rag_core.tiny_encoders import (
    SENTENCES,
    edit_json,
    tiny_tokenizer,
    write_dpr_passage_encoder,
    write_dpr_question_encoder,
    write_rag_checkpoint,
)

# Rows padded to other lengths sum their attention in another order: some 1e-7 of a vector's norm per layer.
# The project's bound is 1e-5 of the norm; the vectors here have norms of about 6.
TOLERANCE = 1e-5

TITLES = ["Paris", "", "Gold", "the capital of Germany", ""]
TEXTS = [SENTENCES[0], SENTENCES[1], " ".join(SENTENCES * 20), "", "white whale"]


@pytest.fixture(scope="module")
def passage_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dpr_passage_encoder(tmp_path_factory.mktemp("dpr") / "passage")


@pytest.fixture(scope="module")
def question_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dpr_question_encoder(tmp_path_factory.mktemp("dpr") / "question")


@pytest.fixture(scope="module")
def passages(passage_folder: Path) -> PassageEncoder:
    return load_passage_encoder(str(passage_folder), device="cpu")


@torch.inference_mode()
def transformers_vectors(model: torch.nn.Module, *segments: list[str], max_length: int = 256) -> np.ndarray:
    """Oracle: one padded batch, as transformers' RAG example encodes a knowledge base."""
    inputs = tiny_tokenizer()(
        *segments, truncation=True, padding="longest", max_length=max_length, return_tensors="pt"
    )
    output = model.eval()(inputs["input_ids"], attention_mask=inputs["attention_mask"], return_dict=True)
    return output.pooler_output.numpy()


def assert_close(vectors: np.ndarray, expected: np.ndarray) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == expected.shape
    assert np.all(np.abs(vectors - expected) <= TOLERANCE * np.linalg.norm(expected, axis=1, keepdims=True))


@pytest.mark.parametrize("max_tokens", [256, 17])
def test_passages_equal_transformers(passage_folder: Path, max_tokens: int) -> None:
    encoder = load_passage_encoder(str(passage_folder), device="cpu", max_tokens=max_tokens)
    model = DPRContextEncoder.from_pretrained(passage_folder)
    expected = transformers_vectors(model, TITLES, TEXTS, max_length=max_tokens)
    assert_close(encoder.encode(TITLES, TEXTS, batch_tokens=600), expected)


def test_title_and_text_have_the_same_token_type(passages: PassageEncoder, passage_folder: Path) -> None:
    """DPR was trained with zeros throughout; the tokenizer's own token types would give other vectors."""
    inputs = tiny_tokenizer()(["Paris"], [SENTENCES[0]], return_tensors="pt")
    model = DPRContextEncoder.from_pretrained(passage_folder).eval()
    with torch.inference_mode():
        zeros = torch.zeros_like(inputs["input_ids"])
        same = model(**{**inputs, "token_type_ids": zeros}).pooler_output.numpy()
        different = model(**inputs).pooler_output.numpy()
    vectors = passages.encode(["Paris"], [SENTENCES[0]], batch_tokens=100)
    assert_close(vectors, same)
    assert np.abs(vectors - different).max() > 0.1


def test_questions_equal_transformers(question_folder: Path) -> None:
    questions = [*SENTENCES, "", "Who?", " ".join(SENTENCES * 20)]
    encoder = load_question_encoder(str(question_folder), device="cpu")
    expected = transformers_vectors(DPRQuestionEncoder.from_pretrained(question_folder), questions)
    assert_close(encoder.encode(questions, batch_tokens=64), expected)


def test_a_projection_is_applied(tmp_path: Path) -> None:
    folder = write_dpr_passage_encoder(tmp_path, projection_dim=12)
    encoder = load_passage_encoder(str(folder), device="cpu")
    assert encoder.dimension == 12
    expected = transformers_vectors(DPRContextEncoder.from_pretrained(folder), TITLES, TEXTS)
    assert_close(encoder.encode(TITLES, TEXTS, batch_tokens=600), expected)


@pytest.mark.parametrize("model_class", [RagSequenceForGeneration, RagModel])
def test_a_rag_checkpoint_gives_its_question_encoder(
    tmp_path: Path, model_class: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_rag_checkpoint(tmp_path, model_class)
    model = model_class.from_pretrained(folder)
    expected = transformers_vectors(getattr(model, "rag", model).question_encoder, list(SENTENCES))
    capfd.readouterr()
    encoder = load_question_encoder(str(folder), device="cpu")
    assert "UNEXPECTED" not in capfd.readouterr().err  # the generator's weights are no surprise
    assert_close(encoder.encode(SENTENCES, batch_tokens=64), expected)
    assert (encoder.kind, encoder.towers, encoder.fingerprint) == ("dpr", 2, model_fingerprint(folder))


@pytest.mark.parametrize("write", [write_dpr_question_encoder, write_rag_checkpoint])
def test_the_passage_encoder_a_trainer_recorded_is_known(tmp_path: Path, write: Any) -> None:
    folder = write(tmp_path)
    assert load_question_encoder(str(folder), device="cpu").passage_encoder_fingerprint is None
    edit_json(folder / "config.json", passage_encoder_fingerprint="ab12")
    assert load_question_encoder(str(folder), device="cpu").passage_encoder_fingerprint == "ab12"


def test_batch_size_changes_vectors_by_rounding_at_most(passages: PassageEncoder) -> None:
    titles, texts = TITLES * 20, [f"{text} {number}" for number, text in enumerate(TEXTS * 20)]
    one_by_one = passages.encode(titles, texts, batch_tokens=1)
    together = passages.encode(titles, texts, batch_tokens=10**9)
    assert_close(together, one_by_one)
    if passages.batch_invariant:
        assert together.tobytes() == one_by_one.tobytes()


class _LooksAround:
    """A model whose vectors depend on how many texts are in the batch."""

    is_padded = False
    dtype = torch.float32

    def __call__(self, rows: list[np.ndarray]) -> torch.Tensor:
        return torch.full((len(rows), 32), float(len(rows)))


def test_vectors_that_depend_on_their_batch_are_found_out(passages: PassageEncoder) -> None:
    around: Any = _LooksAround()
    assert not dataclasses.replace(passages.tower, model=around).batch_invariant
    around.is_padded = True
    assert not dataclasses.replace(passages.tower, model=around).batch_invariant


def test_the_same_call_gives_the_same_bytes(passages: PassageEncoder) -> None:
    first = passages.encode(TITLES, TEXTS, batch_tokens=300)
    assert first.tobytes() == passages.encode(TITLES, TEXTS, batch_tokens=300).tobytes()


def test_rows_come_back_in_the_order_given(passages: PassageEncoder) -> None:
    vectors = passages.encode(TITLES, TEXTS, batch_tokens=300)
    backwards = passages.encode(TITLES[::-1], TEXTS[::-1], batch_tokens=300)
    assert_close(backwards[::-1], vectors)
    gaps = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)[~np.eye(len(vectors), dtype=bool)]
    assert gaps.min() > 0.1  # no row could stand in for another


def test_no_passages_give_no_vectors(passages: PassageEncoder) -> None:
    assert passages.encode([], [], batch_tokens=100).shape == (0, 32)


def test_as_many_titles_as_texts_are_expected(passages: PassageEncoder) -> None:
    with pytest.raises(ValueError, match="2 titles but 1 texts"):
        passages.encode(["a", "b"], ["c"], batch_tokens=100)


def test_threads_may_share_an_encoder(passages: PassageEncoder) -> None:
    expected = passages.encode(TITLES, TEXTS, batch_tokens=300)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: passages.encode(TITLES, TEXTS, batch_tokens=300), range(8)))
    assert all(np.array_equal(result, expected) for result in results)


def test_bfloat16_computes_in_bfloat16_and_returns_float32(
    passage_folder: Path, passages: PassageEncoder
) -> None:
    encoder = load_passage_encoder(str(passage_folder), device="cpu", dtype="bfloat16")
    assert encoder.dtype == encoder.describe()["dtype"] == "bfloat16"
    vectors = encoder.encode(TITLES, TEXTS, batch_tokens=300)
    exact = passages.encode(TITLES, TEXTS, batch_tokens=300)
    assert vectors.dtype == np.float32
    cosines = (vectors * exact).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.99  # 8 bits of precision through two layers with wide weights
    assert not np.allclose(vectors, exact, atol=1e-5)


def test_vectors_that_are_not_finite_are_returned(passage_folder: Path) -> None:
    encoder = load_passage_encoder(str(passage_folder), device="cpu")
    whale = tiny_tokenizer().convert_tokens_to_ids("whale")
    encoder.tower.model._embeddings.word_embeddings.weight[whale] = float("nan")  # type: ignore[attr-defined]
    finite = np.isfinite(encoder.encode(TITLES, TEXTS, batch_tokens=10**6)).all(axis=1)
    assert finite.tolist() == [True, True, False, True, False]  # where a text has a whale


class _SmallDevice:
    """A model on a device that holds `rows` rows at once."""

    def __init__(self, model: Any, rows: int) -> None:
        self.model, self.rows, self.failures = model, rows, 0

    def __call__(self, rows: list[np.ndarray]) -> torch.Tensor:
        if len(rows) > self.rows:
            self.failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model(rows)


def test_out_of_memory_halves_the_batch(passages: PassageEncoder) -> None:
    device: Any = _SmallDevice(passages.tower.model, rows=2)
    tower = dataclasses.replace(passages.tower, model=device)
    expected = passages.encode(TITLES, TEXTS, batch_tokens=1)
    assert_close(tower.encode(tower.tokenize(TITLES, TEXTS), batch_tokens=10**6), expected)
    assert device.failures == 2  # 5 rows as 2 and 3, the 3 as 1 and 2


def test_out_of_memory_with_one_row_is_an_error(passages: PassageEncoder) -> None:
    device: Any = _SmallDevice(passages.tower.model, rows=0)
    tower = dataclasses.replace(passages.tower, model=device)
    with pytest.raises(torch.OutOfMemoryError):
        tower.encode(tower.tokenize(TITLES, TEXTS), batch_tokens=10**6)


def test_a_description_holds_what_determines_the_vectors(passage_folder: Path, question_folder: Path) -> None:
    passages = load_passage_encoder(str(passage_folder), device="cpu", max_tokens=1000)
    assert passages.describe() == {
        "kind": "dpr",
        "fingerprint": model_fingerprint(passage_folder),
        "dimension": 32,
        "towers": 2,
        "max_tokens": 512,  # the model has no more positions
        "dtype": "float32",
        "prompt": "",
        "passage_template": None,
    }
    questions = load_question_encoder(str(question_folder), device="cpu", max_tokens=64)
    assert questions.describe() == {
        "kind": "dpr",
        "fingerprint": model_fingerprint(question_folder),
        "dimension": 32,
        "towers": 2,
        "max_tokens": 64,
        "dtype": "float32",
        "prompt": "",
        "passage_encoder_fingerprint": None,
    }
