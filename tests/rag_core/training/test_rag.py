"""RAG's end-to-end learner: its loss and gradients, its documents, exact resume, what it saves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import RagSequenceForGeneration, RagTokenForGeneration

from rag_core.classification import LabelSet
from rag_core.context import PassageText
from rag_core.errors import UsageError
from rag_core.generator import load_generator
from rag_core.mips.index import MipsIndex
from rag_core.model_files import model_fingerprint
from rag_core.storage import LocalStorage
from rag_core.training.documents import (
    Documents,
    GivenDocuments,
    NoDocuments,
    RagQuestion,
    RetrievalWatch,
    SearchedDocuments,
    collapse_warning,
)
from rag_core.training.optimizers import OptimizerName
from rag_core.training.rag import RagLearner, RagTraining
from rag_core.training.rag_loss import NO_SCORE
from rag_core.training.rag_model import RagModel
from rag_core.training.run import TrainingRun, TrainingSettings
from tests.rag_core.mips.small_index import open_index, write_index
from tests.rag_core.tiny_encoders import write_dpr_question_encoder, write_sentence_transformer
from tests.rag_core.tiny_generators import save_rag_checkpoint, tiny_t5

ANSWERS = ("Paris", "Berlin", "Gold", "79")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("rag")
    save_rag_checkpoint(folder)
    return str(folder)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> MipsIndex:
    vectors = np.random.default_rng(1).standard_normal((12, 16)).astype(np.float32)
    folder = str(tmp_path_factory.mktemp("index"))
    return open_index(folder, write_index(folder, [f"p{row:02}" for row in range(12)], vectors))


def load(checkpoint: str, double: bool = False, question_encoder: bool = True) -> RagModel:
    model = RagModel.load(checkpoint, checkpoint if question_encoder else None, device="cpu")
    if double:
        model.module.double()
    return model


def questions(count: int = 4) -> list[RagQuestion]:
    return [
        RagQuestion(f"q{number}", f"what is the capital {number} ?", (ANSWERS[number % 4],))
        for number in range(count)
    ]


def learner(model: RagModel, index: MipsIndex, **changes: object) -> RagLearner:
    assert model.question_tower is not None
    settings = RagTraining(**({"model_type": "rag_token", "batch_questions": 2, "epochs": 3} | changes))  # type: ignore[arg-type]
    documents = SearchedDocuments(model.question_tower, index, 3)
    return RagLearner(model, documents, questions(), settings, questions(3))


@pytest.mark.parametrize("model_type", ["rag_sequence", "rag_token"])
def test_the_gradient_of_the_question_encoder_equals_finite_differences(
    checkpoint: str, index: MipsIndex, model_type: str
) -> None:
    """Through the search: the documents found do not change with a step this small, nor does dropout."""
    model = load(checkpoint, double=True)
    assert model.question_tower is not None
    trained = learner(model, index, model_type=model_type, batch_questions=4)
    weight = next(
        parameter
        for name, parameter in model.question_tower.model.named_parameters()
        if name.endswith("encoder.layer.0.output.dense.weight")
    )

    def loss() -> float:
        torch.manual_seed(0)
        return trained.backward(0)["loss"]

    loss()
    assert weight.grad is not None
    analytic = weight.grad.clone()
    largest = int(analytic.abs().argmax())
    for place in (largest, largest // 2):
        row, column = divmod(place, weight.shape[1])
        values = []
        for step in (1e-4, -1e-4):
            with torch.no_grad():
                weight[row, column] += step
            values.append(loss())
            with torch.no_grad():
                weight[row, column] -= step
        assert (values[0] - values[1]) / 2e-4 == pytest.approx(
            analytic[row, column].item(), rel=1e-3, abs=1e-8
        )


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(
    checkpoint: str, index: MipsIndex, tmp_path: Path, optimizer: OptimizerName
) -> None:
    settings = TrainingSettings(learning_rate=1e-3, warmup_steps=2, validate_every=2, optimizer=optimizer)
    storage, path = LocalStorage(), str(tmp_path / "checkpoint.pt")

    def fresh() -> tuple[TrainingRun, RagModel]:
        model = load(checkpoint)
        return TrainingRun(learner(model, index), settings, ("loss", "lower")), model

    whole, whole_model = fresh()
    losses = []
    while not whole.done:
        losses.append(whole.step()["loss"])
    first, _ = fresh()
    resumed_losses = [first.step()["loss"] for _ in range(3)]
    first.save_checkpoint(storage, path)
    second, second_model = fresh()
    second.resume(storage, path)
    while not second.done:
        resumed_losses.append(second.step()["loss"])
    assert resumed_losses == losses
    assert len(losses) == 6
    for name, weight in whole_model.module.state_dict().items():
        assert torch.equal(weight, second_model.module.state_dict()[name]), name
    before = load(checkpoint).module.state_dict()
    changed = {
        name.partition(".")[0]
        for name, weight in whole_model.module.state_dict().items()
        if not torch.equal(weight, before[name])
    }
    assert changed == {"generator", "question_encoder"}


@pytest.mark.parametrize("model_type", ["rag_sequence", "rag_token"])
def test_what_is_saved_transformers_loads_with_the_same_loss(
    checkpoint: str, index: MipsIndex, tmp_path: Path, model_type: str
) -> None:
    model = load(checkpoint)
    learner(model, index, model_type=model_type).backward(0)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter -= 0.01 * (parameter.grad if parameter.grad is not None else 0.0)
    model.save(tmp_path, model_type, 3, "fingerprint of passages")  # type: ignore[arg-type]
    rag_class = RagSequenceForGeneration if model_type == "rag_sequence" else RagTokenForGeneration
    loaded, report = rag_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert loaded.config.n_docs == 3
    for name, weight in model.generator.model.state_dict().items():
        assert torch.equal(weight, loaded.rag.generator.state_dict()[name]), name
    assert (tmp_path / "model.safetensors").is_file()
    assert not list(tmp_path.glob("*.bin"))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["passage_encoder_fingerprint"] == "fingerprint of passages"
    assert checkpoint not in (tmp_path / "config.json").read_text()  # a path of this machine
    again = RagModel.load(str(tmp_path), str(tmp_path), device="cpu")
    assert again.generator.prompt == model.generator.prompt
    assert again.generator.end_token == model.generator.end_token
    first, second = (learner(either, index, model_type=model_type).validate() for either in (model, again))
    assert first == second


def test_a_t5_generator_is_saved_with_its_tied_weights(checkpoint: str, tmp_path: Path) -> None:
    """T5 has no first token of its own, and one matrix for embeddings and output."""
    t5 = tiny_t5(dtype=torch.float32)
    t5.model.save_pretrained(tmp_path / "t5")
    t5.tokenizer.save_pretrained(tmp_path / "t5")
    model = RagModel.load(str(tmp_path / "t5"), checkpoint, device="cpu")
    model.save(tmp_path / "rag", "rag_token", 2, None)
    loaded, report = RagTokenForGeneration.from_pretrained(tmp_path / "rag", output_loading_info=True)
    assert not report["missing_keys"]
    for name, weight in t5.model.state_dict().items():
        assert torch.equal(weight, loaded.rag.generator.state_dict()[name]), name
    again = RagModel.load(str(tmp_path / "rag"), str(tmp_path / "rag"), device="cpu")
    assert (again.generator.prompt, again.generator.end_token) == ((0,), 1)
    assert again.generator.contexts("Gold ?", []) == t5.contexts("Gold ?", [])


def test_without_a_question_encoder_a_seq2seq_folder_is_saved(checkpoint: str, tmp_path: Path) -> None:
    model = load(checkpoint, question_encoder=False)
    model.save(tmp_path, "rag_token", 1, None)
    assert load_generator(str(tmp_path), device="cpu").fingerprint == model_fingerprint(tmp_path)
    for name, weight in load_generator(str(tmp_path), device="cpu").model.state_dict().items():
        assert torch.equal(weight, model.generator.model.state_dict()[name]), name


def test_a_question_encoder_that_is_not_dprs_is_refused(checkpoint: str, tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path)
    with pytest.raises(UsageError, match=r"lacks \d+ of the weights|cannot be loaded"):
        RagModel.load(checkpoint, str(folder), device="cpu")
    write_dpr_question_encoder(tmp_path / "dpr")
    assert RagModel.load(checkpoint, str(tmp_path / "dpr"), device="cpu").question_tower is not None


def given(*scores: float) -> RagQuestion:
    passages = tuple(PassageText(f"title {number}", f"text {number}") for number in range(len(scores)))
    return RagQuestion("q", "what ?", ("Paris",), passages, scores)


@pytest.mark.parametrize("abstention", [0.0, 0.5])
def test_filling_up_with_documents_changes_no_loss(checkpoint: str, abstention: float) -> None:
    """A question with fewer documents than its neighbour has the loss that it has alone."""
    settings = RagTraining("rag_sequence", batch_questions=1, epochs=1, abstention=abstention)
    losses = []
    for held_out in ([given(3.0)], [given(1.0, 0.5, -1.0)], [given(3.0), given(1.0, 0.5, -1.0)]):
        model = load(checkpoint, question_encoder=False)
        source = GivenDocuments(5, torch.device("cpu"))
        losses.append(
            RagLearner(model, source, [given(1.0)], settings, held_out).validate()["loss"] * len(held_out)
        )
    assert losses[0] + losses[1] == pytest.approx(losses[2], rel=1e-5)


def test_given_documents_are_cut_at_k_and_marked_where_they_are_none() -> None:
    documents = GivenDocuments(2, torch.device("cpu")).find([given(3.0, 2.0, 1.0), given(5.0)])
    assert documents.scores.tolist() == [[3.0, 2.0], [5.0, NO_SCORE]]
    assert [len(row) for row in documents.passages] == [2, 2]
    assert [len(row) for row in documents.present] == [2, 1]
    assert documents.scores.log_softmax(dim=-1)[1].exp().tolist() == [1.0, 0.0]


def test_closed_book_reads_the_question_alone(checkpoint: str) -> None:
    model = load(checkpoint, question_encoder=False)
    documents = NoDocuments(torch.device("cpu")).find(questions(2))
    assert documents.passages == [[], []]
    assert documents.scores.tolist() == [[0.0], [0.0]]
    settings = RagTraining("rag_token", batch_questions=2, epochs=1)
    trained = RagLearner(model, NoDocuments(torch.device("cpu")), questions(), settings, questions(2))
    assert set(trained.backward(0)) == {"loss"}
    assert set(trained.validate()) == {"loss", "exact_match"}


def test_labels_are_targets_without_an_end_token(checkpoint: str) -> None:
    """The loss of a label is that of its tokens alone; validation tells the share of right labels."""
    model = load(checkpoint, question_encoder=False)
    labels = LabelSet.parse(["SUPPORTS=supported", "REFUTES=refuted"])
    asked = [
        RagQuestion("a", "Gold is an element .", ("SUPPORTS",)),
        RagQuestion("b", "Gold is a novel .", ("REFUTES",)),
    ]
    settings = RagTraining("rag_sequence", batch_questions=2, epochs=1)
    source = NoDocuments(torch.device("cpu"))
    trained = RagLearner(model, source, asked, settings, asked, labels)
    scores = trained.validate()
    expected = 0.0
    for question, target in zip(asked, labels.target_tokens(model.generator), strict=True):
        [context] = model.generator.contexts(question.question, [])
        with torch.no_grad():
            logits = model.generator.model(
                input_ids=torch.tensor([context]),
                decoder_input_ids=torch.tensor([[*model.generator.prompt, *target[:-1]]]),
            ).logits[0, len(model.generator.prompt) - 1 :]
        log_probs = logits.double().log_softmax(dim=-1)
        expected -= sum(log_probs[place, token].item() for place, token in enumerate(target))
    assert scores["loss"] == pytest.approx(expected / 2, rel=1e-6)
    assert scores["label_accuracy"] in (0.0, 0.5, 1.0)
    with pytest.raises(UsageError, match="question c: its label 'MAYBE' is not in --label_set"):
        RagLearner(model, source, [RagQuestion("c", "x", ("MAYBE",))], settings, (), labels)


def test_each_answer_of_a_question_is_a_target_of_its_own(checkpoint: str) -> None:
    model = load(checkpoint, question_encoder=False)
    asked = [RagQuestion("a", "what ?", ("Paris", "Berlin")), RagQuestion("b", "who ?", ("Gold",))]
    settings = RagTraining("rag_token", batch_questions=1, epochs=2)
    assert RagLearner(model, NoDocuments(torch.device("cpu")), asked, settings).total_steps == 6


def watched(*documents: Documents) -> dict[str, float]:
    watch = RetrievalWatch()
    for some in documents:
        watch.add(some)
    return watch.figures()


def test_figures_show_a_collapsed_retriever() -> None:
    """The same documents for every question, or scores that say nothing; over all chunks of a step."""
    apart = [[PassageText("", f"{row} {column}") for column in range(2)] for row in range(8)]
    together = [[PassageText("", str(column)) for column in range(2)] for _ in range(8)]
    even, peaked = torch.zeros(8, 2), torch.tensor([[30.0, 0.0]]).expand(8, 2)
    healthy = watched(Documents(apart, peaked / 30))
    assert healthy["distinct_passages"] == 2.0
    assert collapse_warning(healthy, 8, 2) is None
    collapsed = watched(Documents(together[:4], peaked[:4]), Documents(together[4:], peaked[4:]))
    assert collapsed["distinct_passages"] == 0.25
    assert collapsed["prior_entropy"] == pytest.approx(0.0, abs=1e-10)
    assert "8 questions found 2 different passages" in str(collapse_warning(collapsed, 8, 2))
    flat = watched(Documents(apart, even))
    assert flat == pytest.approx({"prior_entropy": 1.0, "distinct_passages": 2.0})
    assert "nearly even" in str(collapse_warning(flat, 8, 2))
    assert watched(Documents([[]], torch.zeros(1, 1))) == {}
    assert collapse_warning({}, 8, 2) is None
