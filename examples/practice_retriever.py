"""Training data for the retriever in DPR's format: passages that answer, and passages that only seem to.

First in a sentence or three, by which wordings are learned several times as fast, then in whole passages.
"""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from examples.articles import Fact, Sentence, compose_distractors
from examples.entities import Entity
from examples.practice_worlds import Asked, World
from examples.questions import mentions

_MOST_PEERS = 4  # of each kind of other entities that lend their passages
_MOST_SENTENCES = 3  # of a short text


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
    return _row(
        asked,
        [_context(place, world) for place in positives],
        [_context(place, world) for place in negatives],
    )


def compose_short_row(asked: Asked, world: World, hard_negatives: int, seed: int) -> dict[str, Any] | None:
    """A question or claim with texts of a sentence or a few: the one that states the fact, and others.

    All texts of a row have as many sentences. The first negative states the same attribute of another entity,
    in that one's article; the second does so in the entity's own article, as far as there are such; the
    others are the article's other sentences.

    Args:
      hard_negatives: how many at most.

    Returns:
      None for a claim that cannot be decided.
    """
    rng = random.Random(f"{seed}/short/{asked.row['question_id']}")
    entity, attribute = world.entities[asked.fact.entity_id], asked.fact.attribute
    stating = _stating(entity, attribute, world)
    if stating is None:
        return None
    length = rng.randint(1, _MOST_SENTENCES)

    def text_of(owner: Entity, focus: str) -> dict[str, str]:
        rest = [text for text in _sentences(owner, world) if text != focus and not mentions(text, values)]
        chosen = [focus, *rng.sample(rest, min(length - 1, len(rest)))]
        return _text(owner.entity_id, " ".join(rng.sample(chosen, len(chosen))), world)

    values = asked.values[:1]
    relations = world.edition.relations[entity.entity_id]
    others = (*relations.likes, *rng.sample(relations.peers, len(relations.peers)))
    theirs = ((other, sentence) for other in others if (sentence := _stating(other, attribute, world)))
    decoys = compose_distractors(entity, relations, world.decoys[entity.domain, attribute], rng)
    silent = [text for text in _sentences(entity, world) if not mentions(text, values)]
    focused = [(other, sentence.text) for other, sentence in islice(theirs, 1)]
    focused += [(entity, decoy.text) for decoy in decoys[:1] if not mentions(decoy.text, values)]
    focused += [(entity, text) for text in rng.sample(silent, min(hard_negatives, len(silent)))]
    return _row(
        asked,
        positives=[text_of(entity, stating.text)],
        hard_negatives=[text_of(owner, focus) for owner, focus in focused[:hard_negatives]],
    )


def _sentences(entity: Entity, world: World) -> list[str]:
    return [sentence.text for sentence in world.edition.evidence.articles[entity.entity_id].sentences]


def _stating(entity: Entity, attribute: str, world: World) -> Sentence | None:
    """The sentence by which an entity's own article states an attribute; None where it does not."""
    places = world.edition.evidence.places.get(Fact(entity.entity_id, attribute), ())
    own = (sentence for document_id, _, sentence in places if document_id == entity.entity_id)
    return next(own, None)


def _row(
    asked: Asked, positives: list[dict[str, str]], hard_negatives: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "question_id": asked.row["question_id"],
        "question": asked.row["question"],
        "answers": asked.row["answers"],
        "positive_ctxs": positives,
        "negative_ctxs": [],
        "hard_negative_ctxs": hard_negatives,
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
    return _text(document_id, world.passages[document_id][number], world) | {
        "passage_id": f"{document_id}#{number}"
    }


def _text(document_id: str, text: str, world: World) -> dict[str, str]:
    return {"title": world.entities[document_id].title, "text": text}
