"""Small invented worlds with their articles, questions and claims."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from examples.articles import Fact
from examples.compose import Edition, ask, choose_withheld, compose_edition
from examples.entities import Entity, Relations
from examples.patterns import Domain, Pattern
from examples.practice_countries import invent_countries
from examples.practice_elements import invent_elements
from examples.practice_names import Names
from examples.practice_offices import invent_offices
from examples.questions import (
    NOT_ENOUGH_INFO,
    REFUTES,
    SUPPORTS,
    Row,
    askable_facts,
    compose_claim,
    false_value,
    mentions,
    undecidable_claims,
)
from examples.tables import Tables

_MOST_ELEMENTS = 100
_TEMPTING = 0.8  # of the false claims whose article tells a value of somebody else: those that claim it
_WITHHELD = {"country": 0.5, "element": 0.5, "office": 0.2}  # entities of which no article states some fact


@dataclass(frozen=True, slots=True)
class Asked:
    """A question or claim with what it is about.

    Attributes:
      row: as the sample's files have it.
      values: the true value, and for a claim the one claimed.
      label: of a claim; empty for a question.
    """

    row: Row
    fact: Fact
    values: tuple[str, ...]
    label: str = ""


@dataclass(frozen=True)
class World:
    """One edition of invented entities, and all that can be asked about it."""

    tables: Tables
    edition: Edition
    questions: tuple[Asked, ...]
    claims: tuple[Asked, ...]

    @cached_property
    def entities(self) -> Mapping[str, Entity]:
        """By entity id."""
        return {entity.entity_id: entity for members in self.edition.entities.values() for entity in members}

    @cached_property
    def decoys(self) -> Mapping[tuple[str, str], Domain]:
        """By domain and attribute, the domain with no other distractors than those about the attribute."""
        return {
            (name, attribute): replace(
                domain, distractors=tuple(p for p in domain.distractors if is_about(p, attribute))
            )
            for name, domain in self.tables.domains.items()
            for attribute in domain.attributes
        }

    @cached_property
    def passages(self) -> Mapping[str, list[str]]:
        """By document id."""
        return {
            document_id: article.passages() for document_id, article in self.edition.evidence.articles.items()
        }


def is_about(pattern: Pattern, attribute: str) -> bool:
    """Whether a distractor states an attribute of others, or who held an office earlier."""
    return any(
        slot.endswith(f"_{attribute}") or (slot == "earlier" and attribute == "holder")
        for slot in pattern.slots
    )


def compose_practice_world(label: str, size: int, taken: set[str], tables: Tables, seed: int) -> World:
    """Invents a world and asks for all of its facts that can be asked for.

    Args:
      label: tells the worlds of a seed apart.
      size: countries; offices are twice as many, elements 100 at most.
      taken: names of other worlds; those of this one are added.
    """
    names = Names(random.Random(f"{seed}/{label}/names"), taken)
    countries = invent_countries(names, size)
    truth = {
        "country": countries,
        "element": invent_elements(names, min(size, _MOST_ELEMENTS)),
        "office": invent_offices(names, countries, 2 * size),
    }
    rng = random.Random(f"{seed}/{label}/withheld")
    withheld = {
        name: choose_withheld(
            truth[name], domain, int(_WITHHELD[name] * len(truth[name])), tables.aliases, rng
        )
        for name, domain in tables.domains.items()
    }
    edition = compose_edition(truth, [fact for facts in withheld.values() for fact in facts], tables, seed)
    questions: list[Asked] = []
    claims: list[Asked] = []
    for name, domain in tables.domains.items():
        fields = {entity.entity_id: entity.fields for entity in truth[name]}
        facts = askable_facts(edition.entities[name], domain, edition.evidence, tables.aliases)
        for row, fact in zip(ask(facts, edition, domain, tables, seed), facts, strict=True):
            value = fields[fact.entity_id][fact.attribute]
            # as the passages write it: another spelling is right too, but it cannot be learned by reading
            questions.append(Asked(row | {"answers": [value]}, fact, (value,)))
        unknown = [(fact, fields[fact.entity_id][fact.attribute]) for fact in withheld[name]]
        rng = random.Random(f"{seed}/{label}/claims/{name}")
        claims += _claims(edition, name, facts, unknown, tables, rng)
    return World(tables, edition, tuple(questions), tuple(claims))


def _claims(
    edition: Edition,
    name: str,
    facts: list[Fact],
    withheld: list[tuple[Fact, str]],
    tables: Tables,
    rng: random.Random,
) -> Iterator[Asked]:
    """As many claims of each label as there are undecidable ones."""
    domain, evidence = tables.domains[name], edition.evidence
    by_id = {entity.entity_id: entity for entity in edition.entities[name]}
    undecidable = list(
        undecidable_claims(edition.entities[name], withheld, domain, evidence, tables.aliases, rng)
    )

    def claim(label: str, fact: Fact, value: str, true_value: str) -> Asked:
        row = compose_claim(label, fact, value, by_id[fact.entity_id], domain, evidence, rng)
        return Asked(row, fact, (true_value, value), label)

    def false_value_of(fact: Fact) -> str | None:
        entity, relations = by_id[fact.entity_id], edition.relations[fact.entity_id]
        tempting = _told_of_others(fact, entity, relations, evidence.articles[fact.entity_id].text)
        if tempting and rng.random() < _TEMPTING:
            return rng.choice(tempting)
        return false_value(fact, entity, relations, tables.aliases, rng)

    refuted = [
        (fact, value) for fact in rng.sample(facts, len(facts)) if (value := false_value_of(fact)) is not None
    ]
    per_label = min(len(undecidable), len(refuted), len(facts))
    known = dict(withheld)
    for fact, value in undecidable[:per_label]:
        yield claim(NOT_ENOUGH_INFO, fact, value, known[fact])
    for fact, value in refuted[:per_label]:
        yield claim(REFUTES, fact, value, by_id[fact.entity_id].fields[fact.attribute])
    for fact in rng.sample(facts, per_label):
        value = by_id[fact.entity_id].fields[fact.attribute]
        yield claim(SUPPORTS, fact, value, value)


def _told_of_others(fact: Fact, entity: Entity, relations: Relations, text: str) -> list[str]:
    """Values of the same attribute that an entity's article mentions, and that are others'."""
    values = {other.fields.get(fact.attribute, "") for other in (*relations.likes, *relations.peers)}
    others = sorted(values - {"", entity.fields[fact.attribute]})
    return [value for value in others if mentions(text, [value])]
