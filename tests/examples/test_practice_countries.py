"""Invented countries: values like those of the sample, and neighbours that are alike."""

import random
import re
from itertools import combinations

import pytest

from examples.practice_countries import invent_countries
from examples.practice_names import Names


def test_values_cover_those_of_the_sample():
    names = Names(random.Random(2), set())
    fields = [entity.fields for entity in invent_countries(names, 150)]
    years = [int(row["independence"]) for row in fields if "independence" in row]
    assert min(years) < 1750 and max(years) > 1990
    codes = [row["calling_code"] for row in fields if "calling_code" in row]
    assert all(re.fullmatch(r"\+\d{1,3}(-\d{3})?", code) for code in codes)
    assert len(set(codes)) == len(codes)
    assert any(row["name"].startswith("the ") for row in fields)


def test_neighbours_have_much_in_common():
    countries = [
        entity.fields
        for seed in range(4)
        for entity in invent_countries(Names(random.Random(seed), set()), 120)
    ]
    pairs = [(one, other) for one, other in combinations(countries, 2) if one["region"] == other["region"]]

    def share(column, alike):
        known = [
            alike(one[column], other[column]) for one, other in pairs if column in one and column in other
        ]
        return sum(known) / len(known)

    assert 0.1 < share("currency", str.__eq__) < 0.35
    assert 0.15 < share("language", str.__eq__) < 0.45
    assert 0.1 < share("independence", str.__eq__) < 0.3
    assert 0.3 < share("independence", lambda one, other: abs(int(one) - int(other)) < 10) < 0.6
    assert 0.3 < share("calling_code", lambda one, other: one[:3] == other[:3]) < 0.6
    assert share("ruler", str.__eq__) > 0.4
    rulers = [row["ruler"] for row in countries if "ruler" in row]
    assert 0.2 < sum(ruler.endswith("Empire") for ruler in rulers) / len(rulers) < 0.7


@pytest.mark.parametrize("count", [1, 2, 400])
def test_a_world_may_have_few_countries_or_many(count):
    fields = [entity.fields for entity in invent_countries(Names(random.Random(4), set()), count)]
    assert len({row["name"] for row in fields}) == count
    assert 1 <= len({row["region"] for row in fields}) <= 33
    codes = [row["calling_code"] for row in fields if "calling_code" in row]
    assert len(set(codes)) == len(codes)
    assert all(row.get("ruler") != row["name"] for row in fields)
