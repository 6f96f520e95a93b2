"""Only units, reports and plans cross between Beam's steps: no element is larger than 64 kB, in any stage."""

import pickle
from pathlib import Path

import pytest

from benchmarks.elements import Crossing, run_measured
from pipelines.dataset.duplicates import plan_buckets
from pipelines.dataset.ledger import Counts
from pipelines.dataset.unit import UnitReport
from pipelines.run import STAGES
from tests.pipelines.conftest import PASSAGE_WORDS, World

MOST_BYTES = 64 << 10


def command(world: World, stage: str) -> list[str]:
    """What a stage's command line says besides its output."""
    passages, embeddings = ["--passages", world.made("passages")], ["--embeddings", world.made("embeddings")]
    asked = ["--questions", str(world.questions), "--encoder", str(world.question_encoder), "--n_docs", "4"]
    model = ["--model", str(world.generator)]
    return {
        "chunk": ["--input", str(world.corpus), "--passage_words", str(PASSAGE_WORDS)],
        "encode": [*passages, "--encoder", str(world.passage_encoder), "--unit_rows", "30"],
        "index": [*passages, *embeddings, "--factory", "HNSW8,Flat", "--shard_rows", "50"],
        "retrieve": ["--index", world.made("index"), *asked, "--question_block", "3", "--unit_rows", "3"],
        "generate": [
            *("--retrievals", world.made("retrievals"), *model, "--model_type", "rag_token"),
            *("--max_new_tokens", "3", "--token_posteriors", "--unit_rows", "3"),
        ],
        "classify": [
            "--retrievals",
            world.made("claim_retrievals"),
            *model,
            "--label_set",
            "SUPPORTS",
            "REFUTES",
        ],
        "evaluate": ["--predictions", world.made("retrievals"), "--references", str(world.questions)],
    }[stage]


def too_large(crossings: list[Crossing]) -> list[Crossing]:
    return [crossing for crossing in crossings if crossing.largest > MOST_BYTES]


@pytest.mark.parametrize(
    "stage", ["chunk", "encode", "index", "retrieve", "generate", "classify", "evaluate"]
)
def test_no_element_between_steps_is_larger_than_64_kb(world, tmp_path: Path, stage):
    crossings = run_measured(STAGES[stage], [*command(world, stage), "--output", str(tmp_path / "out")])
    measured = {crossing.producer.rsplit("/", 1)[-1] for crossing in crossings}
    assert {"PlanUnits", "ComputeUnit", "PlanParts", "AssemblePart", "WriteManifest"} <= {
        name.removeprefix("ParDo(").removesuffix(")") for name in measured
    }, measured
    assert not too_large(crossings)


def test_a_bucket_of_hashes_does_not_grow_with_the_units():
    """One element a bucket, whatever the corpus: what all share is told once, as a side input."""
    reports = [
        UnitReport(source, number, 2_000, Counts(read=2_000, accepted=2_000))
        for source in range(100)
        for number in range(100)
    ]
    buckets = plan_buckets(reports)
    assert len(buckets) > 1
    assert max(len(pickle.dumps(bucket)) for bucket in buckets) < MOST_BYTES
