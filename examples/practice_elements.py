"""Fact tables of invented elements, with the columns of the sample's; they need not obey chemistry.

Elements of a kind were discovered in the same years, a discoverer often found several, and most are called after
something: as it is in the world.
"""

import random
from collections.abc import Sequence
from string import ascii_lowercase

from examples.entities import Entity, make_entity
from examples.practice_facts import FORMS, amid_names, maybe, with_doubles
from examples.practice_names import Names, real_names

_HIGHEST_NUMBER = 118
_FOUND_ANOTHER = 0.35  # of the discoveries, those by somebody who had made one before
_CALLED_AFTER = 0.7  # of the elements, those whose name is that of what they were named after, with an ending
_ROOT_ENDINGS = ("", "", "a", "o", "en", "is", "er", "and", "in", "us")

Discovery = tuple[str, int, str]  # by whom, in which year, of which kind of element


def invent_elements(names: Names, count: int) -> list[Entity]:
    """Elements of different numbers.

    Raises:
      ValueError: more elements than there are numbers.
    """
    if count > _HIGHEST_NUMBER:
        raise ValueError(f"{count} elements are wanted, there are numbers for {_HIGHEST_NUMBER}")
    rng = names.rng
    numbers = rng.sample(range(1, _HIGHEST_NUMBER + 1), count)
    elements = with_doubles(names, count, lambda: _element(names))
    eras = {kind: rng.randint(1650, 1980) for kind in FORMS["categories"]}
    symbols = set(real_names())
    discoveries: list[Discovery] = []
    entities = []
    for name, number in zip(elements, numbers, strict=True):
        kind = rng.choice(FORMS["categories"])
        discoveries.append(_discovery(kind, eras[kind], discoveries, names))
        discoverer, year, _ = discoveries[-1]
        row = {
            "name": name,
            "atomic_number": maybe(str(number), rng),
            "symbol": maybe(_symbol(name, symbols, rng), rng),
            "category": kind,
            "period": rng.choice(FORMS["ordinals"][:7]),
            "group": maybe(rng.choice(FORMS["ordinals"]), rng, 0.75),
            "state": rng.choice(("solid", "solid", "gas", "liquid", "")),
            "discoverer": maybe(discoverer, rng, 0.8),
            "discovery_year": maybe(str(year), rng, 0.85),
            "namesake": maybe(names.fresh(lambda name=name: _namesake(name, names)), rng, 0.8),
            "use": maybe(rng.choice(FORMS["uses"]).format(rng.choice(FORMS["materials"])), rng, 0.8),
        }
        entities.append(amid_names(make_entity("element", row, title=name.capitalize()), names))
    return entities


def _element(names: Names) -> str:
    word = names.word(syllables=(1, 1, 1, 2)).lower().replace("-", "").replace("'", "")
    return (
        word
        if names.rng.random() < 0.2
        else word.rstrip("aeiou") + names.rng.choice(FORMS["element_endings"])
    )


def _symbol(name: str, taken: set[str], rng: random.Random) -> str:
    """One or two letters, mostly the first ones of the name, that stand for no other element."""
    letters = [letter for letter in name if letter in ascii_lowercase] or ["x"]
    candidates = [letters[0] + letter for letter in letters[1:]]
    if rng.random() < 0.1:
        candidates.insert(0, letters[0])
    if rng.random() < 0.1:
        candidates = []
    symbol = next((symbol for symbol in candidates if symbol not in taken), "")
    while not symbol or symbol in taken:
        symbol = rng.choice(ascii_lowercase) + rng.choice(ascii_lowercase)
    taken.add(symbol)
    return symbol.capitalize()


def _discovery(kind: str, era: int, earlier: Sequence[Discovery], names: Names) -> Discovery:
    """Somebody new or somebody who has found another, about the time when the kind was found."""
    rng = names.rng
    if earlier and rng.random() < _FOUND_ANOTHER:
        alike = [found for found in earlier if found[2] == kind]
        discoverer, year, _ = rng.choice(alike if alike and rng.random() < 0.4 else earlier)
        return discoverer, year + rng.randint(0, 6), kind
    year = era + rng.randint(0, 30) if rng.random() < 0.6 else rng.randint(1500, 2010)
    return names.fresh(lambda: _discoverer(names)), year, kind


def _discoverer(names: Names) -> str:
    match names.rng.choices(range(4), (76, 16, 4, 4))[0]:
        case 1:
            return f"{names.person()} and {names.person()}"
        case 2:
            return f"{names.person()}, {names.person()} and {names.person()}"
        case 3:
            return f"{names.word()} and {names.person()}"
    return names.person()


def _namesake(element: str, names: Names) -> str:
    """A place, a person or a thing, mostly one whose name the element's begins with."""
    rng = names.rng
    word = names.word()
    if rng.random() < _CALLED_AFTER:
        endings = (ending for ending in FORMS["element_endings"] if element.endswith(ending))
        root = element.removesuffix(max(endings, key=len, default=""))
        word = root.capitalize() + rng.choice(_ROOT_ENDINGS)
    match rng.randrange(4):
        case 0:
            return word
        case 1:
            return f"{names.person().split()[0]} {word}"
    return names.form(FORMS["namesakes"]).format(word, names.word())
