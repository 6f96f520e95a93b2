"""Training a tiny bi-encoder: batches by hand, the same floats after an interruption, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import DPRContextEncoder, DPRQuestionEncoder

from rag_core.context import PassageText
from rag_core.encoders import load_passage_encoder, load_question_encoder
from rag_core.errors import UsageError
from rag_core.storage import LocalStorage
from rag_core.training.bi_encoder import BiEncoder
from rag_core.training.examples import TrainingQuestion
from rag_core.training.in_batch import in_batch_nll
from rag_core.training.retriever import RetrieverTrainer, RetrieverTraining, make_batch
from tests.rag_core.tiny_encoders import write_dpr_passage_encoder, write_dpr_question_encoder

WORDS = ["paris", "germany", "gold", "museums", "mount", "novel", "white", "river", "president", "chemical"]
A, B, C, D = (PassageText(title, "text") for title in "ABCD")


def question(
    number: int, *positives: PassageText, negatives: tuple[PassageText, ...] = ()
) -> TrainingQuestion:
    return TrainingQuestion(f"q{number}", f"question {number}", (), positives, negatives, number)


QUESTIONS = [
    TrainingQuestion(
        f"q{number}",
        f"what of {word} ?",
        (),
        (PassageText("", f"it is said of {word}"),),
        (PassageText("", f"nothing of {word} here"), PassageText("", f"the {word} is not")),
        number,
    )
    for number, word in enumerate(WORDS)
]
SETTINGS = RetrieverTraining(
    batch_questions=4, chunk_texts=3, epochs=3, learning_rate=1e-3, warmup_steps=2, seed=5
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("start")
    return str(write_dpr_question_encoder(folder / "q")), str(write_dpr_passage_encoder(folder / "p"))


def trainer(
    folders: tuple[str, str], settings: RetrieverTraining = SETTINGS
) -> tuple[BiEncoder, RetrieverTrainer]:
    bi_encoder = BiEncoder.load(*folders, device="cpu")
    return bi_encoder, RetrieverTrainer(bi_encoder, QUESTIONS, settings)


def test_a_batch_holds_each_passage_once_and_teaches_no_answer_as_wrong() -> None:
    questions = [
        question(0, A, negatives=(D,)),
        question(1, B, A, negatives=(C,)),  # A answers it too, and comes with question 0
        question(2, A, C),  # the positive of question 0; C comes as a hard negative of question 1
        question(3, D),
    ]
    batch = make_batch(questions, 1, np.random.default_rng(0))
    assert batch.questions == ["question 0", "question 1", "question 2", "question 3"]
    assert batch.passages == [A, B, D, C]
    assert batch.positives.tolist() == [0, 1, 0, 2]
    assert batch.excluded.nonzero().tolist() == [[1, 0], [2, 3]]
    assert make_batch(questions, 0, np.random.default_rng(0)).passages == [A, B, D]


def test_the_first_loss_is_the_objective_of_the_first_batch(folders: tuple[str, str]) -> None:
    bi_encoder, run = trainer(folders)
    bi_encoder.eval()  # without dropout
    batch = run._batch(0)
    with torch.no_grad():
        questions = bi_encoder.encode_questions(batch.questions)
        passages = bi_encoder.encode_passages(batch.passages)
    expected = in_batch_nll(questions, passages, batch.positives, batch.excluded).mean().item()
    assert run.step() == pytest.approx(expected, rel=1e-5)


def test_every_epoch_uses_full_batches_of_different_questions(folders: tuple[str, str]) -> None:
    _, run = trainer(folders)
    assert run.total_steps == 3 * (10 // 4)
    first = [*run._batch(0).questions, *run._batch(1).questions]
    assert len(set(first)) == 8
    assert [*run._batch(2).questions, *run._batch(3).questions] != first  # the next epoch


def test_the_learning_rate_rises_and_falls_linearly(folders: tuple[str, str]) -> None:
    _, run = trainer(folders)
    rates = [run._learning_rate(step) / SETTINGS.learning_rate for step in range(run.total_steps)]
    assert rates == pytest.approx([1 / 2, 1, 4 / 4, 3 / 4, 2 / 4, 1 / 4])


def test_an_interrupted_run_gives_the_floats_of_one_that_was_not(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    bi_encoder, run = trainer(folders)
    losses = [run.step() for _ in range(run.total_steps)]
    assert run.done
    checkpoint = str(tmp_path / "checkpoint.pt")
    _, before = trainer(folders)
    resumed_losses = [before.step() for _ in range(3)]
    before.save_checkpoint(LocalStorage(), checkpoint)
    torch.manual_seed(99)  # what another process drew
    resumed, after = trainer(folders)
    after.resume(LocalStorage(), checkpoint)
    assert after.steps_done == 3
    resumed_losses += [after.step() for _ in range(after.total_steps - 3)]
    assert resumed_losses == losses
    for found, expected in zip(resumed.parameters(), bi_encoder.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_it_learns(folders: tuple[str, str]) -> None:
    settings = RetrieverTraining(
        batch_questions=10, hard_negatives=2, epochs=40, learning_rate=2e-3, warmup_steps=5
    )
    _, run = trainer(folders, settings)
    losses = [run.step() for _ in range(run.total_steps)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_what_is_saved_is_loaded_by_transformers_and_here(folders: tuple[str, str], tmp_path: Path) -> None:
    bi_encoder, run = trainer(folders)
    run.step()
    bi_encoder.save(tmp_path)
    questions, passages = tmp_path / "question_encoder", tmp_path / "passage_encoder"
    DPRQuestionEncoder.from_pretrained(questions)
    DPRContextEncoder.from_pretrained(passages)
    encoder = load_question_encoder(str(questions), device="cpu")
    assert (
        encoder.passage_encoder_fingerprint == load_passage_encoder(str(passages), device="cpu").fingerprint
    )
    bi_encoder.eval()
    with torch.no_grad():
        expected = bi_encoder.encode_questions(["what of gold ?"]).numpy()
    found = encoder.encode(["what of gold ?"], batch_tokens=100)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.linalg.norm(expected)))


def test_what_cannot_be_trained_or_resumed_is_said(folders: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="10 training questions for batches of 64"):
        trainer(folders, RetrieverTraining())
    _, run = trainer(folders)
    with pytest.raises(FileNotFoundError):
        run.resume(LocalStorage(), str(tmp_path / "none.pt"))
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(UsageError, match=r"damaged\.pt: cannot be resumed from"):
        run.resume(LocalStorage(), str(tmp_path / "damaged.pt"))
