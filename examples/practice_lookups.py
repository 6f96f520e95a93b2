"""Reading practice for the generator: a question or claim with one passage that decides it, from easy to hard.

Level 1 is the sentence alone; level 2 has the article's introduction and another sentence besides; level 3
is half a passage with facts of the same kind about other entities; level 4 is the passage itself. Astray is
a passage that a retriever may find in its place: who reads it learns that nothing there is to be believed.
Astray in short is a few sentences of such a passage, by which the same is learned in half the time.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from examples.articles import Article, Sentence, compose_distractors
from examples.practice_retriever import confusing_first, passages_of_others
from examples.practice_worlds import Asked, World
from examples.questions import NOT_ENOUGH_INFO, REFUTES, SUPPORTS, compose_claim, compose_question, mentions
from schemas.retrievals import SCHEMA

LEVELS = (1, 2, 3, 4)
ASTRAY = "astray"
ASTRAY_SHORT = "astray_short"
LABEL_WORDS = {SUPPORTS: "right", REFUTES: "no", NOT_ENOUGH_INFO: "open"}  # each one token of the generator
_HALF_PASSAGE = 5  # sentences
_FEW = 3  # sentences
_DECOYS = 2
_DRAWS = 24  # for a decoy with the value claimed
_OF_ITS_ARTICLE = 0.7  # of the passages that lead astray; the others are about other entities
_CONFUSING = 0.5  # of these: of those that tell of somebody else what is asked for


def compose_lookup(asked: Asked, level: int | str, turn: int, world: World, seed: int) -> dict[str, Any]:
    """A row of the retrievals table with one passage.

    It is asked in new words at each level and turn. A claim that cannot be decided gets a text of the same
    length from the article on its entity.

    Args:
      level: one of `LEVELS`, `ASTRAY` or `ASTRAY_SHORT`.
      turn: tells several rows about the same fact apart.
    """
    question_id = f"{asked.row['question_id']}.{level}.{turn}"
    rng = random.Random(f"{seed}/{question_id}")
    article = world.edition.evidence.articles[asked.fact.entity_id]
    document_id, number, focus = _deciding(asked, article, world, rng)
    if level == ASTRAY:
        document_id, number = _astray(asked, world, rng)
    if level in (LEVELS[-1], ASTRAY):
        text = world.passages[document_id][number]
    else:
        chosen = (
            _few_astray(asked, article, world, rng)
            if level == ASTRAY_SHORT
            else _chosen(asked, level, focus, article, world, rng)
        )
        text = " ".join(sentence.text for sentence in rng.sample(chosen, len(chosen)))
    return {
        "question_id": question_id,
        "question": _reworded(asked, world, rng),
        "answers": asked.row["answers"],
        "passages": [
            {
                "passage_id": f"{document_id}#{number}",
                "document_id": document_id,
                "title": world.entities[document_id].title,
                "text": text,
                "score": 1.0,
            }
        ],
    }


def compose_reading(asked: Asked, level: int | str, turn: int, world: World, seed: int) -> dict[str, Any]:
    """A claim's row as a question: what does the passage state in place of the value claimed?

    The answer is the true value; where the claim cannot be decided, the passage does not hold it.
    """
    row = compose_lookup(asked, level, turn, world, seed)
    return row | {"answers": [asked.values[0]]}


def compose_verdict(asked: Asked, level: int | str, turn: int, world: World, seed: int) -> dict[str, Any]:
    """A claim's row whose target is the label's word and, where the passage decides, the value that it states.

    So it is learned by what a claim is decided; the label is the first word all the same.
    """
    word = LABEL_WORDS[asked.label]
    decided = level in LEVELS and asked.label != NOT_ENOUGH_INFO
    row = compose_lookup(asked, level, turn, world, seed)
    return row | {"answers": [f"{word} {asked.values[0]}" if decided else word]}


def write_lookups(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes a retrievals table, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)


def _deciding(
    asked: Asked, article: Article, world: World, rng: random.Random
) -> tuple[str, int, Sentence | None]:
    """Where the entity's own article states the fact: document, passage, sentence; any passage where it does not."""
    for place in world.edition.evidence.places.get(asked.fact, ()):
        if place[0] == article.document_id:
            return place
    return article.document_id, rng.randrange(len(world.passages[article.document_id])), None


def _astray(asked: Asked, world: World, rng: random.Random) -> tuple[str, int]:
    """Document and passage of a text without the true value; what is claimed it may tell of somebody else.

    Of its own article's passages half of the time one that does tell of somebody else, as far as there is one.
    """
    own_document = asked.fact.entity_id
    own = [(own_document, number) for number in range(len(world.passages[own_document]))]
    others = list(passages_of_others(world.entities[own_document], asked.fact.attribute, world, rng))
    if rng.random() < _OF_ITS_ARTICLE:
        own = rng.sample(own, len(own))
        if rng.random() < _CONFUSING:
            own = confusing_first(own, asked.fact, world)
        places = [*own, *others]
    else:
        places = [*rng.sample(others, len(others)), *own]
    for document_id, number in places:
        if not mentions(world.passages[document_id][number], asked.values[:1]):
            return document_id, number
    return places[0]


def _reworded(asked: Asked, world: World, rng: random.Random) -> str:
    entity = world.entities[asked.fact.entity_id]
    domain, evidence = world.tables.domains[entity.domain], world.edition.evidence
    if asked.label:
        row = compose_claim(asked.label, asked.fact, asked.values[-1], entity, domain, evidence, rng)
    else:
        row = compose_question(asked.fact, entity, domain, evidence, {}, str(rng.random()))
    return str(row["question"])


def _chosen(
    asked: Asked, level: int, focus: Sentence | None, article: Article, world: World, rng: random.Random
) -> Sequence[Sentence]:
    """The sentences of an easier text, the one that decides among them, in any order."""
    opening, *body = article.sentences
    decoys = _decoys(asked, article, world, rng) if level > 2 or focus is None else []
    if focus is None:  # nothing decides: the sentence most like one that would
        stating = [sentence for sentence in body if sentence.facts] or body
        focus = decoys.pop() if decoys and rng.random() < 0.4 else rng.choice(stating)
    others = [sentence for sentence in body if sentence is not focus]
    if level == 1:
        return [focus]
    if level == 2:
        return [opening, focus, rng.choice(others)]
    chosen = [focus, *decoys[:_DECOYS]]
    if rng.random() < 0.5:
        chosen.append(opening)
    said = {sentence.text for sentence in chosen}
    rest = [sentence for sentence in others if sentence.text not in said]
    return [*chosen, *rng.sample(rest, _HALF_PASSAGE - len(chosen))]


def _few_astray(asked: Asked, article: Article, world: World, rng: random.Random) -> Sequence[Sentence]:
    """A sentence or two of the same kind about others, where there are any, among others of the article.

    None has the true value; what is claimed they may tell of somebody else.
    """
    decoys = _decoys(asked, article, world, rng)[: rng.randint(1, _DECOYS)]
    said = {sentence.text for sentence in decoys}
    rest = [
        sentence
        for sentence in article.sentences
        if sentence.text not in said and not mentions(sentence.text, asked.values[:1])
    ]
    return [*decoys, *rng.sample(rest, _FEW - len(decoys))]


def _decoys(asked: Asked, article: Article, world: World, rng: random.Random) -> list[Sentence]:
    """Facts of the same kind about other entities, none with the true value.

    For half of the claims that state another value the first has that value, where one can be found: the
    passage holds then what is claimed, but of somebody else. Otherwise none has it.
    """
    entity = article.entity
    domain = world.decoys[entity.domain, asked.fact.attribute]
    true_value, claimed = asked.values[0], asked.values[-1]
    tempting = claimed != true_value and rng.random() < 0.5
    sentences: list[Sentence] = []
    for _ in range(_DRAWS if tempting else 1):
        drawn = compose_distractors(entity, world.edition.relations[entity.entity_id], domain, rng)
        drawn = [sentence for sentence in drawn if not mentions(sentence.text, [true_value])]
        sentences = [sentence for sentence in drawn if not mentions(sentence.text, [claimed])]
        if tempting and len(sentences) < len(drawn):
            return [next(sentence for sentence in drawn if sentence not in sentences), *sentences]
    return sentences
