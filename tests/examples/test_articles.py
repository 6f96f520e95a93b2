"""Articles: length, prose, where the facts stand, and composing from other tables than the sample's."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from examples.articles import PASSAGE_WORDS, Fact, compose_article, compose_distractors
from examples.compose import compose_edition
from examples.entities import make_entity, relate
from examples.patterns import RESERVED, SHARED, Pattern
from examples.tables import read_entities


def all_articles(edition):
    return [article for members in edition.articles.values() for article in members]


def test_corpus_has_enough_articles_of_the_right_length(documents):
    assert len(documents) >= 300
    words = [len(row["text"].split()) for row in documents.values()]
    assert min(words) >= 200 and max(words) <= 600
    assert min(-(-count // PASSAGE_WORDS) for count in words) >= 3
    assert len({row["text"] for row in documents.values()}) == len(documents)


def test_both_leader_corpora_keep_the_length_and_the_ids_and_tell_their_year(world):
    first, last = world["leaders_2018.jsonl"], world["leaders_2024.jsonl"]
    assert [row["document_id"] for row in first] == [row["document_id"] for row in last]
    assert (first[0]["title"], last[0]["title"]) == (
        "President of the United States in 2018",
        "President of the United States in 2024",
    )
    assert len(first) >= 60
    assert all(200 <= len(row["text"].split()) <= 600 for row in first)


def test_prose_has_no_template_ticks(documents):
    for document_id, row in documents.items():
        text = row["text"]
        assert not re.search(r"[{}]|  |\.\.| ,| \.(?![a-z]{2}\b)|\bNone\b|=|_", text), document_id
        assert not re.search(r"\ba [aeio]|\ban [^aeiouAEIOU]|\bthe the\b|s's\b", text), document_id
        assert not re.search(r"(?<!St)(?<!Th)(?<! [A-Z])\. [a-z]", text), document_id
        assert text[0].isupper() and text.endswith(".")
        assert not re.search(r"\b(\w+) \1\b", text.replace("that that", "")), document_id


def test_no_article_says_a_sentence_twice(full_edition):
    for article in all_articles(full_edition):
        assert max(Counter(sentence.text for sentence in article.sentences).values()) == 1


def test_no_article_says_the_same_thing_in_two_ways(full_edition):
    for article in all_articles(full_edition):
        for column in ("landmark", "use", "domain", "earlier"):
            saying = [sentence.text for sentence in article.sentences if column in sentence.pattern.slots]
            assert len(saying) <= 1, (article.document_id, saying)


def test_statements_lie_whole_in_the_passage_they_are_credited_to(full_edition):
    for article in all_articles(full_edition):
        passages = article.passages()
        assert " ".join(passages) == article.text
        assert all(len(passage.split()) == PASSAGE_WORDS for passage in passages[:-1])
        for number, sentence in article.statements():
            assert sentence.text in passages[number]


def test_every_known_fact_is_stated_once_in_its_own_article(full_edition, tables):
    for name, entities in full_edition.entities.items():
        for entity, article in zip(entities, full_edition.articles[name], strict=True):
            own = Counter(
                fact
                for _, sentence in article.statements()
                for fact in sentence.facts
                if fact.entity_id == entity.entity_id
            )
            known = {
                Fact(entity.entity_id, attribute)
                for attribute in tables.domains[name].attributes
                if attribute in entity.fields
            }
            assert own == dict.fromkeys(known, 1)


def test_articles_hold_facts_of_like_entities(full_edition):
    foreign = {
        article.document_id: {
            fact.entity_id for _, sentence in article.statements() for fact in sentence.facts
        }
        - {article.document_id}
        for article in all_articles(full_edition)
    }
    assert sum(bool(others) for others in foreign.values()) > 0.9 * len(foreign)


def test_like_names_are_found(full_edition):
    def likes(entity_id):
        return [other.entity_id for other in full_edition.relations[entity_id].likes]

    assert likes("country-niger")[0] == "country-nigeria"
    assert "country-guinea-bissau" in likes("country-guinea")
    assert "country-democratic-republic-of-the-congo" in likes("country-republic-of-the-congo")
    assert "element-erbium" in likes("element-terbium")
    # the other office of the same country
    assert likes("office-president-of-france")[0] == "office-prime-minister-of-france"
    iron = full_edition.relations["element-iron"]
    assert (iron.before.name, iron.after.name) == ("manganese", "cobalt")


def test_withheld_facts_leave_no_trace(tables):
    withheld = [Fact("country-nigeria", "capital"), Fact("element-iron", "atomic_number")]
    edition = compose_edition(read_entities("2024"), withheld, tables, seed=3)
    assert not any(fact in edition.evidence.places for fact in withheld)
    assert not any("Abuja" in article.text for article in all_articles(edition))
    # who stands next to iron would give its number away
    assert edition.relations["element-manganese"].after is None
    assert edition.relations["element-iron"].before is None


def test_a_change_in_one_entity_leaves_unrelated_articles_as_they_are(tables):
    texts = []
    for withheld in ([], [Fact("country-japan", "capital")]):
        edition = compose_edition(read_entities("2024"), withheld, tables, seed=3)
        texts.append({article.document_id: article.text for article in all_articles(edition)})
    changed = {document_id for document_id in texts[0] if texts[0][document_id] != texts[1][document_id]}
    assert "country-japan" in changed
    assert changed <= {
        f"country-{name}" for name in ("japan", "china", "mongolia", "north-korea", "south-korea")
    }


def test_practice_articles_about_invented_entities_use_shared_patterns_only(tables):
    domain = tables.domains["country"].only(SHARED)
    rows = [
        {
            "name": f"{stem}ovia",
            "region": "Farthest Quendor",
            "setting": "landlocked",
            "demonym": f"{stem}ovian",
            "domain": ".zz",
            "capital": f"{stem}burg",
            "currency": f"{stem.lower()}ar",
        }
        for stem in ("Brel", "Krun", "Tzal", "Vosk")
    ]
    entities = [make_entity("country", row) for row in rows]
    relations = relate(entities, domain)
    for entity in entities:
        article = compose_article(
            entity, relations[entity.entity_id], domain, (), random.Random(1), min_words=120, max_words=160
        )
        assert entity.fields["capital"] in article.text
        patterns = {sentence.pattern for sentence in article.sentences}
        assert patterns and all(pattern.split != RESERVED for pattern in patterns)


def test_an_entity_without_fillers_is_an_error(tables):
    domain = tables.domains["country"]
    entity = make_entity("country", {"name": "Brelovia", "region": "Quendor"})
    with pytest.raises(ValueError, match="country-brelovia: no introduction"):
        compose_article(entity, relate([entity], domain)["country-brelovia"], domain, (), random.Random(1))


@pytest.mark.parametrize("count", [30, 3000])  # shuffled, and drawn one by one
def test_fillers_are_tried_in_random_order_each_once(tables, count):
    fillers = tuple(Pattern(f"filler.{number}", SHARED, f"Sentence {number}.") for number in range(count))
    domain = replace(tables.domains["country"].only(SHARED), fillers=fillers)
    entity = make_entity("country", {"name": "Brelovia", "region": "Quendor", "setting": "coastal"})
    said = []
    for seed in range(2):
        article = compose_article(
            entity, relate([entity], domain)[entity.entity_id], domain, (), random.Random(seed)
        )
        said.append([sentence.text for sentence in article.sentences if sentence.pattern in fillers])
    assert all(len(texts) == len(set(texts)) >= 29 for texts in said)
    assert said[0] != said[1]


class CountedDraws(random.Random):
    draws = 0

    def randrange(self, *bounds):
        self.draws += 1
        return super().randrange(*bounds)


def test_no_more_distractors_are_drawn_when_all_is_said(tables):
    patterns = (
        Pattern(f"d.{number}", SHARED, f"{number}: {{like_capital}}, {{like}}.") for number in range(3000)
    )
    domain = replace(tables.domains["country"].only(SHARED), distractors=tuple(patterns))
    fields = {"region": "Quendor", "setting": "coastal"}
    entities = [
        make_entity("country", fields | {"name": name, "capital": capital})
        for name, capital in (("Brelovia", "Oston"), ("Brelavia", "Ulm"))
    ]
    relations = relate(entities, domain)[entities[0].entity_id]
    for seed in range(9):  # one to three are wanted
        rng = CountedDraws(seed)
        (sentence,) = compose_distractors(entities[0], relations, domain, rng)
        assert sentence.text.endswith(": Ulm, Brelavia.")
        assert rng.draws < 10
