"""Questions and claims about the facts of a corpus, each with its gold documents and passages."""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from examples.articles import Article, Fact, Sentence
from examples.entities import Entity, Relations, without_accents
from examples.patterns import Domain, Pattern

SUPPORTS = "SUPPORTS"
REFUTES = "REFUTES"
NOT_ENOUGH_INFO = "NOT ENOUGH INFO"
LABELS = (SUPPORTS, REFUTES, NOT_ENOUGH_INFO)

Row = dict[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a corpus states what.

    Attributes:
      articles: by document id.
      places: for each fact stated, the passages (document id, passage number) and sentences that do;
        the entity's own article comes first.
    """

    articles: Mapping[str, Article]
    places: Mapping[Fact, Sequence[tuple[str, int, Sentence]]] = field(repr=False)


def collect_evidence(articles: Iterable[Article]) -> Evidence:
    """Reads off every article which facts it states, and in which passage."""
    by_id = {article.document_id: article for article in articles}
    places: dict[Fact, list[tuple[str, int, Sentence]]] = {}
    for article in by_id.values():
        for passage_number, sentence in article.statements():
            for fact in sentence.facts:
                places.setdefault(fact, []).append((article.document_id, passage_number, sentence))
    for fact, found in places.items():
        found.sort(key=lambda place: (place[0] != fact.entity_id, place[:2]))
    return Evidence(by_id, places)


def answers_to(value: str, aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """The value, its aliases and its spelling without accents."""
    return list(dict.fromkeys([value, *aliases.get(value, ()), without_accents(value)]))


def mentions(text: str, answers: Iterable[str]) -> bool:
    """Whether any of the answers occurs in the text as whole words, whatever the case."""
    folded = text.lower()
    return any(
        answer.lower() in folded  # quick, and rules out nearly everything
        and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE)
        for answer in answers
    )


def is_askable(entity: Entity, attribute: str, aliases: Mapping[str, Sequence[str]]) -> bool:
    """Whether the value cannot be read off the entity's name (the capital of Kuwait)."""
    value, name = (without_accents(text) for text in (entity.fields[attribute], entity.name))
    return not mentions(name, [value]) and not mentions(value, [name, entity.title])


def askable_facts(
    entities: Sequence[Entity], domain: Domain, evidence: Evidence, aliases: Mapping[str, Sequence[str]]
) -> list[Fact]:
    """The facts that can be asked for: stated in the entity's own article, in one passage of it only."""
    facts = []
    for entity in entities:
        passages = evidence.articles[entity.entity_id].passages()
        for name in domain.attributes:
            if name in entity.fields and is_askable(entity, name, aliases):
                answers = answers_to(entity.fields[name], aliases)
                if sum(mentions(passage, answers) for passage in passages) == 1:
                    facts.append(Fact(entity.entity_id, name))
    return facts


def compose_question(
    fact: Fact,
    entity: Entity,
    domain: Domain,
    evidence: Evidence,
    aliases: Mapping[str, Sequence[str]],
    seed: str,
) -> Row:
    """Asks for a fact. The phrasing depends on the seed and the fact alone, not on its value."""
    question_id = f"{fact.entity_id}.{fact.attribute}"
    phrasing = random.Random(f"{seed}/{question_id}").choice(domain.attributes[fact.attribute].questions)
    return {
        "question_id": question_id,
        "question": _fill(phrasing, entity.fields),
        "answers": answers_to(entity.fields[fact.attribute], aliases),
        **_provenance(fact, phrasing, evidence),
    }


def compose_claim(
    label: str, fact: Fact, value: str, entity: Entity, domain: Domain, evidence: Evidence, rng: random.Random
) -> Row:
    """Claims that an entity's fact has a value."""
    phrasing = rng.choice(domain.attributes[fact.attribute].claims)
    return {
        "question_id": f"{fact.entity_id}.{fact.attribute}.{slug_of(label)}",
        "question": _fill(phrasing, {**entity.fields, "value": value}),
        "answers": [label],
        **_provenance(fact, phrasing, evidence),
    }


def compose_claims(
    entities: Sequence[Entity],
    withheld: Sequence[tuple[Fact, str]],
    relations: Mapping[str, Relations],
    domain: Domain,
    evidence: Evidence,
    aliases: Mapping[str, Sequence[str]],
    per_label: int,
    rng: random.Random,
) -> list[Row]:
    """Composes claims, the same number for each label.

    What is refuted is a value of a like-named entity or of a peer. What cannot be decided is a fact
    withheld from the corpus: half of these claims are true in the world, half are not.

    Args:
      entities: as the articles know them.
      withheld: facts that no article states, with their true values.

    Raises:
      ValueError: too few facts for the number of claims.
    """
    by_id = {entity.entity_id: entity for entity in entities}
    facts = askable_facts(entities, domain, evidence, aliases)
    rng.shuffle(facts)
    rows: dict[str, list[Row]] = {label: [] for label in LABELS}

    def add(label: str, fact: Fact, value: str) -> None:
        rows[label].append(compose_claim(label, fact, value, by_id[fact.entity_id], domain, evidence, rng))

    for fact in facts[:per_label]:
        add(SUPPORTS, fact, by_id[fact.entity_id].fields[fact.attribute])
    for fact in facts[per_label:]:
        value = false_value(fact, by_id[fact.entity_id], relations[fact.entity_id], aliases, rng)
        if value is not None and len(rows[REFUTES]) < per_label:
            add(REFUTES, fact, value)
    for fact, value in undecidable_claims(entities, withheld, domain, evidence, aliases, rng):
        if len(rows[NOT_ENOUGH_INFO]) < per_label:
            add(NOT_ENOUGH_INFO, fact, value)
    short = [label for label in LABELS if len(rows[label]) < per_label]
    if short:
        raise ValueError(f"{domain.name}: fewer than {per_label} claims can be made for {', '.join(short)}")
    return [row for label in LABELS for row in rows[label]]


def false_value(
    fact: Fact, entity: Entity, relations: Relations, aliases: Mapping[str, Sequence[str]], rng: random.Random
) -> str | None:
    """A value of the same attribute that is not the entity's; a like-named entity's where there is one."""
    true_answers = set(answers_to(entity.fields[fact.attribute], aliases))
    for others in (relations.likes, relations.peers):
        values = sorted({other.fields[fact.attribute] for other in others if fact.attribute in other.fields})
        false = [value for value in values if not true_answers & set(answers_to(value, aliases))]
        if false:
            return rng.choice(false)
    return None


def undecidable_claims(
    entities: Sequence[Entity],
    withheld: Sequence[tuple[Fact, str]],
    domain: Domain,
    evidence: Evidence,
    aliases: Mapping[str, Sequence[str]],
    rng: random.Random,
) -> Iterable[tuple[Fact, str]]:
    """Withheld facts with a claimed value, every other one true, that the corpus does not decide.

    A false value is that of another withheld fact, since a value which the corpus ties to another
    entity (the capital of elsewhere) would speak against the claim.
    """
    by_id = {entity.entity_id: entity for entity in entities}
    claim_truth = True
    for fact, true_value in withheld:
        others = sorted(
            {value for other, value in withheld if other.attribute == fact.attribute and value != true_value}
        )
        candidates = [true_value] if claim_truth or not others else rng.sample(others, len(others))
        for value in candidates:
            unstated = not domain.attributes[fact.attribute].unique or not _is_stated(
                fact.attribute, value, entities, evidence
            )
            entity = by_id[fact.entity_id]
            if unstated and is_undecidable(entity, fact, {true_value, value}, evidence, aliases):
                yield fact, value
                claim_truth = not claim_truth
                break


def is_undecidable(
    entity: Entity,
    fact: Fact,
    values: Iterable[str],
    evidence: Evidence,
    aliases: Mapping[str, Sequence[str]],
) -> bool:
    """Whether no article supports or refutes a claim on this fact.

    No sentence states the fact; the entity's own article has none of the values; and no sentence
    elsewhere has both the entity's name and one of the values.
    """
    if fact in evidence.places:
        return False
    answers = [answer for value in values for answer in answers_to(value, aliases)]
    for article in evidence.articles.values():
        if article.document_id == fact.entity_id:
            if mentions(article.text, answers):
                return False
        elif entity.name.lower() in article.folded:
            for sentence in article.sentences:
                if mentions(sentence.text, [entity.name]) and mentions(sentence.text, answers):
                    return False
    return True


def slug_of(label: str) -> str:
    """A label as a part of an id."""
    return label.lower().replace(" ", "-")


def _is_stated(attribute: str, value: str, entities: Sequence[Entity], evidence: Evidence) -> bool:
    return any(
        entity.fields.get(attribute) == value and Fact(entity.entity_id, attribute) in evidence.places
        for entity in entities
    )


def _fill(pattern: Pattern, fields: Mapping[str, str]) -> str:
    text = pattern.fill(fields)
    if text is None:
        raise ValueError(f"pattern {pattern.pattern_id} has slots without a value: {pattern.text}")
    return text


def _provenance(fact: Fact, phrasing: Pattern, evidence: Evidence) -> Row:
    """What readers other than `evaluate` ignore: gold documents and the patterns met.

    `pattern` is the one by which the entity's own article states the fact; empty where none does.
    """
    places = evidence.places.get(fact, ())
    own = [sentence.pattern for document_id, _, sentence in places if document_id == fact.entity_id]
    return {
        "gold_document_ids": list(
            dict.fromkeys([fact.entity_id, *(document_id for document_id, _, _ in places)])
        ),
        "gold_passage_ids": list(
            dict.fromkeys(f"{document_id}#{number}" for document_id, number, _ in places)
        ),
        "attribute": f"{phrasing.pattern_id.partition('.')[0]}.{fact.attribute}",
        "phrasing": phrasing.pattern_id,
        "phrasing_split": phrasing.split,
        "pattern": own[0].pattern_id if own else "",
        "pattern_split": own[0].split if own else "",
    }
