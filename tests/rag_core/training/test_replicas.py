"""Two processes that train one model give what one gives."""

import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rag_core.errors import UsageError
from rag_core.training.replicas import Replicas
from tests.forked import CONTEXT
from tests.rag_core.mips.small_index import write_index
from tests.rag_core.tiny_encoders import write_dpr_passage_encoder, write_dpr_question_encoder
from tests.rag_core.tiny_generators import save_rag_checkpoint
from tests.rag_core.training.two_processes import TRAINERS, train


def test_one_process_shares_nothing_and_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    alone = Replicas.join("cpu")
    assert (alone.index, alone.count, alone.device) == (0, 1, torch.device("cpu"))
    vectors = torch.ones(2, 3, requires_grad=True)
    assert alone.gather(vectors) is vectors
    assert alone.share([1, 2, 3]) == [1, 2, 3]
    parameter = torch.nn.Parameter(torch.ones(2))
    alone.sum_gradients([parameter])
    assert parameter.grad is None


@pytest.mark.parametrize("items", [0, 1, 2, 7, 9])
def test_shares_in_order_are_the_whole(items: int) -> None:
    shares = [Replicas(index, 3).share(range(items)) for index in range(3)]
    assert [item for share in shares for item in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_missing_package_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"--device cuda:1: several processes would share it"):
        Replicas.join("cuda:1")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UsageError, match=r"pip install 'rag-beam\[train\]'"):
        Replicas.join("cpu")


@pytest.mark.parametrize("kind", [pytest.param("retriever", marks=pytest.mark.slow), "rag"])
def test_two_processes_give_the_losses_of_one(kind: str, tmp_path: Path) -> None:
    """Batches of 3 questions, so the shares differ in size; validation over 5."""
    arguments = _retriever(tmp_path) if kind == "retriever" else _rag(tmp_path)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    processes = [
        CONTEXT.Process(target=train, args=(index, port, kind, str(tmp_path), arguments))
        for index in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    expected = TRAINERS[kind](*arguments, Replicas())
    for index in range(2):
        found = json.loads((tmp_path / f"{index}.json").read_text())
        assert found["replica"] == [index, 2]
        for figures, wanted in zip(found["told"], expected, strict=True):
            assert figures == pytest.approx(wanted, rel=2e-5)


def _retriever(folder: Path) -> list[str]:
    return [
        str(write_dpr_question_encoder(folder / "q")),
        str(write_dpr_passage_encoder(folder / "p")),
    ]


def _rag(folder: Path) -> list[str]:
    save_rag_checkpoint(folder / "rag")
    vectors = np.random.default_rng(1).standard_normal((12, 16)).astype(np.float32)
    index = folder / "index"
    manifest = write_index(str(index), [f"p{row:02}" for row in range(12)], vectors)
    (index / "index.json").write_text(json.dumps(manifest))
    return [str(folder / "rag"), str(index)]
