"""Articles: sentences about one entity, in an order that puts each fact into some 100-word passage.

An article opens with an introduction; statements of facts, distractors (facts of other entities) and
fillers follow in random order. No sentence that states a fact is cut in two by a passage boundary, so
a passage either holds a fact or does not.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from examples.entities import Entity, Relations
from examples.patterns import SHARED, Domain, Pattern

PASSAGE_WORDS = 100
MIN_WORDS = 210
MAX_WORDS = 480
_PEERS = ("peer_a", "peer_b", "peer_c")
_MAX_DISTRACTORS = 3
_MANY = 2000  # patterns
_MOST_FILLERS = 80  # drawn for an article, which takes some twenty; the sample has fewer
_ATTEMPTS = 100  # orders tried; the first one nearly always does


@dataclass(frozen=True, slots=True)
class Fact:
    """An entity's value of an attribute, without the value."""

    entity_id: str
    attribute: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A filled pattern and the facts that it states."""

    text: str
    pattern: Pattern
    facts: frozenset[Fact] = frozenset()

    @property
    def words(self) -> int:
        return len(self.text.split())


@dataclass(frozen=True)
class Article:
    """A document of the corpus."""

    entity: Entity
    sentences: tuple[Sentence, ...]

    @property
    def document_id(self) -> str:
        return self.entity.entity_id

    @cached_property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)

    @cached_property
    def folded(self) -> str:
        """The text in lower case."""
        return self.text.lower()

    def passages(self) -> list[str]:
        """The text in disjoint passages of 100 words, as `rag-beam chunk` splits it by default."""
        words = self.text.split()
        return [
            " ".join(words[start : start + PASSAGE_WORDS]) for start in range(0, len(words), PASSAGE_WORDS)
        ]

    def numbered(self) -> Iterator[tuple[int, Sentence]]:
        """Each sentence, with the number of the passage in which it begins."""
        position = 0
        for sentence in self.sentences:
            yield position // PASSAGE_WORDS, sentence
            position += sentence.words

    def statements(self) -> Iterator[tuple[int, Sentence]]:
        """Each sentence that states facts, with the number of the passage that holds it."""
        return ((number, sentence) for number, sentence in self.numbered() if sentence.facts)


def compose_article(
    entity: Entity,
    relations: Relations,
    domain: Domain,
    contexts: Sequence[str],
    rng: random.Random,
    min_words: int = MIN_WORDS,
    max_words: int = MAX_WORDS,
) -> Article:
    """Composes the article about an entity.

    Args:
      entity: its fields are all that the article may say about it.
      contexts: true sentences about the entity's group.
      min_words, max_words: the range from which the length aimed at is drawn; an article is a few
        words longer, since it ends with a whole sentence.

    Raises:
      ValueError: the domain has too few patterns for the fields of this entity.
    """
    target = rng.randint(min_words, max_words)
    mentioned = _mentioned(entity, relations, rng)
    fields = _fields(entity, mentioned)
    opening = next(_filled(domain.introductions, fields, rng), None)
    if opening is None:
        raise ValueError(f"{entity.entity_id}: no introduction fits its columns")
    body = [
        Sentence(statement.text, statement.pattern, frozenset({Fact(entity.entity_id, name)}))
        for name, attribute in domain.attributes.items()
        if name in entity.fields
        for statement in [next(_filled(attribute.statements, fields | {"value": fields[name]}, rng))]
    ]
    body += _distractors(entity, mentioned, fields, domain, rng)
    fillers = _without_repetition(domain.fillers, fields, _repeatable(domain, mentioned), rng)
    spare = [*islice(fillers, _MOST_FILLERS), *_filled(_as_patterns(contexts, domain), fields, rng)]
    rng.shuffle(spare)
    # each once, in the place of the last of those alike, which would be taken first
    spare = [*reversed(dict.fromkeys(reversed(spare)))]
    words = opening.words + sum(sentence.words for sentence in body)
    while words < target and spare:
        body.append(spare.pop())
        words += body[-1].words
    for _ in range(_ATTEMPTS):
        rng.shuffle(body)
        sentences = _arrange(opening, body, spare)
        if sentences is not None:
            return Article(entity, sentences)
    raise ValueError(f"{entity.entity_id}: too few fillers to keep statements off passage boundaries")


def compose_distractors(
    entity: Entity, relations: Relations, domain: Domain, rng: random.Random
) -> list[Sentence]:
    """One to three sentences that state facts of other entities, if there are such."""
    mentioned = _mentioned(entity, relations, rng)
    return _distractors(entity, mentioned, _fields(entity, mentioned), domain, rng)


def _as_patterns(contexts: Sequence[str], domain: Domain) -> list[Pattern]:
    return [Pattern(f"{domain.name}.context", SHARED, text) for text in contexts]


def _mentioned(entity: Entity, relations: Relations, rng: random.Random) -> dict[str, Entity]:
    """Who plays the parts of `like`, `peer_a`, … in this article."""
    mentioned: dict[str, Entity] = {}
    if relations.likes:
        mentioned["like"] = rng.choice(relations.likes)
    peers = [peer for peer in relations.peers if peer is not mentioned.get("like")]
    for part, peer in zip(_PEERS, rng.sample(peers, min(len(_PEERS), len(peers))), strict=False):
        mentioned[part] = peer
    neighbours = {"before": relations.before, "after": relations.after}
    return mentioned | {part: neighbour for part, neighbour in neighbours.items() if neighbour}


def _fields(entity: Entity, mentioned: Mapping[str, Entity]) -> dict[str, str]:
    fields = dict(entity.fields)
    for part, other in mentioned.items():
        fields[part] = other.name
        fields |= {f"{part}_{column}": value for column, value in other.fields.items()}
    return fields


def _filled(patterns: Sequence[Pattern], fields: Mapping[str, str], rng: random.Random) -> Iterator[Sentence]:
    """The patterns that the fields can fill, in random order."""
    for pattern in _in_random_order(patterns, rng):
        text = pattern.fill(fields)
        if text is not None:
            yield Sentence(text, pattern)


def _in_random_order(patterns: Sequence[Pattern], rng: random.Random) -> Iterator[Pattern]:
    """Each pattern once; of the thousands that practice has, of which a few are wanted, no more are drawn."""
    if len(patterns) < _MANY:
        yield from rng.sample(patterns, len(patterns))  # by which the sample's world was drawn
        return
    moved: dict[int, int] = {}  # by position, which pattern is there now
    for last in reversed(range(len(patterns))):
        position = rng.randrange(last + 1)
        yield patterns[moved.get(position, position)]
        moved[position] = moved.get(last, last)


def _distractors(
    entity: Entity,
    mentioned: Mapping[str, Entity],
    fields: Mapping[str, str],
    domain: Domain,
    rng: random.Random,
) -> list[Sentence]:
    """One to three sentences on other entities, fewer where all is said; none repeats a value of this entity's own."""
    wanted = rng.randint(1, _MAX_DISTRACTORS)
    own = {value for name, value in entity.fields.items() if name in domain.attributes}
    chosen: list[Sentence] = []
    repeatable = _repeatable(domain, mentioned)
    unsaid = [slots - repeatable for slots in domain.distractor_slots if slots <= fields.keys()]
    for sentence in _without_repetition(domain.distractors, fields, repeatable, rng) if unsaid else ():
        stated = {
            f"{part}_{name}": Fact(other.entity_id, name)
            for part, other in mentioned.items()
            for name in domain.attributes
            if f"{part}_{name}" in sentence.pattern.slots
        }
        if not own & {fields[slot] for slot in stated}:
            chosen.append(replace(sentence, facts=frozenset(stated.values())))
        unsaid = [slots for slots in unsaid if slots.isdisjoint(sentence.pattern.slots)]
        if len(chosen) == wanted or not unsaid:
            break
    return chosen


def _repeatable(domain: Domain, mentioned: Mapping[str, Entity]) -> frozenset[str]:
    """Slots for who is spoken of: those of introductions and the names of other entities."""
    return domain.introduction_slots | mentioned.keys()


def _without_repetition(
    patterns: Sequence[Pattern], fields: Mapping[str, str], repeatable: frozenset[str], rng: random.Random
) -> Iterator[Sentence]:
    """As `_filled`, without sentences that say anew what an earlier one said, in terms of their slots.

    Args:
      repeatable: slots that may be met again.
    """
    said: set[str] = set()
    for pattern in _in_random_order(patterns, rng):
        if pattern.slots.isdisjoint(said):  # before it is filled: of practice's thousands most are left out
            text = pattern.fill(fields)
            if text is not None:
                said |= pattern.slots - repeatable
                yield Sentence(text, pattern)


def _arrange(
    opening: Sentence, body: Sequence[Sentence], spare: Sequence[Sentence]
) -> tuple[Sentence, ...] | None:
    """The body in its order, but for statements that would straddle a passage boundary: they wait.

    Where nothing else is left to bring before a waiting statement, a spare sentence is put in; None where
    there is no such sentence either.
    """
    arranged, waiting, spares = [opening], list(body), list(spare)
    position = opening.words
    while waiting:
        fitting = (sentence for sentence in waiting if not sentence.facts or _fits(position, sentence.words))
        sentence = next(fitting, None)
        if sentence is not None:
            waiting.remove(sentence)
        elif spares:
            sentence = spares.pop()
        else:
            return None
        arranged.append(sentence)
        position += sentence.words
    return tuple(arranged)


def _fits(position: int, words: int) -> bool:
    return position // PASSAGE_WORDS == (position + words - 1) // PASSAGE_WORDS
