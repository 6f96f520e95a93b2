"""Invented elements: what they are called after, and who found them."""

import random
from collections import Counter

from examples.practice_elements import invent_elements
from examples.practice_names import Names


def test_elements_are_called_after_something_and_a_discoverer_may_have_found_several():
    fields = [entity.fields for entity in invent_elements(Names(random.Random(3), set()), 100)]
    begun_alike = [
        any(word.lower().startswith(row["name"][:3]) for word in row["namesake"].split())
        for row in fields
        if "namesake" in row
    ]
    assert 0.5 < sum(begun_alike) / len(begun_alike) < 0.9
    found = Counter(row["discoverer"] for row in fields if "discoverer" in row)
    assert 0.2 < sum(count for count in found.values() if count > 1) / found.total() < 0.7
    symbols = [row["symbol"] for row in fields if "symbol" in row]
    assert len(set(symbols)) == len(symbols)
