"""Fact tables of invented worlds: countries, elements and offices with the columns of the sample's."""

import random
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from examples.entities import Entity, make_entity, make_office
from examples.practice_names import Names, real_names

_FORMS: dict[str, Any] = tomllib.loads(
    (Path(__file__).parent / "practice_forms.toml").read_text(encoding="utf-8")
)
_KNOWN = 0.92  # how many of the facts are there
_DOUBLES = 0.35  # how many names are made by altering another one of the same world
_ACCESSIONS = {
    "head of state": ("elected", "hereditary", "ceremonial", "appointed"),
    "head of government": ("parliamentary", "parliamentary", "appointed"),
    "head of state and government": ("elected", "appointed", "hereditary"),
}
_USUAL_TITLES = {
    "head of state": "president",
    "head of government": "prime minister",
    "head of state and government": "president",
}
_USUALLY = (0.8, 0.9, 0.98)  # of the offices of a role bear the usual title, by world
_HIGHEST_NUMBER = 118
_PRESENT = (2014, 2026)  # years as of whose end a world's offices are held


def _maybe(value: str, rng: random.Random, probability: float = _KNOWN) -> str:
    """The value, or the empty text of a fact unknown."""
    return value if rng.random() < probability else ""


def _formed(names: Names, kind: str) -> str:
    """A new name in one of the forms of its kind."""
    return names.fresh(lambda: names.formed(_FORMS[kind]))


def _with_doubles(names: Names, count: int, make: Callable[[], str]) -> list[str]:
    """New names, some of which are like an earlier one."""
    models = [names.fresh(make) for _ in range(count - int(_DOUBLES * count))]
    doubles = [
        names.fresh(lambda: names.altered(names.rng.choice(models))) for _ in range(int(_DOUBLES * count))
    ]
    return names.rng.sample(models + doubles, count)


def _demonym(country: str, rng: random.Random) -> str:
    stem = (
        max(country.removeprefix("the ").replace("-", " ").split(), key=len).rstrip("aeiouyáéíóúãāīū's")
        or "Ar"
    )
    return stem + rng.choice(
        ("ian", "ian", "an", "an", "ese", "i", "ish", "ic", "er", "ean", "ite", "ch", "ien")
    )


def _year(rng: random.Random) -> str:
    """Most years of independence are late ones."""
    early, late = ((1500, 1899), (1900, 2010))[rng.random() < 0.7]
    return str(rng.randint(early, late))


def invent_countries(names: Names, count: int) -> list[Entity]:
    """Countries in regions of about ten, whose members may share currencies and languages."""
    rng = names.rng
    regions = [_formed(names, "regions") for _ in range(max(1, count // 10))]
    languages = [names.fresh(lambda: _demonym(names.word(), rng)) for _ in regions for _ in range(3)]
    unions = [names.fresh(lambda: f"{names.word()} {rng.choice(_FORMS['units'])}") for _ in regions]
    empires = [names.fresh(lambda: f"the {_demonym(names.word(), rng)} Empire") for _ in regions]
    codes = rng.sample(range(1, 1000), count)
    capitals = _with_doubles(names, count, lambda: names.formed(_FORMS["places"]))
    entities = []
    for name, capital, code in zip(
        _with_doubles(names, count, lambda: names.formed(_FORMS["countries"])), capitals, codes, strict=True
    ):
        place = rng.randrange(len(regions))
        setting = rng.choice(("coastal", "coastal", "island", "landlocked"))
        demonym = _demonym(name, rng)
        own_currency = names.fresh(partial(_currency, demonym, names))
        own_language = demonym if rng.random() < 0.3 else _demonym(names.word(), rng)
        independence = _maybe(_year(rng), rng, 0.85)
        row = {
            "name": name,
            "region": regions[place],
            "setting": setting,
            "waters": "" if setting == "landlocked" else _formed(names, "waters"),
            "demonym": demonym,
            "capital": _maybe(capital, rng),
            "currency": _maybe(unions[place] if rng.random() < 0.15 else own_currency, rng),
            "language": _maybe(rng.choice(languages) if rng.random() < 0.5 else own_language, rng, 0.75),
            "independence": independence,
            "ruler": _maybe(rng.choice(empires), rng, 0.6) if independence else "",
            "highest_point": _maybe(_formed(names, "heights"), rng),
            "domain": "." + "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=2)),
            "calling_code": _maybe(_calling_code(code, rng), rng),
            "landmark": _formed(names, "sights"),
        }
        entities.append(_amid_strangers(make_entity("country", row, title=name.removeprefix("the ")), names))
    return entities


def _currency(demonym: str, names: Names) -> str:
    """A unit of money, often with the nation's name before it."""
    rng = names.rng
    unit = rng.choice(_FORMS["units"]) if rng.random() < 0.6 else names.word().lower()
    return f"{demonym} {unit}" if rng.random() < 0.7 else names.word().lower()


def _calling_code(code: int, rng: random.Random) -> str:
    """Now and then a code with an area code, as `+1-242`."""
    return f"+{code}-{rng.randint(200, 999)}" if code < 10 or rng.random() < 0.05 else f"+{code}"


def _amid_strangers(entity: Entity, names: Names) -> Entity:
    """The entity with people of whom its article may tell something, named as those who are asked for."""
    strangers = {f"stranger_{letter}": names.fresh(names.person) for letter in "abcdef"}
    return replace(entity, fields={**entity.fields, **strangers})


def invent_elements(names: Names, count: int) -> list[Entity]:
    """Elements of different numbers; they need not obey chemistry.

    Raises:
      ValueError: more elements than there are numbers.
    """
    if count > _HIGHEST_NUMBER:
        raise ValueError(f"{count} elements are wanted, there are numbers for {_HIGHEST_NUMBER}")
    rng = names.rng
    numbers = rng.sample(range(1, _HIGHEST_NUMBER + 1), count)
    elements = _with_doubles(names, count, lambda: _element(names))
    symbols = set(real_names())
    entities = []
    for name, number in zip(elements, numbers, strict=True):
        row = {
            "name": name,
            "atomic_number": _maybe(str(number), rng),
            "symbol": _maybe(_symbol(name, symbols, rng), rng),
            "category": rng.choice(_FORMS["categories"]),
            "period": rng.choice(_FORMS["ordinals"][:7]),
            "group": _maybe(rng.choice(_FORMS["ordinals"]), rng, 0.75),
            "state": rng.choice(("solid", "solid", "gas", "liquid", "")),
            "discoverer": _maybe(names.fresh(lambda: _discoverer(names)), rng, 0.8),
            "discovery_year": _maybe(str(rng.randint(1500, 2010)), rng, 0.85),
            "namesake": _maybe(names.fresh(lambda: _namesake(names)), rng, 0.8),
            "use": _maybe(rng.choice(_FORMS["uses"]).format(rng.choice(_FORMS["materials"])), rng, 0.8),
        }
        entities.append(_amid_strangers(make_entity("element", row, title=name.capitalize()), names))
    return entities


def _element(names: Names) -> str:
    word = names.word(syllables=(1, 1, 1, 2)).lower().replace("-", "").replace("'", "")
    return (
        word
        if names.rng.random() < 0.2
        else word.rstrip("aeiou") + names.rng.choice(_FORMS["element_endings"])
    )


def _symbol(name: str, taken: set[str], rng: random.Random) -> str:
    """One or two letters, mostly from the name, that stand for no other element."""
    letters = [letter for letter in name if letter in ascii_lowercase] or ["x"]
    candidates = [letters[0] + letter for letter in letters[1:]]
    if rng.random() < 0.1:
        candidates.insert(0, letters[0])
    if rng.random() < 0.2:
        candidates = []
    symbol = next((symbol for symbol in candidates if symbol not in taken), "")
    while not symbol or symbol in taken:
        symbol = rng.choice(ascii_lowercase) + rng.choice(ascii_lowercase)
    taken.add(symbol)
    return symbol.capitalize()


def _discoverer(names: Names) -> str:
    match names.rng.choices(range(4), (76, 16, 4, 4))[0]:
        case 1:
            return f"{names.person()} and {names.person()}"
        case 2:
            return f"{names.person()}, {names.person()} and {names.person()}"
        case 3:
            return f"{names.word()} and {names.person()}"
    return names.person()


def _namesake(names: Names) -> str:
    match names.rng.randrange(4):
        case 0:
            return names.formed(_FORMS["places"])
        case 1:
            return names.person()
    return names.formed(_FORMS["namesakes"])


def invent_offices(names: Names, countries: Sequence[Entity], count: int) -> list[Entity]:
    """Offices of some of the countries, one or two in each, with their holders at two dates.

    The later is the date of the whole world, of the last dozen years as a corpus is that somebody asks about
    today: a reader may learn which years can be the present and which are past for certain.

    In a world most offices of a role have the same title, as there are presidents nearly everywhere: an office
    is told from those that its article mentions by its country, seldom by its title.
    """
    rng = names.rng
    year = rng.randint(*_PRESENT)
    usually = rng.choice(_USUALLY)
    usual = {
        role: title if rng.random() < 0.5 else rng.choice(_FORMS["offices"])
        for role, title in _USUAL_TITLES.items()
    }
    holders = _with_doubles(names, count, names.person)
    entities: list[Entity] = []
    chosen = rng.sample(countries, len(countries))
    while len(entities) < count:
        country = chosen[len(entities) * 2 // 3 % len(chosen)]
        roles = {other.fields["role"] for other in entities if other.fields["country"] == country.name}
        role = rng.choice([role for role in _ACCESSIONS if role not in roles] or [*_ACCESSIONS])
        office = usual[role]
        if rng.random() >= usually:
            office = rng.choice(_FORMS["offices"])
            if rng.random() < 0.1:
                office = names.fresh(lambda: names.word().lower())
        row = {"office": office, "role": role, "accession": rng.choice(_ACCESSIONS[role])}
        earlier = None
        if rng.random() < 0.7:
            earlier = names.fresh(names.person), year - rng.randint(1, 14)
        entity = make_office(row, country.name, holders[len(entities)], year, earlier)
        entity = _amid_strangers(entity, names)
        if entity.entity_id not in {other.entity_id for other in entities}:
            entities.append(entity)
    return entities
