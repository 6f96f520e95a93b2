"""RAG as the training loop trains it: −log p(y|x) over question encoder and generator, end to end (section 2.4)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion
from rag_core.classification import LabelDistribution, LabelSet, classify_questions
from rag_core.context import PassageText
from rag_core.decoding import generate_answers
from rag_core.errors import UsageError
from rag_core.metrics.answers import exact_match
from rag_core.metrics.retrieval import AnswerStrings
from rag_core.training.ahead import Ahead
from rag_core.training.batches import EpochBatches
from rag_core.training.documents import Documents, DocumentSource, RagQuestion, RetrievalWatch
from rag_core.training.precision import Precision, forward_precision
from rag_core.training.rag_loss import Abstention, ModelType, RagExample, rag_nll
from rag_core.training.rag_model import RagModel
from rag_core.training.replicas import Replicas


@dataclass(frozen=True)
class RagTraining:
    """What a RAG model is trained on at each step.

    Attributes:
      model_type: `rag_sequence` or `rag_token`.
      batch_questions: questions of a step.
      chunk_questions: how many have a graph at a time: bounds memory, changes nothing else but dropout.
      epochs: times that every question is used with every answer; a last batch that is not full is left out.
      max_steps: ends training before the epochs do; None: it does not.
      label_smoothing: ε, see `rag_nll`.
      abstention: weight λ of documents without an answer, which are taught to give none; see `rag_nll`.
      max_target_tokens: of an answer, the end token included; longer ones are cut.
      precision: of the generator's forward passes.
      seed: of the order of questions.
    """

    model_type: ModelType
    batch_questions: int = 64
    chunk_questions: int = 8
    epochs: int = 10
    max_steps: int | None = None
    label_smoothing: float = 0.0
    abstention: float = 0.0
    max_target_tokens: int = 32
    precision: Precision = "float32"
    seed: int = 0


@dataclass(frozen=True)
class _Pair:
    """A question with one of its answers as the target."""

    question: RagQuestion
    target: tuple[int, ...]


@dataclass(frozen=True)
class _Chunk:
    """Questions whose computation is in memory at a time, as the generator reads them."""

    documents: Documents
    examples: list[RagExample]


class RagLearner:
    """A `run.Learner`: −log p(y|x) on the documents of the moment; validated by loss and by answers."""

    def __init__(
        self,
        model: RagModel,
        documents: DocumentSource,
        questions: Sequence[RagQuestion],
        settings: RagTraining,
        validation: Sequence[RagQuestion] = (),
        label_set: LabelSet | None = None,
        replicas: Replicas | None = None,
    ):
        """Tokenises the targets.

        Args:
          documents: of a question, at the time when it is trained on.
          questions: each with at least one answer.
          validation: held out; validation is left away where there are none.
          label_set: answers are labels of this set, whose targets have no end token; None: free text.
          replicas: the processes that train together; one by default.

        Raises:
          UsageError: there are fewer questions than a batch has, an answer is not in the label set, or a batch is
            smaller than the processes are.
        """
        self._model, self._documents, self._settings = model, documents, settings
        self._label_set, self._replicas = label_set, replicas or Replicas()
        self._replicas.check_batch(settings.batch_questions)
        self._label_targets = (
            dict(zip(label_set.labels, label_set.target_tokens(model.generator), strict=True))
            if label_set is not None
            else None
        )
        self._pairs = self._targets_of(questions)
        self._validation = list(validation)
        self._validation_pairs = [self._targets_of([question])[0] for question in validation]
        self._batches = EpochBatches(
            len(self._pairs),
            settings.batch_questions,
            settings.epochs,
            settings.seed,
            settings.max_steps,
        )
        self._ahead = Ahead(lambda step: [*self._read_batch(step)], self.total_steps)
        self._module = model.module

    @property
    def module(self) -> nn.Module:
        """Generator and question encoder."""
        return self._module

    @property
    def total_steps(self) -> int:
        """Full batches of all epochs."""
        return self._batches.total_steps

    def backward(self, step: int) -> Mapping[str, float]:
        """Adds the gradients of the step's batch.

        Returns:
          `loss`, the mean −log p(y|x) of its questions, and the figures of `RetrievalWatch`.
        """
        self._model.train()
        chunks = self._ahead.take(step) if self._documents.fixed else self._read_batch(step)
        total, count, watch = 0.0, 0, RetrievalWatch()
        for chunk in chunks:
            loss = self._nll(chunk).sum() / self._settings.batch_questions
            loss.backward()
            total += loss.item()
            count += len(chunk.examples)
            watch.add(chunk.documents)
        share = count / self._settings.batch_questions
        return self._summed(
            {"loss": total} | {name: value * share for name, value in watch.figures().items()}
        )

    def validate(self) -> Mapping[str, float]:
        """On the questions held out: the mean loss, and exact match of greedy answers or accuracy of labels."""
        if not self._validation:
            return {}
        self._model.train(False)
        loss = correct = 0.0
        own = self._replicas.share(range(len(self._validation)))
        with torch.no_grad():
            for begin in range(0, len(own), self._settings.chunk_questions):
                numbers = own[begin : begin + self._settings.chunk_questions]
                chunk = self._read([self._validation_pairs[number] for number in numbers])
                loss += self._nll(chunk).sum().item()
                correct += self._correct([self._validation[number] for number in numbers], chunk.documents)
        name = "exact_match" if self._label_set is None else "label_accuracy"
        summed = self._summed({"loss": loss, name: correct})
        return {score: value / len(self._validation) for score, value in summed.items()}

    def _read_batch(self, step: int) -> Iterable[_Chunk]:
        """What this process computes of a step, a chunk at a time."""
        batch = [self._pairs[row] for row in self._batches.rows(step)]
        # of like length together: less padding
        own = sorted(self._replicas.share(batch), key=lambda pair: pair.question.characters)
        for begin in range(0, len(own), self._settings.chunk_questions):
            yield self._read(own[begin : begin + self._settings.chunk_questions])

    def _read(self, pairs: Sequence[_Pair]) -> _Chunk:
        """Finds their documents, and joins and tokenises them."""
        documents = self._documents.find([pair.question for pair in pairs])
        asked = [
            (pair.question.question, passages)
            for pair, passages in zip(pairs, documents.passages, strict=True)
        ]
        contexts = self._model.generator.contexts.batch(asked)
        examples = [
            RagExample(of_question, pair.target, self._holding(pair.question, passages))
            for of_question, pair, passages in zip(contexts, pairs, documents.passages, strict=True)
        ]
        return _Chunk(documents, examples)

    def _holding(self, question: RagQuestion, passages: Sequence[PassageText]) -> list[bool]:
        """Whether each passage holds an answer, in its title or its text; [] where nobody asks."""
        if not self._settings.abstention:
            return []
        answers = AnswerStrings(question.answers)
        return [answers.found_in(f"{passage.title} {passage.text}") for passage in passages]

    def _nll(self, chunk: _Chunk) -> torch.Tensor:
        generator, weight = self._model.generator, self._settings.abstention
        with forward_precision(self._settings.precision, generator.device):
            return rag_nll(
                self._settings.model_type,
                generator.model,
                generator.prompt,
                chunk.documents.scores,
                chunk.examples,
                self._settings.label_smoothing if generator.model.training else 0.0,
                Abstention(weight, generator.end_token) if weight else None,
            )

    def _correct(self, questions: Sequence[RagQuestion], documents: Documents) -> float:
        """How many of the questions the model answers, or labels, right."""
        asked = [
            RetrievedQuestion(question.question, tuple(passages), scores[: len(passages)])
            for question, passages, scores in zip(
                questions, documents.present, documents.scores.float().cpu().numpy(), strict=True
            )
        ]
        generator = self._model.generator
        if self._label_set is not None:
            labels = classify_questions(generator, asked, self._label_set)
            return sum(
                isinstance(label, LabelDistribution) and label.label == question.answers[0]
                for label, question in zip(labels, questions, strict=True)
            )
        decoding = DecodingSettings(
            self._settings.model_type,
            "fast" if self._settings.model_type == "rag_sequence" else "beam",
            num_beams=1,
            max_new_tokens=self._settings.max_target_tokens,
            min_new_tokens=1 if self._settings.abstention else 0,
        )
        answers = generate_answers(generator, asked, decoding)
        return sum(
            exact_match(answer.answer, question.answers)
            for answer, question in zip(answers, questions, strict=True)
            if isinstance(answer, Answer)
        )

    def _targets_of(self, questions: Sequence[RagQuestion]) -> list[_Pair]:
        """A pair for each answer, as the paper trains (appendix D); of labels the first."""
        if self._label_targets is None:
            answers = [(question, answer) for question in questions for answer in question.answers]
            targets = self._answer_targets([answer for _, answer in answers])
            return [_Pair(question, target) for (question, _), target in zip(answers, targets, strict=True)]
        pairs = []
        for question in questions:
            if question.answers[0] not in self._label_targets:
                raise UsageError(
                    f"question {question.question_id}: its label {question.answers[0]!r} is not in --label_set; "
                    f"expected one of {', '.join(self._label_targets)}"
                )
            pairs.append(_Pair(question, self._label_targets[question.answers[0]]))
        return pairs

    def _answer_targets(self, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """Their tokens with the end token, cut where there are too many."""
        generator, kept = self._model.generator, self._settings.max_target_tokens - 1
        rows = generator.tokenizer(list(answers), add_special_tokens=False)["input_ids"] if answers else []
        return [(*row[:kept], generator.end_token) for row in rows]

    def _summed(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Each figure summed over the processes."""
        own = torch.tensor([list(figures.values())], dtype=torch.float64, device=self._replicas.device)
        return dict(zip(figures, self._replicas.gather(own).sum(dim=0).tolist(), strict=True))
