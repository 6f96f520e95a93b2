"""What the two RAG models share: batches, settings, decoder states, and questions that cannot be answered."""

import dataclasses

import numpy as np
import pytest
import torch

from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion, Unanswered
from rag_core.bounds import SearchTrace, answer_bound
from rag_core.decoder import EncodedDocuments
from rag_core.decoding import generate_answers
from rag_core.errors import UsageError
from rag_core.generator import Generator
from rag_core.ready_question import question_batches, ready_questions
from rag_core.records import RejectReason
from rag_core.target_scoring import score_targets
from tests.rag_core import oracles
from tests.rag_core.tiny_generators import tiny_bart, tiny_t5

MODELS = [("rag_sequence", "thorough"), ("rag_sequence", "fast"), ("rag_token", "beam")]


@pytest.mark.parametrize(
    "generator", [tiny_bart(1), tiny_bart(1, prompt=(2,)), tiny_t5(1)], ids=["bart", "2", "t5"]
)
@pytest.mark.parametrize("batch_tokens", [1, 20, 10**6])
def test_targets_score_as_in_plain_passes(generator: Generator, batch_tokens: int) -> None:
    """Prefix trees of different shapes under each document, targets given twice, in any order."""
    (question,) = oracles.random_questions(4, [4])
    contexts = oracles.contexts_of(generator, question)
    targets = [(5,), (5, 6, 7), (5, 6, 8, 2), (9, 6, 7, 2), (5, 9), (2,), (5, 6, 7)]
    pairs = [(z, target) for target in targets for z in (3, 0, 1) if (z + len(target)) % 4]
    documents = EncodedDocuments.pack(generator.decoder, generator.encode(contexts, 100))
    scored = score_targets(generator, documents, pairs, batch_tokens)
    model = oracles.eager_model(generator)
    assert len(scored) == len(pairs)
    for (z, target), log_probs in zip(pairs, scored, strict=True):
        expected = oracles.token_log_probs(model, generator.prompt, contexts[z], target)
        np.testing.assert_allclose(log_probs, expected, atol=1e-10)


@pytest.mark.parametrize("batch_tokens", [1, 50, 10**6])
def test_encoding_does_not_depend_on_the_batch(batch_tokens: int) -> None:
    generator = tiny_t5(1)
    contexts = oracles.contexts_of(generator, oracles.random_questions(4, [6])[0])
    encoded = generator.encode(contexts, batch_tokens)
    with torch.no_grad():
        for context, hidden in zip(contexts, encoded, strict=True):
            expected = generator.model.get_encoder()(torch.tensor([context])).last_hidden_state[0]
            torch.testing.assert_close(hidden, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("model_type", "decoding"), MODELS)
def test_a_model_without_the_attention_interface_gives_the_same(model_type: str, decoding: str) -> None:
    """Where keys and values cannot be shared by a document's rows, they are repeated."""
    questions = oracles.random_questions(8, [3, 1, 4])
    settings = DecodingSettings(model_type, decoding, num_beams=3, max_new_tokens=6)
    generator = tiny_bart(8)
    shared = generate_answers(generator, questions, settings)
    generator.decoder = dataclasses.replace(generator.decoder, shares_documents=False)
    generator.model.set_attn_implementation("eager")
    for ours, repeated in zip(shared, generate_answers(generator, questions, settings), strict=True):
        assert isinstance(ours, Answer)
        assert isinstance(repeated, Answer)
        assert repeated.answer == ours.answer
        assert repeated.log_prob == pytest.approx(ours.log_prob, abs=1e-9)


def test_batches_fill_the_budget_with_questions_of_similar_length() -> None:
    generator = tiny_bart()
    ready, unanswered = ready_questions(generator, oracles.random_questions(3, [2, 5, 1, 0, 3, 4, 1]))
    assert not unanswered
    for budget in (1, 300, 10**6):
        batches = list(question_batches(ready, budget))
        assert sorted(question.number for batch in batches for question in batch) == list(range(7))
        for batch in batches:
            tokens = sum(len(question.contexts) for question in batch) * batch[0].longest
            assert len(batch) == 1 or tokens <= budget
        lengths = [question.longest for batch in batches for question in batch]
        assert lengths == sorted(lengths, reverse=True)
    assert len(batches) == 1


class TestOutOfMemory:
    """A device that holds no more than so many context tokens, padding included."""

    QUESTIONS = oracles.random_questions(6, [3, 2, 4, 1, 2, 3])

    def limit(self, generator: Generator, monkeypatch: pytest.MonkeyPatch, tokens: int) -> list[int]:
        encode, sizes = generator.encode, []

        def limited(contexts: list[list[int]], batch_tokens: int) -> object:
            size = len(contexts) * max(len(context) for context in contexts)
            if size > tokens:
                raise torch.OutOfMemoryError("injected")
            sizes.append(len(contexts))
            return encode(contexts, batch_tokens)

        monkeypatch.setattr(generator, "encode", limited)
        return sizes

    @pytest.mark.parametrize(("model_type", "decoding"), MODELS)
    def test_halves_the_batch_and_loses_nothing(
        self, model_type: str, decoding: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generator = tiny_bart(6)
        settings = DecodingSettings(model_type, decoding, num_beams=2, max_new_tokens=5)
        expected = generate_answers(generator, self.QUESTIONS, settings)
        sizes = self.limit(generator, monkeypatch, 600)
        results = generate_answers(generator, self.QUESTIONS, settings)
        assert sum(sizes) == 15  # every document encoded once
        assert len(sizes) > 1
        for ours, theirs in zip(results, expected, strict=True):
            assert isinstance(ours, Answer)
            assert isinstance(theirs, Answer)
            assert ours.answer == theirs.answer
            assert ours.log_prob == pytest.approx(theirs.log_prob, abs=1e-10)

    def test_a_question_that_never_fits_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        generator = tiny_bart(6)
        self.limit(generator, monkeypatch, 5)
        with pytest.raises(torch.OutOfMemoryError, match="injected"):
            generate_answers(generator, self.QUESTIONS, DecodingSettings("rag_token", "beam"))


@pytest.mark.parametrize(("model_type", "decoding"), MODELS)
def test_what_is_not_finite_loses_only_its_question(model_type: str, decoding: str) -> None:
    """A token whose embedding overflows: the questions whose passages hold it are marked, the others answered."""
    generator = tiny_bart(2)
    questions = oracles.random_questions(2, [2, 3, 2])
    settings = DecodingSettings(model_type, decoding, num_beams=2, max_new_tokens=4)
    expected = generate_answers(generator, questions, settings)
    token = generator.tokenizer("\u00e9", add_special_tokens=False)["input_ids"][0]
    encoder = generator.model.get_encoder()
    encoder.embed_tokens = type(encoder.embed_tokens)(320, 16, 1)
    encoder.embed_tokens.double().weight.data.copy_(generator.model.get_input_embeddings().weight)
    encoder.embed_tokens.weight.data[token] = torch.nan
    poisoned = RetrievedQuestion("Qu\u00e9 ?", questions[1].passages, questions[1].scores)
    infinite = RetrievedQuestion(
        questions[2].question, questions[2].passages, np.array([1, np.inf], np.float32)
    )
    results = generate_answers(generator, [questions[0], poisoned, infinite, questions[2]], settings)
    for number, message in ((1, "NaN"), (2, "score")):
        result = results[number]
        assert isinstance(result, Unanswered)
        assert result.reason is RejectReason.NOT_FINITE
        assert message in result.message
    for ours, theirs in ((results[0], expected[0]), (results[3], expected[2])):
        assert isinstance(ours, Answer)
        assert isinstance(theirs, Answer)
        assert ours.answer == theirs.answer
        assert ours.log_prob == pytest.approx(theirs.log_prob, abs=1e-10)


def test_a_question_that_the_encoder_cannot_read_is_marked() -> None:
    generator = tiny_bart(2, max_positions=40)
    questions = oracles.random_questions(2, [2, 2], max_words=5)
    long = RetrievedQuestion("what " * 60, questions[0].passages, questions[0].scores)
    settings = DecodingSettings("rag_token", "beam", num_beams=1, max_new_tokens=3)
    results = generate_answers(generator, [long, questions[1]], settings)
    assert isinstance(results[0], Unanswered)
    assert results[0].reason is RejectReason.BAD_FIELD
    assert "at most 40" in results[0].message
    assert isinstance(results[1], Answer)


def test_more_tokens_than_the_decoder_has_positions_are_refused() -> None:
    settings = DecodingSettings("rag_token", "beam", max_new_tokens=39)
    with pytest.raises(UsageError, match="at most 40"):
        generate_answers(tiny_bart(max_positions=40), [], settings)
    assert generate_answers(tiny_bart(max_positions=41), [], settings) == []


def test_scores_and_passages_must_be_as_many() -> None:
    (question,) = oracles.random_questions(1, [3])
    odd = RetrievedQuestion(question.question, question.passages, question.scores[:2])
    with pytest.raises(ValueError, match="3 passages"):
        generate_answers(tiny_bart(), [odd], DecodingSettings("rag_token", "beam"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "rag"}, "rag_sequence or rag_token"),
        ({"decoding": "beam"}, "thorough or fast"),
        ({"model_type": "rag_token"}, "decodes by beam"),
        ({"num_beams": 0}, "--num_beams 0"),
        ({"max_new_tokens": 0}, "--max_new_tokens 0"),
        ({"min_new_tokens": 21}, "exceeds --max_new_tokens"),
        ({"no_repeat_ngram": -1}, "--no_repeat_ngram -1"),
        ({"num_candidates": 0}, "--num_candidates 0"),
        ({"model_type": "rag_token", "decoding": "beam", "num_candidates": 5}, "as many beams"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DecodingSettings(**{"model_type": "rag_sequence", "decoding": "thorough"} | options)


class TestSearchTrace:
    """A search of 2 beams over 3 steps, written out: tokens 5, 6, 7, and 2 which ends."""

    TRACE = SearchTrace(
        tokens=np.array([[5, 6, 2, 7], [2, 5, 6, 7], [6, 5, 7, 2]]),
        parents=np.array([[0, 0, 0, 0], [1, 0, 0, 1], [0, 1, 0, 1]]),
        sums=np.array([[-1.0, -2.0, -3.0, -4.0], [-2.5, -2.6, -2.7, -5.0], [-3.0, -3.5, -6.0, -7.0]]),
        end_token=2,
    )

    @pytest.mark.parametrize(
        ("target", "bound"),
        [
            ((8,), -2.0),  # never among the continuations: no better than the second running one
            ((7, 5), -4.0),  # considered, but did not run on: its own sum
            ((), -3.0),  # ended at rank 2, not finished: its own sum
            ((5, 8), -2.7),  # left at the second step
            ((5,), -2.6),  # the end token was not considered: no better than the second continuation
            ((6, 7), -5.0),
            ((5, 5, 8), -3.5),  # cut by the limit, of rank 2 or later
            ((5, 6, 5), -3.5),
        ],
    )
    def test_bounds_by_hand(self, target: tuple[int, ...], bound: float) -> None:
        assert self.TRACE.log_upper_bound(target) == bound

    def test_a_prefix_that_still_ran_when_the_search_stopped(self) -> None:
        sums = self.TRACE.sums.copy()
        sums[2] = -np.inf
        stopped = SearchTrace(self.TRACE.tokens, self.TRACE.parents, sums, 2)
        assert stopped.log_upper_bound((5, 6, 7)) == -2.7
        assert stopped.log_upper_bound((5, 5)) == -2.6

    def test_the_answer_bound_adds_what_the_other_documents_could_give(self) -> None:
        bound = answer_bound(np.log(0.2), np.log([0.3, 0.1]), np.log([0.5, 1.0]), 3, torch.float64)
        assert bound == pytest.approx(np.log((0.2 + 0.15 + 0.1) / 0.2), abs=1e-10)
        assert answer_bound(-1.0, [], [], 3, torch.float64) == 0.0
        assert answer_bound(-1.0, [-1.0], [-2.0], 3, torch.float32) < answer_bound(
            -1.0, [-1.0], [-2.0], 3, torch.bfloat16
        )
