"""Tuning and the automatic choice: the floor is reached on the exact search's terms, or it is said."""

import numpy as np
import pytest

from rag_core.mips import auto
from rag_core.mips.approximate import Effort
from rag_core.mips.auto import candidate_factories, choose_factory
from rag_core.mips.codes import add_codes
from rag_core.mips.factory import EXACT, Factory
from rag_core.mips.price import recall
from rag_core.mips.tuning import Sample, Trial, choose_effort, quickest_factory, table, tune
from rag_core.storage import LocalStorage
from tests.rag_core.mips.small_index import open_index, write_index

MEMORY = 64 << 20
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((4_000, 16)).astype(np.float32)
QUESTIONS = RNG.standard_normal((60, 16)).astype(np.float32)
OF_NO_ROW = np.full(60, -1)
IDS = [f"{row:04d}" for row in range(4_000)]


def tuned(folder, text: str, min_recall: float):
    factory = Factory.parse(text, 16)
    manifest = add_codes(
        LocalStorage(), str(folder), write_index(str(folder), IDS, VECTORS), factory, VECTORS
    )
    index = open_index(str(folder), manifest | {"effort": Effort().to_json()})
    sample = Sample.take(index, QUESTIONS, OF_NO_ROW, 20, MEMORY)
    trials = tune(
        index,
        factory,
        sample,
        min_recall=min_recall,
        recall_at=20,
        memory_bytes=MEMORY,
    )
    return index, sample, trials


@pytest.mark.parametrize("text", ["IVF32,Flat", "HNSW8", "IVF32,PQ8x4fs,RFlat", "SQ8"])
def test_the_chosen_effort_reaches_the_floor_and_less_does_not(tmp_path, text) -> None:
    index, sample, trials = tuned(tmp_path, text, 0.9)
    best = choose_effort(trials, 0.9)
    assert best.recall >= 0.9
    found = index.search(QUESTIONS, 20, memory_bytes=MEMORY, effort=best.effort)
    assert recall(found, sample.exact, 20).value == pytest.approx(best.recall, abs=0.02)
    same_refining = [trial for trial in trials if trial.effort.refine_factor == best.effort.refine_factor]
    assert all(trial.recall_low < 0.9 for trial in same_refining[:-1])
    assert best.bytes_per_vector == pytest.approx(index.code_bytes / 4_000)


def test_without_refining_coarse_codes_do_not_reach_it(tmp_path) -> None:
    _, _, trials = tuned(tmp_path, "PQ4x4", 0.9)
    assert len(trials) == 1
    assert choose_effort(trials, 0.9).recall < 0.9


def test_an_effort_is_chosen_by_what_it_reads_and_a_factory_by_the_clock() -> None:
    trials = [
        Trial("a", None, 0.99, 0.99, 10.0, 8.0, 100.0),
        Trial("b", None, 0.97, 0.96, 30.0, 8.0, 200.0),
        Trial("c", None, 0.96, 0.94, 90.0, 8.0, 50.0),
    ]
    assert quickest_factory(trials, 0.95).factory == "b"
    assert choose_effort(trials, 0.95).factory == "a"
    for choose in (quickest_factory, choose_effort):
        assert choose(trials, 0.995).factory == "a"  # none reaches it
    shown = list(table(trials, 20))
    assert "recall@20" in shown[0]
    assert [line.split()[0] for line in shown[1:]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "codes_read"),
    [
        ("IVF32,Flat", lambda effort: 4_000 * effort.nprobe / 32),
        ("HNSW8", lambda effort: 16 * effort.ef_search),
    ],
)
def test_what_an_effort_reads_is_counted_from_codes_and_candidates(tmp_path, text, codes_read) -> None:
    index, _, trials = tuned(tmp_path, text, 2.0)  # out of reach: all are tried
    for trial in trials:
        candidates = max(20 * trial.effort.refine_factor, 28)
        expected = codes_read(trial.effort) * index.code_bytes / 4_000 + candidates * 16 * 4
        assert trial.bytes_read == pytest.approx(expected)
    assert len(trials) > 3


def test_candidates_fit_memory_and_have_rows_enough_to_train() -> None:
    wide = candidate_factories(1_000_000, 384, 64 << 30)
    assert wide[0] == "HNSW32"
    assert "IVF2048,PQ192x4fs,RFlat" in wide
    narrow = candidate_factories(1_000_000, 384, 300 << 20)
    assert narrow == ["IVF2048,PQ192x4fs,RFlat", "IVF2048,PQ96x4fs,RFlat"]
    assert candidate_factories(1_000_000, 384, 1 << 20) == []
    for rows in (20_000, 100_000, 21_015_324):
        for text in candidate_factories(rows, 384, 1 << 62):
            if text.startswith("IVF"):
                assert Factory.parse(text.split(",")[0] + ",Flat", 384).train_rows_required() <= rows


def test_auto_tries_each_candidate_and_takes_one_that_reaches_the_floor(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(auto, "_LEAST_ROWS", 1_000)
    monkeypatch.setattr(auto, "TRIAL_ROWS", 2_000)
    index = open_index(str(tmp_path), write_index(str(tmp_path), IDS, VECTORS, [1_500]))
    for questions in (None, QUESTIONS):
        text, trials = choose_factory(
            index, questions, n_questions=50, memory_bytes=MEMORY, min_recall=0.9, recall_at=10
        )
        kinds = [trial.factory for trial in trials]
        assert kinds == [EXACT, *candidate_factories(4_000, 16, MEMORY)]
        chosen = next(trial for trial in trials if trial.factory == text)
        assert chosen.recall >= 0.9
        assert trials[0].recall == 1.0


def test_auto_leaves_a_small_corpus_to_the_exact_search(tmp_path) -> None:
    index = open_index(str(tmp_path), write_index(str(tmp_path), IDS, VECTORS))
    assert choose_factory(index, None, n_questions=50, memory_bytes=MEMORY, min_recall=0.9, recall_at=10) == (
        EXACT,
        [],
    )
