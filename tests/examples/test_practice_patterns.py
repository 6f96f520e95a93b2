"""Practice patterns: many, in the words of the reserved ones, and none of them a reserved one."""

import re

import pytest

from examples.patterns import PRACTICE, RESERVED, SHARED
from examples.practice_patterns import alternatives, read_practice_tables
from tests.examples.test_patterns import kinds

RUN = 5  # words, slots counted as words; four in a row such as `the capital of {name}` cannot be avoided


@pytest.fixture(scope="module")
def practice():
    return read_practice_tables().domains


def words(text):
    text = re.sub(r"\{\?[^}]*\}", "", text).replace("{a ", "{a_")
    return [re.sub(r"[^\w{}']", "", word).lower() for word in text.split()]


def runs(text):
    of_text = words(text)
    return {tuple(of_text[start : start + RUN]) for start in range(len(of_text) - RUN + 1)}


def by_subject(domain):
    """All patterns of an attribute together, and those of each other kind."""
    yield from ((kind, getattr(domain, kind)) for kind in ("introductions", "distractors", "fillers"))
    for name, attribute in domain.attributes.items():
        yield name, (*attribute.statements, *attribute.questions, *attribute.claims)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Plain.", ["Plain."]),
        ("It (is|was) so.", ["It is so.", "It was so."]),
        ("(A|The) code (first|).", ["A code first.", "A code.", "The code first.", "The code."]),
        ("One (thing) only.", ["One (thing) only."]),
    ],
)
def test_alternatives(line, expected):
    assert alternatives(line) == expected


def test_of_a_line_of_many_choices_some_sentences_are_drawn_and_always_the_same():
    line = "(A|The|One|Some) code (first|next|then|) (is|was|remains) (there|here)."
    every = alternatives(line)
    drawn = alternatives(line, most=20)
    assert len(every) == 96
    assert len(drawn) == len(set(drawn)) == 20
    assert set(drawn) < set(every)
    assert drawn == alternatives(line, most=20)
    assert alternatives(line, most=96) == every
    # not the first ones alone: each choice is met in each of its ways
    assert all(any(word in text.split() for text in drawn) for word in ("Some", "then", "remains", "here."))


def test_practice_has_nothing_reserved_and_the_sample_nothing_for_practice(practice, tables):
    for domain in practice.values():
        assert {pattern.split for group in kinds(domain) for pattern in group} == {SHARED, PRACTICE}
    for domain in tables.domains.values():
        assert {pattern.split for group in kinds(domain) for pattern in group} == {SHARED, RESERVED}


def test_there_are_many_of_each_kind_with_ids_of_their_own(practice):
    patterns = {pattern for domain in practice.values() for group in kinds(domain) for pattern in group}
    assert len({pattern.pattern_id for pattern in patterns}) == len(patterns) > 1500
    for domain in practice.values():
        for group in kinds(domain):
            assert len({pattern.text for pattern in group}) == len(set(group))
        for attribute in domain.attributes.values():
            for group in (attribute.statements, attribute.questions, attribute.claims):
                assert len(set(group)) >= 20
                assert all(pattern.text.endswith((".", "?")) for pattern in group)


def test_questions_and_claims_can_be_asked_about_every_entity(practice):
    always = {
        "country": {"name", "demonym", "region", "value"},
        "element": {"name", "value"},
        "office": {"name", "country", "office", "value"},
    }
    for domain, columns in always.items():
        for attribute in practice[domain].attributes.values():
            for pattern in (*attribute.questions, *attribute.claims):
                assert pattern.slots <= columns, pattern.text


def test_shared_patterns_are_drawn_more_often_than_they_are_many(practice):
    for domain in practice.values():
        for attribute in domain.attributes.values():
            for group in (attribute.statements, attribute.questions, attribute.claims):
                assert_shared_are_drawn_often(group)
        assert_shared_are_drawn_often(domain.fillers)


def assert_shared_are_drawn_often(group):
    shared = [pattern for pattern in group if pattern.split == SHARED]
    assert len(set(shared)) / len(set(group)) < 0.15
    assert len(shared) / len(group) == pytest.approx(0.3, abs=0.05)


def test_no_practice_pattern_shares_a_run_of_words_with_a_reserved_one(practice, tables):
    for name, domain in practice.items():
        reserved = dict(by_subject(tables.domains[name].only(RESERVED)))
        for subject, patterns in by_subject(domain):
            taken = set().union(*(runs(pattern.text) for pattern in reserved[subject]))
            whole = {tuple(words(pattern.text)) for pattern in reserved[subject]}
            for pattern in patterns:
                if pattern.split == PRACTICE:
                    assert not runs(pattern.text) & taken, pattern
                    assert tuple(words(pattern.text)) not in whole, pattern


def test_offices_have_one_article(practice):
    """`{name}` is "the king of Spain": where "the serving the king" told of others, that gave them away."""
    adjectives = r"(?:current|present|present-day|serving|sitting|incumbent|ruling|rightful|lawful|latest)"
    twice = re.compile(rf"\bthe (?:{adjectives} )*\{{(?:name|like|peer_[abc])\}}", re.IGNORECASE)
    for group in kinds(practice["office"]):
        assert not [pattern for pattern in group if twice.search(pattern.text)]


def test_the_words_of_reserved_patterns_are_met_in_practice(practice, tables):
    for name, domain in practice.items():
        met = {
            subject: {word for pattern in patterns for word in words(pattern.text)}
            for subject, patterns in by_subject(domain)
        }
        for attribute in domain.attributes:
            reserved = dict(by_subject(tables.domains[name].only(RESERVED)))[attribute]
            unmet = {word for pattern in reserved for word in words(pattern.text)} - met[attribute]
            assert not unmet, (attribute, unmet)


def test_slots_are_those_of_the_shared_patterns(practice):
    for domain in practice.values():
        attributes = set(domain.attributes)
        for attribute in domain.attributes.values():
            for pattern in (*attribute.statements, *attribute.claims):
                assert "value" in pattern.slots, pattern
            for pattern in attribute.questions:
                assert "value" not in pattern.slots, pattern
            for pattern in (*attribute.questions, *attribute.claims):
                assert "name" in pattern.slots or {"office", "country"} <= pattern.slots, pattern
        parts = ("like", "peer_a", "peer_b", "peer_c")
        stated = attributes | {f"{part}_{attribute}" for part in parts for attribute in attributes}
        for pattern in (*domain.introductions, *domain.fillers):
            assert not pattern.slots & stated, pattern
        for pattern in domain.distractors:
            assert pattern.slots & (stated | {"earlier"}), pattern
            assert not pattern.slots & attributes, pattern


def test_half_of_the_distractors_are_claims_told_of_others(practice):
    for domain in practice.values():
        claims = {
            re.sub(r"\{[^}]*\}", "_", pattern.text)
            for attribute in domain.attributes.values()
            for pattern in attribute.claims
        }
        distractors = {pattern for pattern in domain.distractors if pattern.split == PRACTICE}
        retold = [p for p in distractors if re.sub(r"\{[^}]*\}", "_", p.text) in claims]
        assert 0.45 <= len(retold) / len(distractors) <= 0.55
        told_of = [re.search(r"like|peer", pattern.text)[0] for pattern in retold]
        assert 0.4 <= told_of.count("like") / len(retold) <= 0.6
        for pattern in retold:  # nothing of the article's own entity: it is all about one other
            others = {re.match(r"like|peer_[abc]", slot) for slot in pattern.slots}
            assert None not in others
            assert len({other[0] for other in others}) == 1
