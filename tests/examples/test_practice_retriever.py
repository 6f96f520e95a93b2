"""Training rows for the retriever: passages that answer, and passages that only seem to."""

import random
import re

from examples.articles import Fact
from examples.practice_retriever import compose_short_row, compose_training_row
from examples.questions import NOT_ENOUGH_INFO, mentions


def test_training_rows_tell_passages_that_answer_from_others(practice_world):
    rng = random.Random(1)
    for asked in (*practice_world.questions[::5], *practice_world.claims[::3]):
        row = compose_training_row(asked, practice_world, 4, rng)
        positives = [context["passage_id"] for context in row["positive_ctxs"]]
        negatives = [context["passage_id"] for context in row["hard_negative_ctxs"]]
        assert positives[0].startswith(f"{asked.fact.entity_id}#")
        assert len(negatives) <= 4 and len(set(negatives)) == len(negatives)
        # where its whole article is positive and nobody else's value is known, there is nothing to mistake it for
        assert negatives or asked.label == NOT_ENOUGH_INFO
        assert not set(positives) & set(negatives)
        own_positives = [name for name in positives if name.startswith(f"{asked.fact.entity_id}#")]
        if asked.label == NOT_ENOUGH_INFO:
            assert not any(name.startswith(f"{asked.fact.entity_id}#") for name in negatives)
        else:
            assert positives == asked.row["gold_passage_ids"]
            of_its_article = sum(name.startswith(f"{asked.fact.entity_id}#") for name in negatives)
            if asked.fact.attribute == "holder":  # an office has no other attribute
                others = len(practice_world.passages[asked.fact.entity_id]) - len(own_positives)
                assert of_its_article == min(3, others)
            else:
                assert of_its_article in (1, 2)
            assert all(mentions(context["text"], asked.values[:1]) for context in row["positive_ctxs"])


def test_the_first_hard_negative_tells_of_somebody_else_what_is_asked_for(practice_world):
    told_of_others: dict[tuple[str, str], set[str]] = {}
    for fact, places in practice_world.edition.evidence.places.items():
        for document_id, number, _ in places:
            if document_id != fact.entity_id:
                told_of_others.setdefault((document_id, fact.attribute), set()).add(f"{document_id}#{number}")
    checked = 0
    for asked in practice_world.questions:
        row = compose_training_row(asked, practice_world, 2, random.Random(1))
        confusing = told_of_others.get((asked.fact.entity_id, asked.fact.attribute), set())
        confusing -= {context["passage_id"] for context in row["positive_ctxs"]}
        if confusing and asked.fact.attribute != "holder":  # earlier holders confuse as well
            assert row["hard_negative_ctxs"][0]["passage_id"] in confusing
            checked += 1
    assert checked > 20


def test_short_rows_tell_the_fact_in_one_text_of_one_to_three_sentences(practice_world):
    foreign, lengths = [], set()
    for asked in (*practice_world.questions, *practice_world.claims):
        row = compose_short_row(asked, practice_world, 4, seed=1)
        assert (row is None) == (asked.label == NOT_ENOUGH_INFO)
        if row is None:
            continue
        (positive,), negatives = row["positive_ctxs"], row["hard_negative_ctxs"]
        assert row["question"] == asked.row["question"]
        assert mentions(positive["text"], asked.values[:1])
        assert len(negatives) in (3, 4)
        assert not any(mentions(negative["text"], asked.values[:1]) for negative in negatives)
        foreign.append(sum(negative["title"] != positive["title"] for negative in negatives))
        lengths.add(len(re.findall(r"[.?!](?: |$)", positive["text"])))
        assert row == compose_short_row(asked, practice_world, 4, seed=1)
    assert {1, 2, 3} <= lengths
    assert set(foreign) == {0, 1} and sum(foreign) > 0.9 * len(foreign)


def test_the_first_short_negatives_state_the_attribute_of_others(practice_world):
    facts = practice_world.edition.evidence.places
    entities = practice_world.entities.values()
    elsewhere = 0
    for asked in practice_world.questions:
        foreign, own = compose_short_row(asked, practice_world, 2, seed=1)["hard_negative_ctxs"]
        title = practice_world.entities[asked.fact.entity_id].title
        if foreign["title"] == title:  # nobody else's article states it
            continue
        told = {
            sentence.text
            for entity in entities
            if entity.title == foreign["title"]
            for _, _, sentence in facts.get(Fact(entity.entity_id, asked.fact.attribute), ())
        }
        assert any(text in foreign["text"] for text in told)
        assert own["title"] == title
        others = [
            entity.fields[asked.fact.attribute]
            for entity in entities
            if asked.fact.attribute in entity.fields and entity.entity_id != asked.fact.entity_id
        ]
        elsewhere += mentions(own["text"], others)
    assert elsewhere > 0.9 * len(practice_world.questions)
