"""Sentence patterns: filling, splits, and that every slot can be filled."""

import re

import pytest

from examples.patterns import RESERVED, SHARED, Pattern, indefinite_article


def pattern(text):
    return Pattern("id", SHARED, text)


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        (
            "{name} is {a setting} country.",
            {"name": "the Gambia", "setting": "island"},
            "The Gambia is an island country.",
        ),
        ("In {name} it rains.", {"name": "the Gambia"}, "In the Gambia it rains."),
        ("It is {name}'s code.", {"name": "Niger"}, "It is Niger's code."),
        ("What is {name}'s code?", {"name": "the Netherlands"}, "What is the Netherlands' code?"),
        ("The {name} team wins.", {"name": "the Netherlands"}, "The Netherlands team wins."),
        ("Outside the {name}.", {"name": "the Gambia"}, "Outside the Gambia."),
        ("They bathe the {name}.", {"name": "theologians"}, "They bathe the theologians."),
        ("{?setting=island}Ships come.", {"setting": "island"}, "Ships come."),
        ("{?setting=island}Ships come.", {"setting": "coastal"}, None),
        ("{?ruler}Free of {ruler}.", {}, None),
        ("{name} and {like}.", {"name": "Niger"}, None),
        ("{name} and {like}.", {"name": "Niger", "like": ""}, None),
    ],
)
def test_fill(text, fields, expected):
    assert pattern(text).fill(fields) == expected


def test_conditions_are_no_slots():
    assert pattern("{?ruler}{name} is {a setting} one.").slots == {"name", "setting"}


@pytest.mark.parametrize(
    ("word", "article"),
    [
        ("island", "an"),
        ("Austrian", "an"),
        ("Ukrainian", "a"),
        ("Uzbek", "an"),
        ("uranium", "a"),
        ("European", "a"),
        ("Emirati", "an"),
        ("taoiseach", "a"),
    ],
)
def test_indefinite_article(word, article):
    assert indefinite_article(word) == article


def kinds(domain):
    yield from (domain.introductions, domain.distractors, domain.fillers)
    for attribute in domain.attributes.values():
        yield from (attribute.statements, attribute.questions, attribute.claims)


def test_a_third_of_every_kind_is_reserved(tables):
    for domain in tables.domains.values():
        for patterns in kinds(domain):
            assert 3 * sum(pattern.split == RESERVED for pattern in patterns) >= len(patterns)
            assert any(pattern.split == SHARED for pattern in patterns)


def test_ids_and_texts_are_unique_and_only_keeps_one_split(tables):
    patterns = [pattern for domain in tables.domains.values() for group in kinds(domain) for pattern in group]
    assert len(patterns) > 300
    assert len({pattern.pattern_id for pattern in patterns}) == len(patterns)
    for domain in tables.domains.values():
        texts = [pattern.text for group in kinds(domain) for pattern in group]
        # a statement and a claim may have the same words, within a kind no two do
        assert all(len({pattern.text for pattern in group}) == len(group) for group in kinds(domain)), texts
        for split in (SHARED, RESERVED):
            kept = [pattern for group in kinds(domain.only(split)) for pattern in group]
            assert kept == [pattern for group in kinds(domain) for pattern in group if pattern.split == split]


def test_slots_are_columns_and_fillers_give_no_attribute_away(tables, full_edition):
    for name, domain in tables.domains.items():
        columns = set().union(*(entity.fields for entity in full_edition.entities[name]))
        parts = ("like", "peer_a", "peer_b", "peer_c")
        known = (
            columns
            | {"value", "before", "after"}
            | {*parts}
            | {f"{part}_{column}" for part in parts for column in columns}
        )
        for group in kinds(domain):
            assert all(pattern.slots <= known for pattern in group), name
        attributes = set(domain.attributes)
        stated = attributes | {f"{part}_{attribute}" for part in parts for attribute in attributes}
        assert not any(pattern.slots & stated for pattern in (*domain.introductions, *domain.fillers))
        assert not any(pattern.slots & attributes for pattern in domain.distractors)
        for attribute in domain.attributes.values():
            assert all("value" in pattern.slots for pattern in (*attribute.statements, *attribute.claims))
            # a question and a claim stand alone: they name what they are about
            for pattern in (*attribute.questions, *attribute.claims):
                assert "name" in pattern.slots or {"office", "country"} <= pattern.slots
            assert not any("value" in pattern.slots for pattern in attribute.questions)


def test_every_pattern_is_a_sentence(tables):
    for domain in tables.domains.values():
        for attribute in domain.attributes.values():
            assert all(re.search(r"\?$|^Name .*\.$", pattern.text) for pattern in attribute.questions)
            assert all(pattern.text.endswith(".") for pattern in (*attribute.statements, *attribute.claims))
        for pattern in (*domain.introductions, *domain.distractors, *domain.fillers):
            assert pattern.text.endswith(".")
