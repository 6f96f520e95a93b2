"""What the invented fact tables of countries, elements and offices have in common."""

import random
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from examples.entities import Entity
from examples.practice_names import Names

FORMS: dict[str, Any] = tomllib.loads(
    (Path(__file__).parent / "practice_forms.toml").read_text(encoding="utf-8")
)
_KNOWN = 0.92  # how many of the facts are there
_DOUBLES = 0.35  # how many names are made by altering another one of the same world
STRANGERS = {"stranger": "abcdef"}  # people of whom an article may tell, by letter


def maybe(value: str, rng: random.Random, probability: float = _KNOWN) -> str:
    """The value, or the empty text of a fact unknown."""
    return value if rng.random() < probability else ""


def formed(names: Names, kind: str) -> str:
    """A new name in one of the forms of its kind."""
    return names.fresh(lambda: names.formed(FORMS[kind]))


def with_doubles(names: Names, count: int, make: Callable[[], str]) -> list[str]:
    """New names, some of which are like an earlier one."""
    models = [names.fresh(make) for _ in range(count - int(_DOUBLES * count))]
    doubles = [
        names.fresh(lambda: names.altered(names.rng.choice(models))) for _ in range(int(_DOUBLES * count))
    ]
    return names.rng.sample(models + doubles, count)


def amid_names(entity: Entity, names: Names, besides: Mapping[str, str] = STRANGERS) -> Entity:
    """The entity with names that its article may mention and nobody asks for, in fields as `stranger_a`.

    Strangers are named as the people who are asked for. Whoever reads learns that a name is not a value, be it
    ever so new.

    Args:
      besides: the letters of each kind of name; a kind is one of `practice_forms.toml`, or `stranger`.
    """
    others = {
        f"{kind}_{letter}": names.fresh(names.person) if kind in STRANGERS else formed(names, kind)
        for kind, letters in besides.items()
        for letter in letters
    }
    return replace(entity, fields={**entity.fields, **others})
