"""Sentence patterns for practice: the sample's shared ones, and many more that the sample has not.

They stand in `examples/sentences/practice`, a list of lines for each kind. `(a|b)` in a line stands for
either, so a line gives one pattern or several; of those that give thousands some are drawn. The shared ones
are few, and would hardly be met among these: they are drawn more often. Half of the distractors are claims,
told of somebody else: whoever reads them has nothing but the name to go by.
"""

import math
import random
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from examples.patterns import PRACTICE, SHARED, Domain, Pattern, read_domain
from examples.tables import SENTENCES, Tables

_OF_THE_SAMPLE = 0.3  # of what is drawn, patterns that the sample shares
_MOST_OF_A_LINE = 60  # patterns
_MOST_OF_A_FILLER = 3  # of a line's: with more, those of lines without choices would hardly be drawn
_OTHERS = ("like", "peer_a", "like", "peer_b", "like", "peer_c")  # half of what is retold is of like names
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
        most = _MOST_OF_A_FILLER if kind == ("filler",) else _MOST_OF_A_LINE
        keys = {text: key for key, text in _expanded(lines, most)}  # two lines may give the same sentence
        return tuple(Pattern(f"{prefix}.{key}", PRACTICE, text) for text, key in keys.items())

    def extended(shared: tuple[Pattern, ...], lines: Sequence[str], *kind: str) -> tuple[Pattern, ...]:
        known = {pattern.text for pattern in shared}
        more = tuple(pattern for pattern in practice(lines, *kind) if pattern.text not in known)
        turns = _OF_THE_SAMPLE / (1 - _OF_THE_SAMPLE) * len(more) / len(shared)
        return (*shared * max(1, round(turns)), *more)

    attributes: Mapping[str, Mapping[str, Sequence[str]]] = table["attributes"]
    distractors = [text for _, text in _expanded(table["distractors"])]
    retold = [text for name in attributes for text in _retold(attributes[name]["claims"], name)]
    distractors += random.Random(domain.name).sample(retold, min(len(retold), len(distractors)))
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
        distractors=extended(domain.distractors, distractors, "distractor"),
        fillers=extended(domain.fillers, table["fillers"], "filler"),  # an article has each once
    )


def alternatives(line: str, most: int | None = None) -> list[str]:
    """The sentences that a line stands for: `It (is|was) so.` gives two.

    Args:
      most: how many are drawn of those of a line that stands for more; the same line gives the same ones.
    """
    parts = _CHOICE.split(line)
    # every other part is what stood between parentheses
    choices = [part.split("|") if position % 2 else [part] for position, part in enumerate(parts)]
    count = math.prod(map(len, choices))
    numbers: Iterable[int] = range(count)
    if most is not None and count > most:
        numbers = sorted(random.Random(line).sample(range(count), most))
    return [_sentence(choices, number) for number in numbers]


def _retold(claims: Iterable[str], attribute: str) -> Iterator[str]:
    """Claims as statements about other entities: `{name} pays in {value}` as `{like} pays in {like_currency}`."""
    plain = (text for _, text in _expanded(claims) if "{?" not in text)
    for who, text in zip(cycle(_OTHERS), plain, strict=False):
        told = text.replace("{name}", f"{{{who}}}").replace("{value}", f"{{{who}_{attribute}}}")
        yield re.sub(r"\{(a )?(demonym|region|country|office)\}", rf"{{\g<1>{who}_\2}}", told)


def _sentence(choices: Sequence[Sequence[str]], number: int) -> str:
    """One of all sentences in their order, in which the last choice changes fastest."""
    chosen = []
    for choice in reversed(choices):
        number, position = divmod(number, len(choice))
        chosen.append(choice[position])
    spaced = " ".join("".join(reversed(chosen)).split())
    return re.sub(r" (?=[.,?])", "", spaced)


def _expanded(lines: Iterable[str], most: int = _MOST_OF_A_LINE) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, start=1):
        texts = alternatives(line, most)
        for position, text in enumerate(texts, start=1):
            yield (f"{number}.{position}" if len(texts) > 1 else str(number)), text
