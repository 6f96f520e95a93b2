"""What a stopped run left, changed before the same command is given again: not taken, or refused in a sentence."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipelines.dataset.manifest import MANIFEST
from pipelines.dataset.target import WORK, Target
from pipelines.dataset.unit import Unit, committed_report
from pipelines.filesystems import STORAGE
from rag_core.training.checkpoint import read_checkpoint
from tests.faults.full_disk import no_room_at
from tests.faults.refused import Options, refusal
from tests.faults.stage_commands import training_options
from tests.pipelines.commands import history_of, manifest_of, rag_beam, read_rejects, read_table, status_of
from tests.pipelines.conftest import World
from tests.pipelines.damage import flip_byte
from tests.pipelines.dataset.running import flip_a_bit, run, unit_file
from tests.pipelines.dataset.small_stage import (
    ListRecords,
    RecordsSettings,
    Sources,
    computed,
    set_trap,
    target_of,
)

# three units of two sources, with rejects and ids that come twice; the last one is stopped at
RECORDS: Sources = [
    [[["a", 1, "accept"], ["b", 2, "bad_row"], ["c", 1, "accept"]], [["a", 1, "accept"], ["d", 1, "accept"]]],
    [[["c", 1, "accept"], ["e", 1, "bad_json"]]],
]

UNIT_DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "flipped": lambda file, others: flip_byte(file, file.stat().st_size // 2),
    "truncated": lambda file, others: file.write_bytes(file.read_bytes()[:-8]),
    "emptied": lambda file, others: file.write_bytes(b""),
    "missing": lambda file, others: file.unlink(),
    "of another run": lambda file, others: shutil.copy(others, file),
}


def stop(folder: Path, *more: str, sources: Sources = RECORDS) -> None:
    trap = set_trap(folder / "trap.json", "1-0", "raise")
    assert run(folder, "--trap", str(trap), *more, sources=sources) == 1
    trap.unlink()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped, one of other records that was, and one that was not: `mine`, `others`, `undisturbed`."""
    folder = tmp_path_factory.mktemp("runs")
    others = [[[[f"x{record[0]}", *record[1:]] for record in unit] for unit in units] for units in RECORDS]
    for name in ("mine", "others", "undisturbed"):
        (folder / name).mkdir()
    stop(folder / "mine")
    stop(folder / "others", "--flavour", "other", sources=others)
    assert run(folder / "undisturbed", sources=RECORDS) == 0
    return folder


@pytest.mark.parametrize("damage", UNIT_DAMAGE)
@pytest.mark.parametrize("suffix", ["parquet", "keys", "rejects.parquet"])
def test_a_file_of_a_unit_that_is_not_what_was_committed_is_not_taken(
    runs: Path, tmp_path: Path, damage: str, suffix: str
) -> None:
    mine = Path(shutil.copytree(runs / "mine", tmp_path / "mine"))
    victim = unit_file(mine / "out", "0-0", suffix)
    UNIT_DAMAGE[damage](victim, unit_file(runs / "others" / "out", "0-0", suffix))
    assert run(mine) == 0
    assert Counter(computed(mine / "records.json")) == {"0-0": 2, "0-1": 1, "1-0": 2}
    undisturbed = runs / "undisturbed" / "out"
    assert read_table(mine / "out").equals(read_table(undisturbed))
    assert read_rejects(mine / "out") == read_rejects(undisturbed)
    assert manifest_of(mine / "out").counts == manifest_of(undisturbed).counts


@pytest.fixture
def stopped_unit(tmp_path: Path) -> tuple[Target, Unit, Path]:
    """A committed unit of a run that was stopped: its target, the unit, the file of its rows."""
    stop(tmp_path)
    records, output = str(tmp_path / "records.json"), str(tmp_path / "out")
    target = target_of(RecordsSettings(records=records, output=output, unique=True))
    return target, next(ListRecords(records).plan()), unit_file(tmp_path / "out", "0-0")


def test_a_flipped_bit_anywhere_in_a_units_rows_is_found(stopped_unit: tuple[Target, Unit, Path]) -> None:
    """Also in the footer, which has no checksum of Parquet's."""
    target, unit, rows = stopped_unit
    whole = rows.read_bytes()
    assert committed_report(STORAGE, target, unit) is not None
    for place in range(len(whole)):
        rows.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert committed_report(STORAGE, target, unit) is None, place


def test_a_unit_whose_run_was_killed_before_its_seal_is_whole(
    stopped_unit: tuple[Target, Unit, Path],
) -> None:
    target, unit, rows = stopped_unit
    sealed = committed_report(STORAGE, target, unit)
    rows.with_suffix(".sha256").unlink()
    assert committed_report(STORAGE, target, unit) == sealed
    flip_a_bit(rows)
    assert committed_report(STORAGE, target, unit) is None


@pytest.mark.parametrize("damage", ["flipped", "emptied", "of another run"])
def test_a_part_that_is_not_what_was_assembled_is_assembled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Also where Parquet has no checksum: at the end, in the footer."""
    run(tmp_path, output="undisturbed", sources=RECORDS)
    run(tmp_path, "--flavour", "other", output="others")
    with monkeypatch.context() as patch:
        no_room_at(patch, f"out/{MANIFEST}")
        assert run(tmp_path) == 1
    name = "part-00000-00000.parquet"
    part = tmp_path / "out" / name
    if damage == "flipped":
        flip_byte(part, -100)
    else:
        UNIT_DAMAGE[damage](part, tmp_path / "others" / name)
    assert run(tmp_path) == 0
    assert part.read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


PLAN_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "edited": lambda plan: plan.replace(b"plain", b"other"),
    "truncated": lambda plan: plan[:-40],
    "empty": lambda plan: b"",
    "not JSON": lambda plan: b"{'table': 'passages'}",
    "not UTF-8": lambda plan: plan.replace(b"plain", b"pla\xff\xfe"),
    "an array": lambda plan: b"[" + plan + b"]",
    "another's": lambda plan: b"{}",
}


@pytest.mark.parametrize("damage", PLAN_DAMAGE)
def test_a_plan_that_is_not_what_was_written_is_not_resumed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    stop(tmp_path)
    plan = tmp_path / "out" / WORK / "plan.json"
    plan.write_bytes(PLAN_DAMAGE[damage](plan.read_bytes()))
    capsys.readouterr()
    assert run(tmp_path) == 2
    assert f"rag-beam: {plan}: was changed or damaged" in capsys.readouterr().err
    assert run(tmp_path, "--overwrite") == 0


def test_a_plan_of_an_earlier_version_is_resumed_on(tmp_path: Path) -> None:
    stop(tmp_path)
    plan = tmp_path / "out" / WORK / "plan.json"
    content = json.loads(plan.read_text())
    del content["checksum"]
    plan.write_text(json.dumps(content))
    assert run(tmp_path) == 0
    assert computed(tmp_path / "records.json").count("0-0") == 1


def stopped_index(world: World, output: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """An index of which only the manifest is missing."""
    options = {"embeddings": world.made("embeddings"), "passages": world.made("passages"), "shard_rows": 60}
    with monkeypatch.context() as patch:
        no_room_at(patch, f"{output.name}/{MANIFEST}")
        assert status_of("index", **options, output=output) == 1
    return options


@pytest.mark.parametrize(
    "file", ["shard-00000.vectors.npy", "shard-00001.passages.arrow", "the shards' list"]
)
def test_an_index_is_not_called_whole_over_a_file_that_changed_before_the_resume(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
) -> None:
    output = tmp_path / "index"
    options = stopped_index(world, output, monkeypatch)
    if file == "the shards' list":
        [victim] = (output / WORK).rglob("shards/part-*")
    else:
        victim = output / file
    flip_byte(victim, -1)
    assert str(victim) in refusal(capsys, output, "index", options)
    rag_beam("index", **options, output=output, overwrite=True)
    rag_beam("index", **options, output=tmp_path / "undisturbed")
    assert manifest_of(output).parts == manifest_of(tmp_path / "undisturbed").parts


def test_a_data_set_on_the_way_is_proved_when_a_retrieval_is_resumed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    asking = {"encoder": world.question_encoder, "questions": world.questions, "n_docs": 3, "num_threads": 1}
    asked = asking | {"index": world.made("index")}
    with monkeypatch.context() as patch:
        no_room_at(patch, "out/part-00000-00000.parquet")
        assert status_of("retrieve", **asked, output=output) == 1
    unit_files = sorted((output / WORK / "units").glob("*.parquet"))
    assert unit_files
    for path in unit_files:
        path.unlink()  # so that the resumed run reads what it was made from
    [questions] = (output / WORK / "question_vectors").glob("part-*")
    flip_byte(questions, questions.stat().st_size // 2)
    assert str(questions) in refusal(capsys, output, "retrieve", asked)


@pytest.fixture
def training(world: World) -> Options:
    return training_options(world)


@pytest.fixture(scope="module")
def trainings(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was stopped, one at another rate that was, and one that was not, named as in `runs`."""
    folder = tmp_path_factory.mktemp("trainings")
    common = training_options(world)
    with pytest.MonkeyPatch.context() as patch:
        no_room_at(patch, "history.parquet")
        for name, rate in (("mine", 1e-4), ("others", 2e-4)):
            assert status_of("train_retriever", **common, learning_rate=rate, output=folder / name) == 1
    rag_beam("train_retriever", **common, learning_rate=1e-4, output=folder / "undisturbed")
    return folder


@pytest.mark.parametrize("damage", ["flipped", "truncated", "emptied", "of another run"])
def test_a_checkpoint_that_is_not_the_runs_own_is_refused(
    training: Options, trainings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    """In the middle of its weights, where torch would notice nothing."""
    mine = Path(shutil.copytree(trainings / "mine", tmp_path / "mine"))
    checkpoint = mine / WORK / "checkpoint.pt"
    UNIT_DAMAGE[damage](checkpoint, trainings / "others" / WORK / "checkpoint.pt")
    told = refusal(capsys, mine, "train_retriever", training | {"learning_rate": 1e-4})
    assert f"{checkpoint}: cannot be resumed from" in told
    assert "remove it to start afresh" in told
    checkpoint.unlink()
    rag_beam("train_retriever", **training, learning_rate=1e-4, output=mine)
    assert history_of(mine) == history_of(trainings / "undisturbed")


def test_a_checkpoint_of_an_earlier_version_is_resumed_from(
    training: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no checksum at its end, and does not tell which run it is of."""
    output = tmp_path / "out"
    checkpoint = output / WORK / "checkpoint.pt"
    with monkeypatch.context() as patch:
        no_room_at(patch, "history.parquet")
        assert status_of("train_retriever", **training, output=output) == 1
    state = read_checkpoint(STORAGE, str(checkpoint))
    del state["belongs_to"]
    torch.save(state, checkpoint)
    rag_beam("train_retriever", **training, output=output)
    assert "goes on after step 4" in capsys.readouterr().out
