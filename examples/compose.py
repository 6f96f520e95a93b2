"""Composes the sample world from the fact tables: articles, questions and claims as JSON lines.

The same seed gives the same bytes. Run `python -m examples.compose --output examples/world`.
"""

import argparse
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.articles import Article, Fact, compose_article
from examples.entities import Entity, Relations, relate
from examples.patterns import Domain
from examples.questions import (
    Evidence,
    Row,
    askable_facts,
    collect_evidence,
    compose_claims,
    compose_question,
    is_askable,
)
from examples.tables import Tables, read_entities, read_tables

DATES = ("2018", "2024")
MAIN_DATE = "2024"
DEFAULT_SEED = 20050


@dataclass(frozen=True, slots=True)
class Quota:
    """How much is asked about a domain.

    Attributes:
      claims: for each of the three labels.
      withheld: facts that no article states, from which undecidable claims are made; more than the
        claims, since the check leaves some out.
    """

    questions: int
    claims: int
    withheld: int


QUOTAS = {
    "country": Quota(questions=300, claims=66, withheld=110),
    "element": Quota(questions=150, claims=36, withheld=60),
    "office": Quota(questions=110, claims=18, withheld=30),
}


def choose_withheld(
    entities: Sequence[Entity],
    domain: Domain,
    count: int,
    aliases: Mapping[str, Sequence[str]],
    rng: random.Random,
) -> list[Fact]:
    """Facts that the corpus will not state, at most one an entity."""
    chosen: list[Fact] = []
    for entity in rng.sample(entities, len(entities)):
        names = [
            name for name in domain.attributes if name in entity.fields and is_askable(entity, name, aliases)
        ]
        if names and len(chosen) < count:
            chosen.append(Fact(entity.entity_id, rng.choice(names)))
    return chosen


@dataclass(frozen=True)
class Edition:
    """The corpus as of one date.

    Attributes:
      entities: by domain, with the facts that the corpus knows.
      relations: by entity id.
      articles: by domain.
    """

    entities: Mapping[str, Sequence[Entity]]
    relations: Mapping[str, Relations]
    articles: Mapping[str, Sequence[Article]]
    evidence: Evidence


def compose_edition(
    entities: Mapping[str, Sequence[Entity]], withheld: Iterable[Fact], tables: Tables, seed: int
) -> Edition:
    """Writes one article an entity.

    Each article has a random stream of its own: a change in one leaves the others as they are, and the
    articles on an office at two dates differ in little but its holder.
    """
    unknown = {fact.entity_id: [fact.attribute] for fact in withheld}
    known = {
        name: [entity.without(unknown.get(entity.entity_id, ())) for entity in members]
        for name, members in entities.items()
    }
    relations: dict[str, Relations] = {}
    articles = {}
    for name, domain in tables.domains.items():
        relations |= relate(known[name], domain)
        articles[name] = [
            compose_article(
                entity,
                relations[entity.entity_id],
                domain,
                tables.contexts.get((name, entity.fields[domain.group]), ()),
                random.Random(f"{seed}/{entity.entity_id}"),
            )
            for entity in known[name]
        ]
    evidence = collect_evidence(article for members in articles.values() for article in members)
    return Edition(known, relations, articles, evidence)


def compose_world(seed: int = DEFAULT_SEED) -> dict[str, list[Row]]:
    """The files of the sample world, as rows by file name.

    The main sample is the common corpus with the leaders of 2024; the leaders of 2018 are for
    exchanging the index under the same questions (the paper's section 4.5).
    """
    tables = read_tables()
    truth = {date: read_entities(date) for date in DATES}
    withheld = {
        name: choose_withheld(
            truth[MAIN_DATE][name],
            domain,
            QUOTAS[name].withheld,
            tables.aliases,
            random.Random(f"{seed}/withheld/{name}"),
        )
        for name, domain in tables.domains.items()
    }
    unknown = [fact for facts in withheld.values() for fact in facts]
    editions = {date: compose_edition(truth[date], unknown, tables, seed) for date in DATES}
    main = editions[MAIN_DATE]

    questions, claims = [], []
    for name, domain in tables.domains.items():
        rng = random.Random(f"{seed}/questions/{name}")
        facts = askable_facts(main.entities[name], domain, main.evidence, tables.aliases)
        questions += ask(sample_in_order(facts, QUOTAS[name].questions, rng), main, domain, tables, seed)
        fields = {entity.entity_id: entity.fields for entity in truth[MAIN_DATE][name]}
        claims += compose_claims(
            main.entities[name],
            [(fact, fields[fact.entity_id][fact.attribute]) for fact in withheld[name]],
            main.relations,
            domain,
            main.evidence,
            tables.aliases,
            QUOTAS[name].claims,
            rng,
        )
    files = {
        "corpus/countries.jsonl": documents(main.articles["country"]),
        "corpus/elements.jsonl": documents(main.articles["element"]),
        "questions.jsonl": questions,
        "claims.jsonl": claims,
    }
    changed = changed_offices(editions, tables)
    for date, edition in editions.items():
        files[f"leaders_{date}.jsonl"] = documents(edition.articles["office"])
        files[f"leaders_{date}_questions.jsonl"] = ask(
            changed, edition, tables.domains["office"], tables, seed
        )
    return files


def ask(facts: Iterable[Fact], edition: Edition, domain: Domain, tables: Tables, seed: int) -> list[Row]:
    """A question for each fact."""
    by_id = {entity.entity_id: entity for entity in edition.entities[domain.name]}
    return [
        compose_question(fact, by_id[fact.entity_id], domain, edition.evidence, tables.aliases, str(seed))
        for fact in facts
    ]


def changed_offices(editions: Mapping[str, Edition], tables: Tables) -> list[Fact]:
    """Offices whose holder differs between the dates, askable at both."""
    first, last = (
        {
            fact: entity.fields[fact.attribute]
            for entity in edition.entities["office"]
            for fact in askable_facts([entity], tables.domains["office"], edition.evidence, tables.aliases)
        }
        for edition in editions.values()
    )
    return [fact for fact, holder in first.items() if last.get(fact, holder) != holder]


def sample_in_order(facts: Sequence[Fact], count: int, rng: random.Random) -> list[Fact]:
    """A random choice of facts in the order given.

    Raises:
      ValueError: there are fewer facts than asked for.
    """
    if count > len(facts):
        raise ValueError(f"{len(facts)} facts can be asked for, {count} questions are wanted")
    return [facts[position] for position in sorted(rng.sample(range(len(facts)), count))]


def documents(articles: Iterable[Article]) -> list[Row]:
    """Articles as rows that the JSONL reader takes."""
    return [
        {"document_id": article.document_id, "title": article.entity.title, "text": article.text}
        for article in articles
    ]


def write_world(files: Mapping[str, Sequence[Row]], output: Path) -> None:
    """Writes each file as JSON lines in UTF-8."""
    for name, rows in files.items():
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text("".join(lines), encoding="utf-8", newline="\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Composes the world and says how many rows each file has."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.compose", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help="other seeds give other texts, same facts"
    )
    options = parser.parse_args(argv)
    files = compose_world(options.seed)
    write_world(files, options.output)
    for name, rows in files.items():
        print(f"{options.output / name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
