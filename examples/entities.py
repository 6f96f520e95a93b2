"""Entities: rows of a fact table, and who is like whom.

The functions take any rows with the columns that the sentence patterns name, so practice articles
about invented places and people are composed by the same code as the sample.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from examples.patterns import Domain

_LIKENESS_THRESHOLD = 0.55  # Dice's coefficient: Slovakia and Slovenia are alike, Mali and Malawi are not
_MAX_LIKES = 3


@dataclass(frozen=True, slots=True)
class Entity:
    """Something an article is about.

    Attributes:
      entity_id: also the id of its article, such as `country-niger`.
      domain: the name of its domain.
      title: the title of its article.
      fields: the known facts; `name` is how sentences call it (`the Gambia`).
    """

    entity_id: str
    domain: str
    title: str
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.fields["name"]

    def without(self, attributes: Iterable[str]) -> "Entity":
        """The same entity with some facts unknown."""
        unknown = set(attributes)
        return replace(self, fields={key: value for key, value in self.fields.items() if key not in unknown})


@dataclass(frozen=True, slots=True)
class Relations:
    """The entities that an article may mention besides its own.

    Attributes:
      likes: entities of like names, the most alike first.
      peers: entities of the same group.
      before, after: neighbours in the domain's order.
    """

    likes: tuple[Entity, ...]
    peers: tuple[Entity, ...]
    before: Entity | None
    after: Entity | None


def make_entity(domain: str, fields: Mapping[str, str], title: str | None = None) -> Entity:
    """An entity from a table row; empty columns count as unknown."""
    title = title or fields["name"]
    known = {key: value for key, value in fields.items() if value}
    return Entity(f"{domain}-{slug(title)}", domain, title, known)


def make_office(
    row: Mapping[str, str], country: str, holder: str, year: int, earlier: tuple[str, int] | None = None
) -> Entity:
    """An office as of the end of a year.

    The title of its article tells the year, so that a passage read alone can be told from one of another year;
    its id does not, it is the same at all dates.

    Args:
      row: its columns `office`, `role` and `accession`.
      country: as sentences call it.
      earlier: who held it before, and at the end of which year.
    """
    name = f"{row['office']} of {country}"
    fields = {key: row[key] for key in ("office", "role", "accession")}
    fields |= {"name": f"the {name}", "country": country, "holder": holder, "date": f"the end of {year}"}
    if earlier is not None:
        fields |= {"earlier": earlier[0], "earlier_date": f"the end of {earlier[1]}"}
    office = make_entity("office", fields, title=name[0].upper() + name[1:])
    return replace(office, title=f"{office.title} in {year}")


def relate(entities: Sequence[Entity], domain: Domain) -> dict[str, Relations]:
    """The relations of each entity, by entity id. Entities are as articles know them."""
    by_group: dict[str, list[Entity]] = {}
    by_order: dict[int, Entity] = {}
    for entity in entities:
        by_group.setdefault(entity.fields[domain.group], []).append(entity)
        if domain.order and domain.order in entity.fields:
            by_order[int(entity.fields[domain.order])] = entity
    bigrams = {entity.entity_id: _bigrams(entity.fields[domain.likeness]) for entity in entities}

    def relations(entity: Entity) -> Relations:
        likeness = {
            other.entity_id: _dice(bigrams[entity.entity_id], bigrams[other.entity_id])
            for other in entities
            if other is not entity
        }
        likes = sorted(
            (other for other in entities if likeness.get(other.entity_id, 0.0) >= _LIKENESS_THRESHOLD),
            key=lambda other: (-likeness[other.entity_id], other.entity_id),
        )
        position = int(entity.fields.get(domain.order or "", -1))
        return Relations(
            likes=tuple(likes[:_MAX_LIKES]),
            peers=tuple(other for other in by_group[entity.fields[domain.group]] if other is not entity),
            before=by_order.get(position - 1),
            after=by_order.get(position + 1),
        )

    return {entity.entity_id: relations(entity) for entity in entities}


def slug(text: str) -> str:
    """Lower-case ASCII words joined by hyphens, for ids."""
    return re.sub(r"[^a-z0-9]+", "-", without_accents(text).lower()).strip("-")


def without_accents(text: str) -> str:
    """The text with combining marks removed: `Lomé` gives `Lome`."""
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _bigrams(text: str) -> frozenset[str]:
    letters = slug(text.removeprefix("the "))
    return frozenset(letters[start : start + 2] for start in range(len(letters) - 1))


def _dice(left: frozenset[str], right: frozenset[str]) -> float:
    """Dice's coefficient of two sets of letter pairs: 1 for equal names."""
    return 2 * len(left & right) / max(1, len(left) + len(right))
