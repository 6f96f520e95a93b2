"""Invented names: each once, and none of the sample's."""

import random
import re

from examples.entities import slug
from examples.practice_names import Names, people, real_names


def test_names_are_given_out_once_and_depend_on_the_seed_alone():
    def given(seed, taken):
        names = Names(random.Random(seed), taken)
        return [names.fresh(names.person) for _ in range(300)]

    taken = set()
    first = given(1, taken)
    assert first == given(1, set())
    assert len({slug(name) for name in first}) == 300
    assert not {slug(name) for name in first} & {slug(name) for name in given(1, taken)}


def test_people_have_names_of_many_regions_and_no_word_of_a_name_in_the_sample():
    bears = {word for name in real_names() for word in name.split("-")}
    regions = people()
    assert len(regions) > 40
    for given, family in regions:
        assert len(set(given)) == len(given) > 70 and len(set(family)) == len(family) > 100
        assert not {word for name in (*given, *family) for word in slug(name).split("-")} & bears
    names = Names(random.Random(1), set())
    of_regions = {word for region in regions for part in region for name in part for word in name.split()}
    made = [names.fresh(names.person) for _ in range(500)]
    assert 250 < sum(name.split()[0] in of_regions for name in made) < 400
    assert 5 < sum(len(name.split()) > 3 for name in made) < 50


def test_an_altered_name_is_another_but_like_the_first():
    names = Names(random.Random(1), set())
    for _ in range(50):
        altered = names.altered("the Tegurimba Islands")
        assert re.fullmatch(r"the [\w']+ Islands", altered)
        assert len(set("tegurimba") & set(altered[4:-8].lower())) >= 5
