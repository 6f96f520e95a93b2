"""What the invented fact tables of countries, elements and offices have in common."""

import random
import tomllib
from collections.abc import Callable
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
_STRANGERS = "abcdef"


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


def amid_strangers(entity: Entity, names: Names) -> Entity:
    """The entity with people of whom its article may tell something, named as those who are asked for."""
    strangers = {f"stranger_{letter}": names.fresh(names.person) for letter in _STRANGERS}
    return replace(entity, fields={**entity.fields, **strangers})
