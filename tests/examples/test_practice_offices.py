"""Invented offices: most of a role have one title."""

import random
from collections import Counter

from examples.practice_countries import invent_countries
from examples.practice_names import Names
from examples.practice_offices import invent_offices


def test_most_offices_of_a_role_in_a_world_have_the_same_title():
    everywhere = set()
    for seed in range(4):
        names = Names(random.Random(seed), set())
        titles: dict[str, list[str]] = {}
        for office in invent_offices(names, invent_countries(names, 60), 90):
            titles.setdefault(office.fields["role"], []).append(office.fields["office"])
        for of_role in titles.values():
            ((_, count),) = Counter(of_role).most_common(1)
            assert count > len(of_role) / 2
        everywhere.update(*titles.values())
    assert len(everywhere) > 10
