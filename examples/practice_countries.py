"""Fact tables of invented countries, with the columns of the sample's.

Neighbours are alike, as they are in the world: they were ruled from the same place and became independent in the
same years, speak one language, pay in one currency or in units of one name, and are called by numbers that begin
alike. So a true value may be another's too, and a false one differs from it in a single digit.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from examples.entities import Entity, make_entity
from examples.practice_facts import FORMS, STRANGERS, amid_names, formed, maybe, with_doubles
from examples.practice_names import Names

_REGION_SIZE = 10  # countries, more or less
_MOST_REGIONS = 33  # each has three of the 99 beginnings of calling codes
_CAPITAL_ALIKE = 0.06  # of the countries and their capitals, how many are called after each other
_COMPASS = ("North", "South", "East", "West")
BESIDES = STRANGERS | {  # what an article may name that nobody asks for
    "body": "abcd",
    "event": "abc",
    "firm": "abc",
    "place": "abcdef",
    "sea": "ab",
    "river": "ab",
    "range": "ab",
    "people": "ab",
    "era": "abc",
}


@dataclass(frozen=True, slots=True)
class _Region:
    """What the countries of a part of the world have in common.

    Attributes:
      languages: the first is spoken most.
      union: a currency that some of the countries share; `united` of them do.
      units: what other currencies are called.
      powers: who ruled there.
      freed: the year in which many became independent.
      zones: with which calling codes begin, most with the first.
    """

    name: str
    seas: Sequence[str]
    languages: Sequence[str]
    union: str
    united: float
    units: Sequence[str]
    powers: Sequence[str]
    freed: int
    zones: Sequence[str]


def invent_countries(names: Names, count: int) -> list[Entity]:
    """Countries in regions of about ten, of more where there are many."""
    rng = names.rng
    called = with_doubles(names, count, lambda: names.formed(FORMS["countries"]))
    regions = _regions(names, min(_MOST_REGIONS, max(1, count // _REGION_SIZE)), called)
    capitals = with_doubles(names, count, lambda: names.formed(FORMS["places"]))
    codes: set[str] = set()
    entities = []
    for name, capital in zip(called, capitals, strict=True):
        region = rng.choice(regions)
        setting = rng.choice(("coastal", "coastal", "island", "landlocked"))
        demonym = _demonym(name, rng)
        independence = maybe(_independence(region, rng), rng, 0.85)
        if rng.random() < _CAPITAL_ALIKE:
            capital = names.fresh(lambda name=name: names.altered(_longest_word(name)))
        row = {
            "name": name,
            "region": region.name,
            "setting": setting,
            "waters": "" if setting == "landlocked" else rng.choice(region.seas),
            "demonym": demonym,
            "capital": maybe(capital, rng),
            "currency": maybe(_currency(demonym, region, names), rng),
            "language": maybe(_language(demonym, region, names), rng, 0.75),
            "independence": independence,
            "ruler": maybe(_ruler(name, region, rng), rng, 0.8) if independence else "",
            "highest_point": maybe(formed(names, "heights"), rng),
            "domain": "." + "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=2)),
            "calling_code": maybe(_calling_code(region, codes, rng), rng),
            "landmark": formed(names, "sights"),
        }
        country = make_entity("country", row, title=name.removeprefix("the "))
        entities.append(amid_names(country, names, BESIDES))
    return entities


def _regions(names: Names, count: int, countries: Sequence[str]) -> list[_Region]:
    rng = names.rng
    half = max(1, count // 2)
    powers = [
        *(names.fresh(lambda: f"the {_demonym(names.word(), rng)} Empire") for _ in range(half)),
        *(formed(names, "countries") for _ in range(half)),
        *rng.sample(countries, max(1, count // 4)),
    ]
    zones = rng.sample(range(1, 100), 3 * count)
    return [
        _Region(
            name=formed(names, "regions"),
            seas=[formed(names, "waters") for _ in range(rng.choice((1, 2, 3)))],
            languages=[names.fresh(lambda: _demonym(names.word(), rng)) for _ in range(3)],
            union=names.fresh(lambda: _union(names)),
            united=rng.choice((0.0, 0.0, 0.6)),
            units=rng.sample(FORMS["units"], 2),
            powers=rng.sample(powers, 2),
            freed=rng.randint(*((1800, 1939), (1940, 1999))[rng.random() < 0.7]),
            zones=[str(zone) for zone in zones[3 * number : 3 * number + 3]],
        )
        for number in range(count)
    ]


def _union(names: Names) -> str:
    """The currency of several countries."""
    unit = names.rng.choice(FORMS["units"])
    match names.rng.randrange(3):
        case 0:
            return f"{names.word()} {unit}"
        case 1:
            return f"{names.rng.choice(_COMPASS)} {_demonym(names.word(), names.rng)} {unit}"
    return names.word().lower()


def _demonym(country: str, rng: random.Random) -> str:
    stem = _longest_word(country.replace("-", " ")).rstrip("aeiouyáéíóúãāīū's") or "Ar"
    demonym = stem + rng.choice(
        ("ian", "ian", "an", "an", "ese", "i", "ish", "ic", "er", "ean", "ite", "ch", "ien")
    )
    side = country.split()[0]
    return f"{side} {demonym}" if side in _COMPASS and rng.random() < 0.7 else demonym


def _longest_word(country: str) -> str:
    return max(country.removeprefix("the ").split(), key=len)


def _independence(region: _Region, rng: random.Random) -> str:
    """A year: that of many in the region, one not far from it, or any."""
    match rng.choices(range(3), (40, 35, 25))[0]:
        case 0:
            return str(region.freed)
        case 1:
            return str(region.freed + rng.randint(-5, 20))
    early, late = ((1500, 1899), (1900, 2010))[rng.random() < 0.7]
    return str(rng.randint(early, late))


def _ruler(country: str, region: _Region, rng: random.Random) -> str:
    return rng.choice([power for power in region.powers if power != country])


def _currency(demonym: str, region: _Region, names: Names) -> str:
    """A unit of money, often with the nation's name before it."""
    rng = names.rng
    if rng.random() < region.united:
        return region.union
    unit = rng.choice(region.units) if rng.random() < 0.6 else names.word().lower()
    return names.fresh(lambda: f"{demonym} {unit}" if rng.random() < 0.6 else names.word().lower())


def _language(demonym: str, region: _Region, names: Names) -> str:
    """That of neighbours, the nation's own, or another."""
    rng = names.rng
    if rng.random() < 0.7:
        return rng.choices(region.languages, (8, 2, 1))[0]
    return demonym if rng.random() < 0.7 else _demonym(names.word(), rng)


def _calling_code(region: _Region, given: set[str], rng: random.Random) -> str:
    """One that is not given yet; now and then one with an area code, as `+1-242`."""
    while True:
        (zone,) = rng.choices(region.zones, (6, 2, 1))
        code = f"+{zone}{rng.randrange(10)}" if rng.random() < 0.8 else f"+{zone}"
        if rng.random() < 0.05:
            code = f"+{zone[0]}-{rng.randint(200, 999)}"
        if code not in given:
            given.add(code)
            return code
