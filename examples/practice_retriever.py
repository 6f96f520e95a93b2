"""Training data for the retriever in DPR's format: passages that answer, and passages that only seem to.

First in a sentence or three, by which wordings are learned several times as fast, then in whole passages.
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from examples.articles import Article, Fact, compose_distractors
from examples.entities import Entity
from examples.practice_worlds import Asked, World, is_about
from examples.questions import mentions

_MOST_PEERS = 4  # of each kind of other entities that lend their passages
_MOST_SENTENCES = 3  # of a short text


def compose_training_row(
    asked: Asked, world: World, hard_negatives: int, rng: random.Random
) -> dict[str, Any]:
    """A question or claim with its passages.

    Positive are the passages that state the fact, the entity's own first; for a claim that cannot be
    decided all passages of its entity's article, in random order. Half of the hard negatives are other
    passages of the same article, as far as there are, those first that tell of somebody else what is asked for;
    the rest are of articles about entities of like names or of the same group. Of an entity with a single
    attribute all but one are of its article: no other question brings these passages into a batch.

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
    alone = len(world.tables.domains[world.entities[own].domain].attributes) == 1
    of_its_own = hard_negatives - 1 if alone else hard_negatives // 2
    of_article = confusing_first(article, asked.fact, world)
    negatives = [place for place in of_article if place not in positives][:of_its_own]
    elsewhere = [place for place in others if place not in positives]
    wanted = 1 if alone and negatives else hard_negatives - len(negatives)
    negatives += rng.sample(elsewhere, min(wanted, len(elsewhere)))
    return dpr_row(
        asked.row,
        [_context(place, world) for place in positives],
        [_context(place, world) for place in negatives],
    )


def confusing_first(places: Sequence[tuple[str, int]], fact: Fact, world: World) -> list[tuple[str, int]]:
    """Passages of an entity's own article in their order, but first those that tell the fact of somebody else."""
    confusing = told_of_others(world.edition.evidence.articles[fact.entity_id], fact.attribute)
    return sorted(places, key=lambda place: place[1] not in confusing)


def told_of_others(article: Article, attribute: str) -> set[int]:
    """Numbers of the passages with the beginning of a sentence that states the attribute of somebody else."""
    return {number for number, sentence in article.numbered() if is_about(sentence.pattern, attribute)}


def compose_short_row(asked: Asked, world: World, hard_negatives: int, seed: int) -> dict[str, Any] | None:
    """A question or claim with texts of a sentence or a few: the one that states the fact, and others.

    A fact has one short text, whoever asks for it. The first negative is that of another entity's same
    attribute, the second states the attribute of somebody else in the entity's own article, as far as there
    are such; the others state no fact. So no text is taught as wrong where it is right.

    Args:
      hard_negatives: how many at most.

    Returns:
      None for a claim that cannot be decided.
    """
    rng = random.Random(f"{seed}/short/{asked.row['question_id']}")
    entity, attribute = world.entities[asked.fact.entity_id], asked.fact.attribute
    positive = _short_text(asked.fact, world, seed)
    if positive is None:
        return None
    relations = world.edition.relations[entity.entity_id]
    others = (*relations.likes, *rng.sample(relations.peers, len(relations.peers)))
    theirs = (_short_text(Fact(other.entity_id, attribute), world, seed) for other in others)
    negatives = [*islice((text for text in theirs if text is not None), 1)]
    decoys = compose_distractors(entity, relations, world.decoys[entity.domain, attribute], rng)
    silent = _stating_none(entity, world)
    focuses = [*(decoy.text for decoy in decoys[:1]), *rng.sample(silent, min(hard_negatives, len(silent)))]
    negatives += [_around(focus, entity, world, rng) for focus in focuses]
    wrong = [text for text in negatives if not mentions(text["text"], asked.values[:1])]
    return dpr_row(asked.row, [positive], wrong[:hard_negatives])


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


def _short_text(fact: Fact, world: World, seed: int) -> dict[str, str] | None:
    """The sentence by which an entity's own article states a fact, and up to two that state none."""
    for document_id, _, sentence in world.edition.evidence.places.get(fact, ()):
        if document_id == fact.entity_id:
            rng = random.Random(f"{seed}/short/{fact.entity_id}/{fact.attribute}")
            return _around(sentence.text, world.entities[fact.entity_id], world, rng)
    return None


def _around(focus: str, entity: Entity, world: World, rng: random.Random) -> dict[str, str]:
    """A sentence among none to two others of the entity's article that state nothing about it."""
    rest = [text for text in _stating_none(entity, world) if text != focus]
    chosen = [focus, *rng.sample(rest, rng.randrange(_MOST_SENTENCES))]
    return _text(entity.entity_id, " ".join(rng.sample(chosen, len(chosen))), world)


def _stating_none(entity: Entity, world: World) -> list[str]:
    """Sentences of an entity's article that state no attribute of it."""
    sentences = world.edition.evidence.articles[entity.entity_id].sentences
    return [sentence.text for sentence in sentences if not sentence.facts]


def dpr_row(
    question: Mapping[str, Any], positives: list[dict[str, str]], hard_negatives: list[dict[str, str]]
) -> dict[str, Any]:
    """A row of DPR's training file; texts have `title` and `text`."""
    return {
        "question_id": question["question_id"],
        "question": question["question"],
        "answers": question["answers"],
        "positive_ctxs": positives,
        "negative_ctxs": [],
        "hard_negative_ctxs": hard_negatives,
    }


def write_dpr_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Writes DPR's training file, a JSON list with a row on each line, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")


def _context(place: tuple[str, int], world: World) -> dict[str, str]:
    document_id, number = place
    return _text(document_id, world.passages[document_id][number], world) | {
        "passage_id": f"{document_id}#{number}"
    }


def _text(document_id: str, text: str, world: World) -> dict[str, str]:
    return {"title": world.entities[document_id].title, "text": text}
