"""Practice text: invented names, small worlds, lookups."""

import json
import random
import re
from collections import Counter

import pyarrow.parquet as pq
import pytest
import yaml
from transformers import AutoTokenizer

from examples.entities import slug
from examples.practice import _turns, main
from examples.practice_countries import BESIDES
from examples.practice_facts import STRANGERS
from examples.practice_lookups import (
    ASTRAY,
    ASTRAY_SHORT,
    LABEL_WORDS,
    LEVELS,
    compose_lookup,
    compose_reading,
    compose_verdict,
)
from examples.practice_names import real_names
from examples.practice_retriever import told_of_others
from examples.questions import LABELS, NOT_ENOUGH_INFO, REFUTES, SUPPORTS, mentions
from examples.ship_models import MODELS
from rag_core.passages import split_document
from rag_core.records import Document
from schemas.retrievals import SCHEMA

OPTIONS = ["--worlds=2", "--validation_worlds=1", "--entities=24", "--lookups=40", "--validation_lookups=10"]
OPTIONS += ["--retriever_rows=60", "--validation_retriever_rows=10", "--hard_negatives=3"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    output = tmp_path_factory.mktemp("practice")
    main(["--output", str(output), *OPTIONS])
    return output


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def values_of(world):
    for entity in world.entities.values():
        for attribute in world.tables.domains[entity.domain].attributes:
            if attribute in entity.fields:
                yield entity.fields[attribute]


def named_besides(articles, kinds):
    return [
        article.entity.fields[slot]
        for article in articles
        for sentence in article.sentences
        for slot in sentence.pattern.slots
        if slot.partition("_")[0] in kinds
    ]


def test_no_name_or_value_is_one_of_the_sample(practice_world):
    real = real_names()
    assert {"ouagadougou", "fe", "cfa-franc-west-african"} & real == {"ouagadougou", "fe"}
    invented = {slug(entity.title) for entity in practice_world.entities.values()}
    invented |= {slug(entity.fields["country"]) for entity in practice_world.edition.entities["office"]}
    invented |= {slug(value) for value in values_of(practice_world) if not re.search(r"\d", value)}
    assert len(invented) > 300
    assert not invented & real


def test_articles_tell_of_strangers_who_are_named_as_those_asked_for(practice_world):
    told = named_besides(practice_world.edition.evidence.articles.values(), STRANGERS)
    assert len(told) > 100
    assert not set(told) & set(values_of(practice_world))


def test_articles_on_countries_name_much_that_is_no_value(practice_world):
    articles = practice_world.edition.articles["country"]
    named = named_besides(articles, BESIDES.keys() - STRANGERS.keys())
    assert len(named) > 3 * len(articles)
    assert not set(named) & set(values_of(practice_world))


def test_no_article_of_practice_says_a_sentence_twice(practice_world):
    for article in practice_world.edition.evidence.articles.values():
        said = [sentence.text for sentence in article.sentences]
        assert len(set(said)) == len(said)


def test_many_entities_have_a_double(practice_world):
    relations = practice_world.edition.relations
    for members in practice_world.edition.entities.values():
        doubles = sum(bool(relations[entity.entity_id].likes) for entity in members)
        assert 0.3 * len(members) < doubles < len(members)


def test_offices_of_a_world_are_as_of_one_recent_date_and_earlier_holders_of_one_before(practice_world):
    entities = practice_world.edition.entities["office"]
    offices = [entity.fields for entity in entities]
    (date,) = {fields["date"] for fields in offices}
    assert re.fullmatch("the end of 20(1[4-9]|2[0-6])", date)
    assert all(entity.title.endswith(f" in {date[-4:]}") for entity in entities)
    earlier = {fields["earlier_date"] for fields in offices if "earlier_date" in fields}
    assert len(earlier) > 5
    assert all(re.fullmatch(r"the end of \d{4}", other) and other < date for other in earlier)


def test_labels_are_balanced_and_claims_say_what_they_say(practice_world):
    labels = Counter(asked.label for asked in practice_world.claims)
    assert set(labels) == set(LABELS) and len(set(labels.values())) == 1
    texts = {document_id: " ".join(found) for document_id, found in practice_world.passages.items()}
    for asked in practice_world.claims:
        true_value, claimed = asked.values
        assert (true_value == claimed) if asked.label == SUPPORTS else True
        assert (true_value != claimed) if asked.label == REFUTES else True
        own = texts[asked.fact.entity_id]
        if asked.label == NOT_ENOUGH_INFO:
            assert not mentions(own, asked.values)
        else:
            assert mentions(own, [true_value])
        assert claimed.lower() in asked.row["question"].lower()


def test_lookups_hold_what_decides_them_from_one_sentence_to_a_passage(practice_world):
    for asked in (*practice_world.questions[::5], *practice_world.claims[::3]):
        words = []
        for level in LEVELS:
            (passage,) = compose_lookup(asked, level, 0, practice_world, seed=1)["passages"]
            words.append(len(passage["text"].split()))
            found = mentions(passage["text"], asked.values[:1])
            assert found == (asked.label != NOT_ENOUGH_INFO), (level, asked, passage)
            if asked.label == NOT_ENOUGH_INFO and level != 3:  # half a passage tells it of others
                assert not mentions(passage["text"], asked.values)
        assert words[0] < words[1] and words[3] <= 100
    assert (
        compose_lookup(asked, 4, 0, practice_world, seed=1)["passages"][0]["text"]
        in (practice_world.passages[asked.fact.entity_id])
    )


def test_some_lookups_also_hold_the_same_fact_of_others(practice_world):
    capitals = {
        entity.fields["capital"]
        for entity in practice_world.edition.entities["country"]
        if "capital" in entity.fields
    }
    asked = [asked for asked in practice_world.questions if asked.fact.attribute == "capital"]
    confusing = sum(
        mentions(
            compose_lookup(one, 3, 0, practice_world, seed=1)["passages"][0]["text"],
            capitals - set(one.values),
        )
        for one in asked
    )
    assert confusing > 0.7 * len(asked)


def test_half_of_the_refuted_claims_find_their_value_told_of_others(practice_world):
    false = [asked for asked in practice_world.claims if asked.values[0] != asked.values[-1]]
    assert {asked.label for asked in false} == {REFUTES, NOT_ENOUGH_INFO}
    refuted = [asked for asked in false if asked.label == REFUTES]
    told = [
        mentions(compose_lookup(one, 3, turn, practice_world, seed=1)["passages"][0]["text"], one.values[-1:])
        for one in refuted
        for turn in range(6)
    ]
    assert len(told) > 300
    assert sum(told) / len(told) == pytest.approx(0.5, abs=0.1)


def test_lookups_of_a_fact_are_asked_in_different_words(practice_world):
    asked = practice_world.questions[0]
    rows = [compose_lookup(asked, 1, turn, practice_world, seed=1) for turn in range(8)]
    assert len({row["question"] for row in rows}) > 2
    assert len({row["question_id"] for row in rows}) == 8


@pytest.mark.parametrize("prefix", ["", "validation_"])
def test_gold_passages_are_those_of_the_chunked_corpus(written, prefix):
    passages = {
        passage.passage_id: passage.text
        for path in (written / f"{prefix}corpus").iterdir()
        for row in rows_of(path)
        for passage in split_document(Document(row["document_id"], row["title"], row["text"], 0))
    }
    questions = rows_of(written / f"{prefix}questions" / "1.jsonl")
    assert len(questions) > 100
    for row in questions:
        assert all(mentions(passages[name], row["answers"][:1]) for name in row["gold_passage_ids"])
        assert row["gold_passage_ids"]
    for row in json.loads((written / f"{prefix}retriever" / "1.json").read_text(encoding="utf-8")):
        for context in (*row["positive_ctxs"], *row["hard_negative_ctxs"]):
            assert passages[context["passage_id"]] == context["text"]


def test_a_lookup_that_leads_astray_states_nothing_asked_about(practice_world):
    """Most are of the same article; what states the value elsewhere is passed over wherever there is another."""
    own, stating = [], []
    for asked in (*practice_world.questions, *practice_world.claims):
        (passage,) = compose_lookup(asked, ASTRAY, 0, practice_world, seed=1)["passages"]
        document, number = passage["passage_id"].split("#")
        assert passage["text"] == practice_world.passages[document][int(number)]
        assert passage["title"] == practice_world.entities[document].title
        own.append(document == asked.fact.entity_id)
        stating.append(mentions(passage["text"], asked.values[:1]))
    assert 0.5 < sum(own) / len(own) < 0.9
    assert sum(stating) < len(stating) / 20


def test_passages_of_the_same_article_that_tell_of_somebody_else_lead_astray_most_often(practice_world):
    chosen, expected = 0, 0.0
    for asked in practice_world.questions:
        article = practice_world.edition.evidence.articles[asked.fact.entity_id]
        wrong = {
            number for number, text in enumerate(article.passages()) if not mentions(text, asked.values[:1])
        }
        confusing = wrong & told_of_others(article, asked.fact.attribute)
        if not confusing or confusing == wrong:
            continue
        for turn in range(8):
            (passage,) = compose_lookup(asked, ASTRAY, turn, practice_world, seed=1)["passages"]
            document, number = passage["passage_id"].split("#")
            if document == asked.fact.entity_id:
                chosen += int(number) in confusing
                expected += len(confusing) / len(wrong)  # were they drawn without a preference
    assert chosen > 1.2 * expected > 100


@pytest.mark.parametrize("level", [ASTRAY, ASTRAY_SHORT])
def test_texts_that_lead_astray_tell_of_others_what_is_claimed_falsely(practice_world, level):
    refuted = [asked for asked in practice_world.claims if asked.label == REFUTES]
    tempting = [
        mentions(
            compose_lookup(asked, level, turn, practice_world, 1)["passages"][0]["text"], asked.values[1:]
        )
        for asked in refuted
        for turn in range(6)  # each draws its text anew
    ]
    assert sum(tempting) > len(tempting) / 10


def test_a_short_text_that_leads_astray_tells_of_others_what_is_asked_for(practice_world):
    telling = []
    for asked in (*practice_world.questions, *practice_world.claims):
        (passage,) = compose_lookup(asked, ASTRAY_SHORT, 0, practice_world, seed=1)["passages"]
        assert passage["document_id"] == asked.fact.entity_id
        assert 5 < len(passage["text"].split()) < 100
        assert not mentions(passage["text"], asked.values[:1])
        others = [
            other.fields[asked.fact.attribute]
            for other in practice_world.entities.values()
            if asked.fact.attribute in other.fields
        ]
        telling.append(mentions(passage["text"], others))
    assert sum(telling) > 0.7 * len(telling)


def test_what_is_claimed_falsely_is_often_told_of_others_in_the_same_article(practice_world):
    refuted = [asked for asked in practice_world.claims if asked.label == REFUTES]
    told = [
        mentions(practice_world.edition.evidence.articles[asked.fact.entity_id].text, asked.values[1:])
        for asked in refuted
    ]
    assert 0.2 < sum(told) / len(told) < 0.8


def test_a_claim_is_read_as_the_value_that_its_passage_states(practice_world):
    refuted_values = 0
    for asked in practice_world.claims:
        lookup = compose_lookup(asked, 3, 0, practice_world, seed=1)
        reading = compose_reading(asked, 3, 0, practice_world, seed=1)
        assert reading == lookup | {"answers": [asked.values[0]]}
        stated = mentions(reading["passages"][0]["text"], reading["answers"])
        assert stated == (asked.label != NOT_ENOUGH_INFO)
        refuted_values += asked.label == REFUTES and not mentions(reading["question"], reading["answers"])
    assert refuted_values > 10


def test_a_verdict_is_the_label_and_the_value_that_decides(practice_world):
    for label, decided in ((SUPPORTS, True), (REFUTES, True), (NOT_ENOUGH_INFO, False)):
        asked = next(asked for asked in practice_world.claims if asked.label == label)
        word, value = LABEL_WORDS[label], asked.values[0]
        for level in (*LEVELS, ASTRAY, ASTRAY_SHORT):
            target = f"{word} {value}" if decided and level in LEVELS else word
            verdict = compose_verdict(asked, level, 0, practice_world, seed=1)
            assert verdict == compose_lookup(asked, level, 0, practice_world, seed=1) | {"answers": [target]}


def test_the_words_of_verdicts_are_those_by_which_the_sample_labels():
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "rag_labels" / "generator_tokenizer")
    assert all(len(tokenizer.encode(word, add_special_tokens=False)) == 1 for word in LABEL_WORDS.values())
    steps = yaml.safe_load((MODELS.parent / "run.yaml").read_text(encoding="utf-8"))["steps"]
    assert steps["labels"]["label_set"] == [f"{label}={word}" for label, word in LABEL_WORDS.items()]


def test_files_have_the_rows_asked_for_in_mixed_order(written):
    for level in (*LEVELS, ASTRAY, ASTRAY_SHORT):
        for name in ("lookups", "claim_verdicts", "claim_readings"):
            table = pq.read_table(written / f"{name}_{level}" / "1.parquet")
            assert table.schema.equals(SCHEMA) and table.num_rows == 40
            assert pq.read_metadata(written / f"validation_{name}_{level}" / "1.parquet").num_rows == 10
    assert len(json.loads((written / "retriever" / "1.json").read_text(encoding="utf-8"))) == 60
    assert 40 < len(json.loads((written / "retriever_short" / "1.json").read_text(encoding="utf-8"))) < 60
    domains = [row["attribute"].partition(".")[0] for row in rows_of(written / "questions" / "1.jsonl")]
    assert len(set(domains[:20])) > 1 and domains != sorted(domains)


def test_rows_are_taken_again_only_when_all_were_taken_and_of_none_there_are_none():
    taken = list(_turns(["a", "b"], 3, random.Random(1)))
    assert sorted(taken[:2]) == [("a", 0), ("b", 0)] and taken[2][1] == 1
    assert list(_turns([], 3, random.Random(1))) == []


def test_questions_may_be_about_some_domains_alone(tmp_path):
    main(["--output", str(tmp_path), "--domains", "office", *OPTIONS])
    for kind in ("questions", "claims"):
        rows = rows_of(tmp_path / kind / "1.jsonl")
        assert {row["attribute"] for row in rows} == {"office.holder"}
        assert 40 < len(rows) < 200
    rows = pq.read_table(tmp_path / "lookups_astray/1.parquet").to_pylist()
    assert len(rows) == 40
    assert all(row["question_id"].startswith("office-") for row in rows)
    assert rows_of(tmp_path / "corpus/elements_1.jsonl")


def test_worlds_have_no_entity_in_common_and_the_same_seed_gives_the_same_bytes(written, tmp_path):
    documents = [row["document_id"] for path in written.glob("*corpus/*.jsonl") for row in rows_of(path)]
    assert len(set(documents)) == len(documents) == 3 * 4 * 24
    main(["--output", str(tmp_path), *OPTIONS])
    files = [path.relative_to(written) for path in written.rglob("*") if path.is_file()]
    assert len(files) == 2 * (3 + 2 + 2 + 18)
    for path in files:
        assert (written / path).read_bytes() == (tmp_path / path).read_bytes(), path
