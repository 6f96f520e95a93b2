"""Composes practice text about invented entities, on which the sample's models are trained.

The same seed gives the same bytes. Files are named by the seed, so several runs can fill one folder together.
Run `python -m examples.practice --output practice --worlds 20 --seed 1`.
"""

import argparse
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from examples.compose import documents, write_world
from examples.practice_lookups import (
    ASTRAY,
    ASTRAY_SHORT,
    LEVELS,
    compose_lookup,
    compose_reading,
    compose_verdict,
    write_lookups,
)
from examples.practice_patterns import read_practice_tables
from examples.practice_retriever import compose_short_row, compose_training_row, write_dpr_rows
from examples.practice_worlds import Asked, World, compose_practice_world

_CORPUS_FILES = {"country": "countries", "element": "elements", "office": "offices"}


class PracticeText:
    """Rows by file, gathered world by world.

    Args:
      lookups, retriever_rows: how many rows are wanted of each lookup file and for the retriever.
      hard_negatives: for each question to the retriever, at most.
      domains: what is asked about; the corpus has articles on everything.
    """

    def __init__(
        self,
        worlds: int,
        lookups: int,
        retriever_rows: int,
        hard_negatives: int,
        seed: int,
        domains: Sequence[str],
    ) -> None:
        self._lookups = -(-lookups // worlds)  # in each world
        self._retriever_rows = -(-retriever_rows // worlds)
        self._hard_negatives = hard_negatives
        self._seed = seed
        self._domains = domains
        self.corpus: dict[str, list[dict[str, Any]]] = {}
        self.questions: list[dict[str, Any]] = []
        self.claims: list[dict[str, Any]] = []
        self.retriever: dict[str, list[dict[str, Any]]] = {"retriever": [], "retriever_short": []}
        self.lookups: dict[str, list[dict[str, Any]]] = {}

    def add(self, world: World, rng: random.Random) -> None:
        """Adds all that a world has to ask."""
        for domain, articles in world.edition.articles.items():
            self.corpus.setdefault(_CORPUS_FILES[domain], []).extend(documents(articles))
        questions, claims = (
            [asked for asked in kind if world.entities[asked.fact.entity_id].domain in self._domains]
            for kind in (world.questions, world.claims)
        )
        self.questions += (asked.row for asked in questions)
        self.claims += (asked.row for asked in claims)
        everything = [*questions, *claims]
        chosen = rng.sample(everything, min(self._retriever_rows, len(everything)))
        self.retriever["retriever"] += (
            compose_training_row(asked, world, self._hard_negatives, rng) for asked in chosen
        )
        short = (compose_short_row(asked, world, self._hard_negatives, self._seed) for asked in chosen)
        self.retriever["retriever_short"] += (row for row in short if row is not None)
        for level in (*LEVELS, ASTRAY, ASTRAY_SHORT):
            for name, asked, compose in (
                ("lookups", questions, compose_lookup),
                ("claim_verdicts", claims, compose_verdict),
                ("claim_readings", claims, compose_reading),
            ):
                self.lookups.setdefault(f"{name}_{level}", []).extend(
                    compose(one, level, turn, world, self._seed)
                    for one, turn in _turns(asked, self._lookups, rng)
                )

    def shuffle(self, rng: random.Random) -> None:
        """Mixes the worlds in every file but the corpus."""
        for rows in (self.questions, self.claims, *self.retriever.values(), *self.lookups.values()):
            rng.shuffle(rows)

    def write(self, output: Path, prefix: str) -> None:
        """Writes all files, in a folder for each kind whose name begins with the prefix."""
        seed = self._seed
        files = {f"{prefix}corpus/{name}_{seed}.jsonl": rows for name, rows in self.corpus.items()}
        files |= {
            f"{prefix}questions/{seed}.jsonl": self.questions,
            f"{prefix}claims/{seed}.jsonl": self.claims,
        }
        write_world(files, output)
        for name, rows in self.retriever.items():
            write_dpr_rows(rows, output / f"{prefix}{name}" / f"{seed}.json")
        for name, rows in self.lookups.items():
            write_lookups(rows, output / f"{prefix}{name}" / f"{seed}.parquet")

    def describe(self) -> str:
        """How many rows there are."""
        articles = sum(map(len, self.corpus.values()))
        retriever = sum(map(len, self.retriever.values()))
        lookups = sum(map(len, self.lookups.values()))
        return (
            f"{articles} articles, {len(self.questions)} questions, {len(self.claims)} claims, "
            f"{retriever} rows for the retriever, {lookups} lookups"
        )


def _turns(asked: Sequence[Asked], count: int, rng: random.Random) -> Iterable[tuple[Asked, int]]:
    """As many as wanted in random order: each once before any is taken a second time; of none, none."""
    turn = 0
    while asked and count > 0:
        for one in rng.sample(asked, min(count, len(asked))):
            yield one, turn
        count, turn = count - len(asked), turn + 1


def main(argv: Sequence[str] | None = None) -> None:
    """Composes practice and validation text and says how much there is."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.practice", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--worlds", type=int, default=40, help="worlds to practise on")
    parser.add_argument("--validation_worlds", type=int, default=2, help="worlds to validate on")
    parser.add_argument(
        "--entities",
        type=int,
        default=120,
        help="countries in a world; offices are twice as many, elements 100 at most",
    )
    parser.add_argument("--lookups", type=int, default=20_000, help="rows of each lookup file")
    parser.add_argument("--validation_lookups", type=int, default=1_000, help="the same for validation")
    parser.add_argument("--retriever_rows", type=int, default=20_000, help="rows to train the retriever on")
    parser.add_argument(
        "--validation_retriever_rows", type=int, default=1_000, help="the same for validation"
    )
    parser.add_argument(
        "--hard_negatives", type=int, default=6, help="for each row of the retriever, at most"
    )
    parser.add_argument(
        "--domains", nargs="+", choices=_CORPUS_FILES, default=[*_CORPUS_FILES], help="what is asked about"
    )
    parser.add_argument("--seed", type=int, default=1, help="other seeds give other worlds")
    options = parser.parse_args(argv)
    tables = read_practice_tables()
    taken: set[str] = set()
    for split, prefix, worlds, lookups, retriever_rows in (
        # first, so that it is the same for any number of worlds to practise on
        (
            "validation",
            "validation_",
            options.validation_worlds,
            options.validation_lookups,
            options.validation_retriever_rows,
        ),
        ("training", "", options.worlds, options.lookups, options.retriever_rows),
    ):
        text = PracticeText(
            worlds, lookups, retriever_rows, options.hard_negatives, options.seed, options.domains
        )
        rng = random.Random(f"{options.seed}/{split}")
        for number in range(worlds):
            world = compose_practice_world(f"{split}/{number}", options.entities, taken, tables, options.seed)
            text.add(world, rng)
        text.shuffle(rng)
        text.write(options.output, prefix)
        print(f"{split}: {text.describe()}")


if __name__ == "__main__":
    main()
