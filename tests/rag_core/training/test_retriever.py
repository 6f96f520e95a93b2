"""Training a tiny bi-encoder: batches by hand, the same floats after an interruption, and that it learns."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedModel,
    RagModel,
    RagSequenceForGeneration,
)

from rag_core.context import PassageText
from rag_core.encoders import load_passage_encoder, load_question_encoder
from rag_core.errors import UsageError
from rag_core.storage import LocalStorage
from rag_core.training.bi_encoder import BiEncoder, encode_by_length
from rag_core.training.examples import TrainingQuestion
from rag_core.training.in_batch import in_batch_nll
from rag_core.training.replicas import Replicas
from rag_core.training.retriever import RetrieverLearner, RetrieverTraining, make_batch
from rag_core.training.run import TrainingRun, TrainingSettings
from tests.rag_core.tiny_encoders import (
    write_dpr_passage_encoder,
    write_dpr_question_encoder,
    write_rag_checkpoint,
    write_sentence_transformer,
)

WORDS = ["paris", "germany", "gold", "museums", "mount", "novel", "white", "river", "president", "chemical"]
A, B, C, D, E = (PassageText(title, "text") for title in "ABCDE")


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
STEPS = RetrieverTraining(batch_questions=4, chunk_texts=3, epochs=3, seed=5)
SETTINGS = TrainingSettings(learning_rate=1e-3, warmup_steps=2, validate_every=2, seed=5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("start")
    return str(write_dpr_question_encoder(folder / "q")), str(write_dpr_passage_encoder(folder / "p"))


def learner_of(folders: tuple[str, str], steps: RetrieverTraining = STEPS) -> RetrieverLearner:
    return RetrieverLearner(BiEncoder.load(*folders, device="cpu"), QUESTIONS, steps, QUESTIONS[:3])


def run_of(learner: RetrieverLearner, settings: TrainingSettings = SETTINGS) -> TrainingRun:
    return TrainingRun(learner, settings, ("average_rank", "lower"))


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
    learner = learner_of(folders, dataclasses.replace(STEPS, score_scale=0.5))
    bi_encoder = learner._bi_encoder.eval()  # without dropout
    batch = learner.batch(0)
    with torch.no_grad():
        questions = bi_encoder.encode_questions(batch.questions)
        passages = bi_encoder.encode_passages(batch.passages)
    expected = in_batch_nll(0.5 * questions, passages, batch.positives, batch.excluded).mean().item()
    assert learner.backward(0)["loss"] == pytest.approx(expected, rel=1e-5)


def test_every_epoch_uses_full_batches_of_different_questions(folders: tuple[str, str]) -> None:
    learner = learner_of(folders)
    assert learner.total_steps == 3 * (10 // 4)
    assert learner_of(folders, dataclasses.replace(STEPS, max_steps=5)).total_steps == 5
    first = [*learner.batch(0).questions, *learner.batch(1).questions]
    assert len(set(first)) == 8
    assert [*learner.batch(2).questions, *learner.batch(3).questions] != first  # the next epoch


def test_an_interrupted_run_gives_the_floats_of_one_that_was_not(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    learner = learner_of(folders)
    whole = run_of(learner)
    losses = [whole.step()["loss"] for _ in range(learner.total_steps)]
    assert whole.done
    checkpoint = str(tmp_path / "checkpoint.pt")
    before = run_of(learner_of(folders))
    resumed_losses = [before.step()["loss"] for _ in range(3)]
    before.save_checkpoint(LocalStorage(), checkpoint)
    torch.manual_seed(99)  # what another process drew
    rest = learner_of(folders)
    after = run_of(rest)
    after.resume(LocalStorage(), checkpoint)
    resumed_losses += [after.step()["loss"] for _ in range(3)]
    assert resumed_losses == losses
    assert [row.scores for row in after.history] == [row.scores for row in whole.history]
    for found, expected in zip(rest.module.parameters(), learner.module.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_questions_about_a_document_stand_in_a_batch_together(folders: tuple[str, str]) -> None:
    """Their passages are each other's negatives."""
    passages = [[PassageText(title, f"text {number}") for number in range(2)] for title in "ABCDEF"]
    questions = [question(0, passage) for of_document in passages for passage in of_document]
    steps = RetrieverTraining(batch_questions=4, hard_negatives=0, epochs=2, questions_per_title=2)
    learner = RetrieverLearner(BiEncoder.load(*folders, device="cpu"), questions, steps)
    for step in range(learner.total_steps):
        found = learner.batch(step).passages
        assert sorted(passage.title for passage in found) == sorted(
            2 * [*{passage.title for passage in found}]
        )
        assert len({passage.title for passage in found}) == 2


def test_it_learns(folders: tuple[str, str]) -> None:
    learner = learner_of(folders, RetrieverTraining(batch_questions=10, hard_negatives=2, epochs=40))
    run = run_of(learner, TrainingSettings(learning_rate=2e-3, warmup_steps=5))
    losses = [run.step()["loss"] for _ in range(learner.total_steps)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert run.history[-1].scores["average_rank"] < run.history[0].scores["average_rank"]


def test_validation_ranks_each_positive_among_all_passages_held_out(folders: tuple[str, str]) -> None:
    held_out = [
        question(0, A, negatives=(B, C)),
        question(1, B, D),  # D answers it too: never in the way
        question(2, D, negatives=(E,)),
    ]
    learner = RetrieverLearner(BiEncoder.load(*folders, device="cpu"), QUESTIONS, STEPS, held_out)
    vectors = {A: 5.0, B: 4.0, C: 3.0, D: 6.0, E: 2.0}
    learner._bi_encoder.encode_questions = lambda texts: torch.ones(len(texts), 1)  # type: ignore[method-assign]
    learner._bi_encoder.encode_passages = lambda passages: torch.tensor(  # type: ignore[method-assign]
        [[vectors[passage]] for passage in passages]
    )
    # ranks: A behind D; B behind A alone, D left away; D first
    assert learner.validate() == pytest.approx(
        {"average_rank": 2 / 3, "recall@1": 1 / 3, "recall@5": 1.0, "recall@20": 1.0}
    )


def test_validation_is_without_dropout_and_leaves_training_with_it(folders: tuple[str, str]) -> None:
    learner = learner_of(folders)
    assert learner.validate() == learner.validate()
    assert learner.module.training
    assert RetrieverLearner(learner._bi_encoder, QUESTIONS, STEPS).validate() == {}


def test_two_towers_that_are_saved_are_loaded_by_transformers_and_here(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    learner = learner_of(folders)
    run_of(learner).step()
    learner._bi_encoder.save(tmp_path)
    questions, passages = tmp_path / "question_encoder", tmp_path / "passage_encoder"
    DPRQuestionEncoder.from_pretrained(questions)
    DPRContextEncoder.from_pretrained(passages)
    encoder = load_question_encoder(str(questions), device="cpu")
    assert (
        encoder.passage_encoder_fingerprint == load_passage_encoder(str(passages), device="cpu").fingerprint
    )
    learner._bi_encoder.eval()
    with torch.no_grad():
        expected = learner._bi_encoder.encode_questions(["what of gold ?"]).numpy()
    found = encoder.encode(["what of gold ?"], batch_tokens=100)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.linalg.norm(expected)))


@pytest.mark.parametrize("transformer_path", ["", "0_Transformer"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_one_tower_is_trained_and_saved_as_it_encodes(
    transformer_path: str, pooling: str, tmp_path: Path
) -> None:
    start = write_sentence_transformer(
        tmp_path / "start",
        pooling={"pooling_mode": pooling},
        prompts={"query": "question: ", "document": "passage: "},
        dense_dimension=16,
        transformer_path=transformer_path,
    )
    passages = [PassageText("Gold", "it is an element"), PassageText("", "a white whale")]
    one_tower = BiEncoder.load_one_tower(str(start), device="cpu", passage_template="{title}: {text}")
    learner = RetrieverLearner(one_tower, QUESTIONS, dataclasses.replace(STEPS, score_scale=20))
    untrained = load_passage_encoder(str(start), device="cpu", passage_template="{title}: {text}")
    titles, texts = [p.title for p in passages], [p.text for p in passages]
    before = untrained.encode(titles, texts, batch_tokens=100)
    one_tower.eval()
    np.testing.assert_allclose(one_tower.encode_passages(passages).detach().numpy(), before, atol=2e-6)
    one_tower.train()
    run_of(learner).step()
    one_tower.save(tmp_path)
    saved = tmp_path / "encoder"
    encoder = load_passage_encoder(str(saved), device="cpu", passage_template="{title}: {text}")
    one_tower.eval()
    expected = one_tower.encode_passages(passages).detach().numpy()
    found = encoder.encode(titles, texts, batch_tokens=100)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.abs(found - before).max() > 1e-4  # training has changed it
    asked = one_tower.encode_questions(["what of gold ?"]).detach().numpy()
    question_encoder = load_question_encoder(str(saved), device="cpu")
    np.testing.assert_allclose(
        question_encoder.encode(["what of gold ?"], batch_tokens=100), asked, atol=2e-6
    )
    assert question_encoder.passage_encoder_fingerprint == encoder.fingerprint
    peer = pytest.importorskip("sentence_transformers").SentenceTransformer(str(saved), device="cpu")
    np.testing.assert_allclose(peer.encode("question: what of gold ?"), asked[0], atol=2e-6)


@pytest.mark.parametrize("model_class", [RagSequenceForGeneration, RagModel])
def test_the_question_encoder_of_a_rag_checkpoint_is_trained_and_saved_on_its_own(
    folders: tuple[str, str], tmp_path: Path, model_class: type[PreTrainedModel]
) -> None:
    checkpoint = str(write_rag_checkpoint(tmp_path / "rag", model_class))
    two_towers = BiEncoder.load(checkpoint, folders[1], device="cpu")
    before = load_question_encoder(checkpoint, device="cpu").encode(["what of gold ?"], batch_tokens=100)
    found = two_towers.eval().encode_questions(["what of gold ?"]).detach().numpy()
    np.testing.assert_allclose(found, before, atol=2e-6)
    run_of(RetrieverLearner(two_towers.train(), QUESTIONS, STEPS)).step()
    two_towers.save(tmp_path)
    expected = two_towers.eval().encode_questions(["what of gold ?"]).detach().numpy()
    saved = load_question_encoder(str(tmp_path / "question_encoder"), device="cpu")
    found = saved.encode(["what of gold ?"], batch_tokens=100)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.abs(found - before).max() > 1e-4  # training has changed it


def test_bfloat16_computes_forward_passes_and_keeps_float32(folders: tuple[str, str]) -> None:
    in_float32 = BiEncoder.load(*folders, device="cpu")
    mixed = BiEncoder.load(*folders, device="cpu", precision="bfloat16")
    texts = [question.question for question in QUESTIONS]
    expected, found = in_float32.eval().encode_questions(texts), mixed.eval().encode_questions(texts)
    assert found.dtype is torch.float32
    difference = ((found - expected).norm() / expected.norm()).item()
    assert 1e-4 < difference < 5e-2
    learner = RetrieverLearner(mixed.train(), QUESTIONS, STEPS)
    run_of(learner).step()
    assert {parameter.dtype for parameter in mixed.parameters()} == {torch.float32}


def test_texts_of_like_length_are_encoded_together_and_come_back_in_their_order() -> None:
    rows = [np.full(length, length) for length in np.random.default_rng(0).integers(1, 90, 150)]
    padded, unpadded = [], []

    def encode(rows: Sequence[np.ndarray]) -> torch.Tensor:
        lengths = [len(row) for row in rows]
        padded.append(max(lengths) * len(rows))
        unpadded.append(sum(lengths))
        return torch.tensor([[float(row[0])] for row in rows], requires_grad=True)

    vectors = encode_by_length(encode, rows)
    assert vectors.squeeze(1).tolist() == [float(len(row)) for row in rows]
    assert len(padded) == 3 and sum(padded) < 1.5 * sum(unpadded) < 0.8 * 150 * 89
    assert vectors.requires_grad


def test_attention_is_plain_where_its_fused_backward_pass_is_slow(folders: tuple[str, str]) -> None:
    for precision, expected in (("float32", "sdpa"), ("bfloat16", "eager")):
        model = BiEncoder.load(*folders, device="cpu", precision=precision).passage_model
        layers = [module for module in model.modules() if hasattr(module, "config")]
        assert {module.config._attn_implementation for module in layers} == {expected}


def test_what_cannot_be_trained_is_said(folders: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="10 training questions for batches of 64"):
        learner_of(folders, RetrieverTraining())
    with pytest.raises(UsageError, match=r"--batch_questions 4: 5 processes share a batch"):
        RetrieverLearner(BiEncoder.load(*folders, device="cpu"), QUESTIONS, STEPS, replicas=Replicas(0, 5))
    with pytest.raises(UsageError, match=r"holds no modules\.json.*--question_encoder"):
        BiEncoder.load_one_tower(folders[0], device="cpu")
