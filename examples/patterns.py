"""Sentence patterns as data: one TOML file a domain, in `examples/sentences`.

A pattern has an id such as `country.capital.question.e` and a split. Patterns of the split `reserved`
are for the sample alone; practice articles and questions, on which models are trained, are composed
from `shared` ones and from `practice` ones (`examples.practice_patterns`), which the sample has not. So
scores on seen and on unseen patterns can be told apart.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

SHARED = "shared"
RESERVED = "reserved"
PRACTICE = "practice"

_SLOT = re.compile(r"\{(\?|a )?(\w+)(?:=([\w ]+))?\}")
# "the {country} team" where the country is the Netherlands
_ARTICLE_TWICE = re.compile(r"\b(the) the\b", re.IGNORECASE)
# an initial U that is pronounced as in "you" takes "a"
_CONSONANT_SOUND = re.compile(r"(?:eu|uk|ug|uru|uni|uran|us\b|one\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A sentence with slots.

    Slots: `{column}`; `{a column}` with its indefinite article; `{?column}` or `{?column=value}`, a
    condition that leaves no text.
    """

    pattern_id: str
    split: str
    text: str

    @property
    def slots(self) -> frozenset[str]:
        """The columns that become text."""
        return _slots(self.text)

    def fill(self, fields: Mapping[str, str]) -> str | None:
        """The sentence, its first letter a capital; None where a column is missing or a condition fails."""
        for mark, slot, wanted in _parsed(self.text):
            value = fields.get(slot, "")
            if not value or (mark == "?" and wanted and value != wanted):
                return None
        sentence = _SLOT.sub(lambda match: _slot_text(match, fields), self.text).replace("s's ", "s' ")
        sentence = _ARTICLE_TWICE.sub(r"\1", sentence)
        return sentence[0].upper() + sentence[1:]


@cache
def _parsed(text: str) -> tuple[tuple[str, str, str], ...]:
    """Mark, column and wanted value of each slot."""
    return tuple(_SLOT.findall(text))


@cache
def _slots(text: str) -> frozenset[str]:
    return frozenset(slot for mark, slot, _ in _parsed(text) if mark != "?")


def _slot_text(match: re.Match[str], fields: Mapping[str, str]) -> str:
    mark, value = match[1], fields[match[2]]
    if mark == "?":
        return ""
    return f"{indefinite_article(value)} {value}" if mark == "a " else value


def indefinite_article(word: str) -> str:
    """`a` or `an`, as the word is pronounced."""
    vowel_sound = word[0].lower() in "aeiou" and not _CONSONANT_SOUND.match(word)
    return "an" if vowel_sound else "a"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A kind of fact: how articles state it, how it is asked for and how it is claimed.

    Attributes:
      unique: two entities seldom or never share a value, so that a value known to be one entity's
        speaks against its being another's.
    """

    name: str
    unique: bool
    statements: tuple[Pattern, ...]
    questions: tuple[Pattern, ...]
    claims: tuple[Pattern, ...]


@dataclass(frozen=True)
class Domain:
    """All patterns about one kind of entity.

    Attributes:
      group: the column whose equal values make entities peers.
      likeness: the column by which entities may be mistaken for each other.
      order: a column of whole numbers that puts entities in a row, or None.
      distractors: sentences that state facts of other entities.
      fillers: sentences that state none of the attributes.
    """

    name: str
    group: str
    likeness: str
    order: str | None
    introductions: tuple[Pattern, ...]
    attributes: Mapping[str, Attribute]
    distractors: tuple[Pattern, ...]
    fillers: tuple[Pattern, ...]

    @cached_property
    def introduction_slots(self) -> frozenset[str]:
        """The slots of all introductions."""
        return frozenset[str]().union(*(pattern.slots for pattern in self.introductions))

    @cached_property
    def distractor_slots(self) -> frozenset[frozenset[str]]:
        """The slots of each distractor; of thousands that practice has, most share theirs with others."""
        return frozenset(pattern.slots for pattern in self.distractors)

    def only(self, split: str) -> "Domain":
        """The same domain with the patterns of one split."""

        def keep(patterns: tuple[Pattern, ...]) -> tuple[Pattern, ...]:
            return tuple(pattern for pattern in patterns if pattern.split == split)

        return replace(
            self,
            introductions=keep(self.introductions),
            attributes={
                name: replace(
                    attribute,
                    statements=keep(attribute.statements),
                    questions=keep(attribute.questions),
                    claims=keep(attribute.claims),
                )
                for name, attribute in self.attributes.items()
            },
            distractors=keep(self.distractors),
            fillers=keep(self.fillers),
        )


def read_domain(path: Path) -> Domain:
    """Reads one pattern file; the domain is named after the file."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    name = path.stem

    def patterns(splits: Mapping[str, Mapping[str, str]], *kind: str) -> tuple[Pattern, ...]:
        return tuple(
            Pattern(".".join([name, *kind, key]), split, text)
            for split in (SHARED, RESERVED)
            for key, text in splits[split].items()
        )

    return Domain(
        name=name,
        group=table["group"],
        likeness=table["likeness"],
        order=table.get("order"),
        introductions=patterns(table["introductions"], "introduction"),
        attributes={
            attribute: Attribute(
                name=attribute,
                unique=kinds.get("unique", False),
                statements=patterns(kinds["statements"], attribute, "statement"),
                questions=patterns(kinds["questions"], attribute, "question"),
                claims=patterns(kinds["claims"], attribute, "claim"),
            )
            for attribute, kinds in table["attributes"].items()
        },
        distractors=patterns(table["distractors"], "distractor"),
        fillers=patterns(table["fillers"], "filler"),
    )
