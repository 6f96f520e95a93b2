"""Sentence patterns for practice: the sample's shared ones, and many more that the sample has not.

They stand in `examples/sentences/practice`, a list of lines for each kind. `(a|b)` in a line stands for
either, so a line gives one pattern or several. The shared ones are few, and would hardly be met among these:
they are drawn more often.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from examples.patterns import PRACTICE, SHARED, Domain, Pattern, read_domain
from examples.tables import SENTENCES, Tables

_OF_THE_SAMPLE = 0.3  # of what is drawn, patterns that the sample shares
_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")


def read_practice_tables() -> Tables:
    """What practice worlds are composed from; nothing in it is reserved for the sample."""
    domains = {
        path.stem: extend_domain(read_domain(path).only(SHARED), SENTENCES / "practice" / path.name)
        for path in sorted(SENTENCES.glob("*.toml"))
    }
    return Tables(domains, aliases={}, contexts={})


def extend_domain(domain: Domain, path: Path) -> Domain:
    """The domain with the practice patterns of a file besides its own."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))

    def practice(lines: Sequence[str], *kind: str) -> tuple[Pattern, ...]:
        prefix = ".".join([domain.name, *kind, PRACTICE])
        return tuple(Pattern(f"{prefix}.{key}", PRACTICE, text) for key, text in _expanded(lines))

    def extended(shared: tuple[Pattern, ...], lines: Sequence[str], *kind: str) -> tuple[Pattern, ...]:
        more = practice(lines, *kind)
        turns = _OF_THE_SAMPLE / (1 - _OF_THE_SAMPLE) * len(more) / len(shared)
        return (*shared * max(1, round(turns)), *more)

    attributes: Mapping[str, Mapping[str, Sequence[str]]] = table["attributes"]
    return replace(
        domain,
        introductions=extended(domain.introductions, table["introductions"], "introduction"),
        attributes={
            name: replace(
                attribute,
                statements=extended(attribute.statements, attributes[name]["statements"], name, "statement"),
                questions=extended(attribute.questions, attributes[name]["questions"], name, "question"),
                claims=extended(attribute.claims, attributes[name]["claims"], name, "claim"),
            )
            for name, attribute in domain.attributes.items()
        },
        distractors=extended(domain.distractors, table["distractors"], "distractor"),
        fillers=(*domain.fillers, *practice(table["fillers"], "filler")),  # an article has each once
    )


def alternatives(line: str) -> list[str]:
    """The sentences that a line stands for: `It (is|was) so.` gives two."""
    parts = _CHOICE.split(line)
    # every other part is what stood between parentheses
    choices = [part.split("|") if position % 2 else [part] for position, part in enumerate(parts)]
    spaced = (" ".join("".join(chosen).split()) for chosen in product(*choices))
    return [re.sub(r" (?=[.,?])", "", text) for text in spaced]


def _expanded(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, start=1):
        texts = alternatives(line)
        for position, text in enumerate(texts, start=1):
            yield (f"{number}.{position}" if len(texts) > 1 else str(number)), text
