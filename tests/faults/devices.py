"""Devices with little memory and models that give no numbers, injected where passes through a model begin."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
import torch

from pipelines.transforms.models import GeneratorLoader, PassageEncoderLoader, QuestionEncoderLoader
from rag_core import decoder
from rag_core.context import PassageText
from rag_core.encoders.tower import Tower
from rag_core.generator import Generator
from tests.pipelines.commands import read_table
from tests.pipelines.conftest import World

LOADING: dict[str, Any] = {"device": "auto", "dtype": "auto", "allow_pickle": False, "num_threads": 1}


def assert_same(table: pa.Table, expected: pa.Table) -> None:
    """Equal rows, their numbers up to rounding: another batch adds in another order."""
    assert table.schema == expected.schema
    assert_close(table.to_pylist(), expected.to_pylist())


def assert_close(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert_close(ours[name], value)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            assert_close(our, their)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-4)
    else:
        assert ours == theirs


class Memory:
    """Where passes through a model ask for memory: refused as the test says.

    Attributes:
      passes: rows of each pass that had enough.
      refused: passes that had not.
    """

    def __init__(self, refuses: Callable[[Sequence[Any], int], bool]):
        self.passes: list[int] = []
        self.refused = 0
        self._refuses = refuses

    def take(self, rows: Sequence[Any]) -> None:
        if self._refuses(rows, len(self.passes) + self.refused):
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory, as injected")
        self.passes.append(len(rows))

    def over(self, passes: Callable[..., Any], argument: int = 1) -> Callable[..., Any]:
        """The function, asking for memory by its rows first."""

        def limited(*arguments: Any) -> Any:
            self.take(arguments[argument])
            return passes(*arguments)

        return limited


def limit_memory(
    monkeypatch: pytest.MonkeyPatch, refuses: Callable[[Sequence[Any], int], bool], *, decoding: bool = False
) -> Memory:
    """Of encoders, and of a generator's encoder or decoder."""
    memory = Memory(refuses)
    if decoding:
        monkeypatch.setattr(decoder, "_read", memory.over(decoder._read, argument=2))
    else:
        monkeypatch.setattr(Tower, "_forward", memory.over(Tower._forward))
        monkeypatch.setattr(Generator, "_encode", memory.over(Generator._encode))
    return memory


def tokens_of(world: World, command: str) -> list[list[list[int]]]:
    """Of each record that a command reads, the token ids that a model is given."""
    if command == "encode":
        passages = read_table(world.made("passages")).to_pylist()
        tower = PassageEncoderLoader(str(world.passage_encoder), **LOADING).load().tower
        rows = tower.tokenize([row["title"] for row in passages], [row["text"] for row in passages])
        return [[row.tolist()] for row in rows]
    if command == "retrieve":
        questions = read_table(world.made("retrievals")).column("question").to_pylist()
        tower = QuestionEncoderLoader(str(world.question_encoder), **LOADING).load().tower
        return [[row.tolist()] for row in tower.tokenize(questions, None)]
    made = "claim_retrievals" if command == "classify" else "retrievals"
    contexts = GeneratorLoader(str(world.generator), **LOADING).load().contexts
    return [
        [
            list(context)
            for context in contexts(
                row["question"],
                [PassageText(passage["title"], passage["text"]) for passage in row["passages"]],
            )
        ]
        for row in read_table(world.made(made)).to_pylist()
    ]


def without_numbers(passes: Callable[..., Any], tokens: list[list[int]], value: float) -> Callable[..., Any]:
    """The function, whose results for rows of these tokens are no numbers."""

    def poisoned(model: Any, rows: Sequence[Any]) -> torch.Tensor:
        result = passes(model, rows).clone()
        result[torch.tensor([list(row) in tokens for row in rows], device=result.device)] = value
        return result

    return poisoned
