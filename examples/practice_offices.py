"""Fact tables of invented offices, with the columns of the sample's."""

from collections.abc import Sequence

from examples.entities import Entity, make_office
from examples.practice_facts import FORMS, amid_names, with_doubles
from examples.practice_names import Names

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
_PRESENT = (2014, 2026)  # years as of whose end a world's offices are held


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
        role: title if rng.random() < 0.5 else rng.choice(FORMS["offices"])
        for role, title in _USUAL_TITLES.items()
    }
    holders = with_doubles(names, count, names.person)
    entities: list[Entity] = []
    chosen = rng.sample(countries, len(countries))
    while len(entities) < count:
        country = chosen[len(entities) * 2 // 3 % len(chosen)]
        roles = {other.fields["role"] for other in entities if other.fields["country"] == country.name}
        role = rng.choice([role for role in _ACCESSIONS if role not in roles] or [*_ACCESSIONS])
        office = usual[role]
        if rng.random() >= usually:
            office = rng.choice(FORMS["offices"])
            if rng.random() < 0.1:
                office = names.fresh(lambda: names.word().lower())
        row = {"office": office, "role": role, "accession": rng.choice(_ACCESSIONS[role])}
        earlier = None
        if rng.random() < 0.7:
            earlier = names.fresh(names.person), year - rng.randint(1, 14)
        entity = amid_names(make_office(row, country.name, holders[len(entities)], year, earlier), names)
        if entity.entity_id not in {other.entity_id for other in entities}:
            entities.append(entity)
    return entities
