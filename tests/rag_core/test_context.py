"""Contexts: transformers' exact strings where nothing is truncated, and never a truncated question."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import BatchEncoding, RagConfig, RagRetriever

from rag_core.context import ContextFormat, ContextTokenizer, PassageText, QuestionTooLongError
from tests.rag_core.tiny_generators import bart_config, bart_tokenizer, t5_tokenizer, tiny_question_encoder

BART = bart_tokenizer()
T5 = t5_tokenizer()
QUESTION = "Who wrote the novel ?"


def transformers_contexts(passages: list[PassageText], question: str, form: ContextFormat) -> list[list[int]]:
    """What RagRetriever gives the generator, without an index or a question tokenizer."""
    config = RagConfig.from_question_encoder_generator_configs(
        tiny_question_encoder().config,
        bart_config(len(BART)),
        title_sep=form.title_sep,
        doc_sep=form.doc_sep,
        max_combined_length=300,
    )
    retriever = RagRetriever.__new__(RagRetriever)
    retriever.config = config
    retriever.generator_tokenizer = BART
    documents = [{"title": [p.title for p in passages], "text": [p.text for p in passages]}]
    ids, mask = retriever.postprocess_docs(documents, [question], form.prefix or None, len(passages))
    assert not isinstance(ids, BatchEncoding)
    return [row[: sum(keep)] for row, keep in zip(ids, mask, strict=True)]


@pytest.mark.parametrize(
    "form", [ContextFormat(), ContextFormat("answer: ", " | ", " ? "), ContextFormat(" ", "/", "//")]
)
def test_equals_the_retriever_of_transformers(form: ContextFormat) -> None:
    passages = [
        PassageText("Mary Shelley", "wrote Frankenstein in 1818 ."),
        PassageText('"Gold"', "is  an   element ."),
        PassageText("", "no title "),
        PassageText("Only a title", ""),
        PassageText("Quotes", 'the "novel" // was / written  '),
    ]
    for question in (QUESTION, "two  spaces ?", " leading", ""):
        ours = ContextTokenizer(BART, form, 300)(question, passages)
        assert ours == transformers_contexts(passages, question, form)


def test_one_context_reads_as_the_paper_writes_it() -> None:
    (ids,) = ContextTokenizer(BART, ContextFormat(), 300)(QUESTION, [PassageText("Paris", "A city .")])
    assert BART.decode(ids) == "<s>Paris / A city . // Who wrote the novel ?</s>"


def test_closed_book_is_the_question_after_the_prefix() -> None:
    assert ContextTokenizer(BART, ContextFormat(), 300)(QUESTION, []) == [BART(QUESTION)["input_ids"]]
    prefixed = ContextTokenizer(T5, ContextFormat(prefix="answer: "), 300)(QUESTION, [])
    assert prefixed == [T5("answer: " + QUESTION)["input_ids"]]


@settings(deadline=None, max_examples=60)
@given(
    title=st.text(alphabet="ab é/", max_size=12),
    text=st.text(alphabet="abc  /.é", max_size=120),
    question=st.text(alphabet="ab c?é", max_size=20),
    max_tokens=st.integers(12, 60),
    tokenizer=st.sampled_from([BART, T5]),
)
@example(title="", text="", question="  ??é", max_tokens=12, tokenizer=BART)
def test_truncation_takes_from_the_passages_end_only(
    title: str, text: str, question: str, max_tokens: int, tokenizer
) -> None:
    form = ContextFormat(prefix="p: ")
    (whole,) = ContextTokenizer(tokenizer, form, 10**6)(question, [PassageText(title, text)])
    (ids,) = ContextTokenizer(tokenizer, form, max_tokens)(question, [PassageText(title, text)])
    if len(whole) <= max_tokens:
        assert ids == whole
        return
    # what is left is a start and an end of the whole, and the end holds the question
    kept_start = next((i for i, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), len(ids))
    tail = ids[kept_start:]
    assert not tail or whole[-len(tail) :] == tail
    joined = (form.doc_sep + question).replace("  ", " ")  # of three spaces two are left, as in transformers
    asked = tokenizer.decode(tokenizer(joined)["input_ids"], skip_special_tokens=True).strip(" ")
    assert tokenizer.decode(ids, skip_special_tokens=True).rstrip(" ").endswith(asked)
    question_tokens = len(tokenizer(form.doc_sep + question)["input_ids"])
    assert len(ids) == max_tokens or len(ids) <= question_tokens + 6


def test_a_long_passage_keeps_its_start_and_fills_the_room() -> None:
    passage = PassageText("Gold", "is a chemical element " * 50)
    (ids,) = ContextTokenizer(BART, ContextFormat(), 40)(QUESTION, [passage])
    text = BART.decode(ids)
    assert len(ids) == 40
    assert text.startswith("<s>Gold / is a chemical element")
    assert text.endswith(" // Who wrote the novel ?</s>")


def test_a_question_longer_than_the_room_is_kept_whole() -> None:
    question = "what " * 30 + "?"
    (ids,) = ContextTokenizer(BART, ContextFormat(), 20)(question, [PassageText("Gold", "element")])
    assert BART.decode(ids).endswith(question.strip() + "</s>")
    assert "Gold" not in BART.decode(ids)


def test_a_question_longer_than_the_encoder_is_refused() -> None:
    contexts = ContextTokenizer(BART, ContextFormat(), 300, max_positions=24)
    with pytest.raises(QuestionTooLongError, match="reads at most 24"):
        contexts("what " * 30, [PassageText("Gold", "element")])
    with pytest.raises(QuestionTooLongError, match="reads at most 24"):
        contexts("what " * 30, [])
    (ids,) = contexts(QUESTION, [PassageText("Gold", "is a chemical element " * 20)])
    assert len(ids) == 24


def test_several_questions_get_the_contexts_that_each_gets_alone() -> None:
    contexts = ContextTokenizer(BART, ContextFormat(), 40)
    long = PassageText("Gold", "is a chemical element " * 50)
    asked = [
        (QUESTION, [long, PassageText("Paris", "A city .")]),
        ("Where ?", []),
        ("What is gold ?", [long]),
    ]
    assert contexts.batch(asked) == [contexts(question, passages) for question, passages in asked]
    assert contexts.batch([]) == []
