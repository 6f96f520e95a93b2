"""Training data for the retriever in DPR's format: passages that answer, and passages that only seem to."""

import random
from collections.abc import Iterator
from typing import Any

from examples.articles import Fact
from examples.entities import Entity
from examples.practice_worlds import Asked, World

_MOST_PEERS = 4  # of each kind of other entities that lend their passages


def compose_training_row(
    asked: Asked, world: World, hard_negatives: int, rng: random.Random
) -> dict[str, Any]:
    """A question or claim with its passages.

    Positive are the passages that state the fact, the entity's own first; for a claim that cannot be
    decided all passages of its entity's article, in random order. Half of the hard negatives are other
    passages of the same article, as far as there are; the rest are of articles about entities of like names
    or of the same group.

    Args:
      hard_negatives: how many at most.
    """
    own = asked.fact.entity_id
    numbers = range(len(world.passages[own]))
    positives = [
        (document, number) for document, number, _ in world.edition.evidence.places.get(asked.fact, ())
    ]
    article = [(own, number) for number in rng.sample(numbers, len(numbers))]
    positives = list(dict.fromkeys(positives)) or article
    others = dict.fromkeys(passages_of_others(world.entities[own], asked.fact.attribute, world, rng))
    negatives = [place for place in article if place not in positives][: hard_negatives // 2]
    elsewhere = [place for place in others if place not in positives]
    negatives += rng.sample(elsewhere, min(hard_negatives - len(negatives), len(elsewhere)))
    return {
        "question_id": asked.row["question_id"],
        "question": asked.row["question"],
        "answers": asked.row["answers"],
        "positive_ctxs": [_context(place, world) for place in positives],
        "negative_ctxs": [],
        "hard_negative_ctxs": [_context(place, world) for place in negatives],
    }


def passages_of_others(
    entity: Entity, attribute: str, world: World, rng: random.Random
) -> Iterator[tuple[str, int]]:
    """Passages about others that state the same attribute of theirs, and some that do not."""
    relations = world.edition.relations[entity.entity_id]
    peers = rng.sample(relations.peers, min(_MOST_PEERS, len(relations.peers)))
    for other in (*relations.likes, *peers):
        for document_id, number, _ in world.edition.evidence.places.get(Fact(other.entity_id, attribute), ())[
            :1
        ]:
            yield document_id, number
    for other in relations.likes:
        yield other.entity_id, rng.randrange(len(world.passages[other.entity_id]))


def _context(place: tuple[str, int], world: World) -> dict[str, str]:
    document_id, number = place
    return {
        "passage_id": f"{document_id}#{number}",
        "title": world.entities[document_id].title,
        "text": world.passages[document_id][number],
    }
