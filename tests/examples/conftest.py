"""The sample world and one of practice, composed once for all tests of them."""

import pytest

from examples.compose import DATES, compose_edition, compose_world
from examples.practice_patterns import read_practice_tables
from examples.practice_worlds import compose_practice_world
from examples.tables import read_entities, read_tables


@pytest.fixture(scope="session")
def tables():
    return read_tables()


@pytest.fixture(scope="session")
def world():
    """Rows by file name."""
    return compose_world()


@pytest.fixture(scope="session")
def documents(world):
    """The main sample's corpus: document id to row."""
    files = ("corpus/countries.jsonl", "corpus/elements.jsonl", "leaders_2024.jsonl")
    return {row["document_id"]: row for name in files for row in world[name]}


@pytest.fixture(scope="session")
def full_edition(tables):
    """Articles of 2024 from which no fact is withheld."""
    return compose_edition(read_entities(DATES[-1]), [], tables, seed=1)


@pytest.fixture(scope="session")
def practice_world():
    return compose_practice_world("test/0", 40, set(), read_practice_tables(), seed=1)
