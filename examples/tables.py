"""Reads the fact tables in `examples/facts` and the sentence patterns in `examples/sentences`."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.entities import Entity, make_entity, make_office
from examples.patterns import Domain, read_domain

FACTS = Path(__file__).parent / "facts"
SENTENCES = Path(__file__).parent / "sentences"

# the dates of earlier holders that a corpus may mention, the preferred one first
_EARLIER_DATES = {"2018": ("2010",), "2024": ("2018", "2010")}


@dataclass(frozen=True)
class Tables:
    """What the world is composed from, besides its entities."""

    domains: Mapping[str, Domain]
    aliases: Mapping[str, Sequence[str]]
    contexts: Mapping[tuple[str, str], Sequence[str]]


def read_tables() -> Tables:
    """Reads sentence patterns, aliases and contexts."""
    domains = {path.stem: read_domain(path) for path in sorted(SENTENCES.glob("*.toml"))}
    return Tables(domains, read_aliases(), read_contexts())


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of a fact table."""
    with (FACTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_entities(date: str) -> dict[str, list[Entity]]:
    """All entities by domain, with the holders of offices as of 31 December of a year."""
    countries = read_rows("countries")
    names = {row["name"]: f"{row['the']} {row['name']}".strip() for row in countries}
    return {
        "country": [
            make_entity("country", row | {"name": names[row["name"]]}, title=row["name"]) for row in countries
        ],
        "element": [
            make_entity("element", row, title=row["name"].capitalize()) for row in read_rows("elements")
        ],
        "office": [_office(row, names[row["country"]], date) for row in read_rows("offices")],
    }


def _office(row: Mapping[str, str], country: str, date: str) -> Entity:
    holder = row[f"holder_{date}"]
    earlier = (
        (row[f"holder_{year}"], int(year))
        for year in _EARLIER_DATES[date]
        if row[f"holder_{year}"] not in ("", holder)
    )
    return make_office(row, country, holder, int(date), next(earlier, None))


def read_aliases() -> dict[str, list[str]]:
    """Other spellings of a value that count as right."""
    aliases: dict[str, list[str]] = {}
    for row in read_rows("aliases"):
        aliases.setdefault(row["value"], []).append(row["alias"])
    return aliases


def read_contexts() -> dict[tuple[str, str], list[str]]:
    """True sentences about a group, by domain and group."""
    contexts: dict[tuple[str, str], list[str]] = {}
    for row in read_rows("contexts"):
        contexts.setdefault((row["domain"], row["group"]), []).append(row["sentence"])
    return contexts
