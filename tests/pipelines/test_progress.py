"""Progress: what workers note, and what the launching process shows of it."""

import io
import itertools
import json
import os
import time
from pathlib import Path

import pytest

from pipelines import heartbeat, progress
from pipelines.dataset.ledger import Counts
from pipelines.dataset.target import Target
from pipelines.dataset.unit import Unit, create_unit
from pipelines.filesystems import STORAGE, StoreFailed
from pipelines.heartbeat import Heartbeat, progress_folder, read_notes
from pipelines.progress import Progress
from tests.pipelines.dataset.running import run
from tests.pipelines.dataset.small_stage import record_rows

UNITS = [Unit(0, number, {}, (f"corpus-{number}.txt",), records=100) for number in range(4)]


class Writer:
    """What a heartbeat looks at."""

    def __init__(self, read: int = 0):
        self.counts = Counts(read=read)


class Terminal(io.StringIO):
    """A stderr that is, or is not, a terminal."""

    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(str(tmp_path / "out"), "passages", "chunk", {}, [])


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(heartbeat, "_SECONDS_BETWEEN_NOTES", 0.01)
    monkeypatch.setattr(progress, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.02)


def commit(target: Target, unit: Unit, read: int = 100) -> None:
    with create_unit(STORAGE, target, unit) as writer:
        writer.read(read)
        writer.accept(read)
        writer.write(record_rows(f"r{unit.number}", 1, unit, 0, "plain"))


def soon(condition) -> bool:
    """Whether a condition holds within a few seconds."""
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def notes(target: Target) -> list[dict]:
    return list(read_notes(progress_folder(target)))


def test_a_heartbeat_notes_the_unit_and_its_records_while_they_grow(target):
    writer = Writer(read=3)
    with Heartbeat(target, UNITS[1], writer):
        assert soon(lambda: notes(target))
        assert notes(target) == [{"pid": os.getpid(), "unit": UNITS[1].label, "read": 3}]
        writer.counts.read = 60
        assert soon(lambda: notes(target)[0]["read"] == 60)
    Heartbeat.finished(target, UNITS[1])
    assert notes(target) == []


def test_units_at_work_at_the_same_time_have_a_note_each(target):
    with Heartbeat(target, UNITS[0], Writer(read=3)), Heartbeat(target, UNITS[1], Writer(read=4)):
        assert soon(lambda: sorted(note["read"] for note in notes(target)) == [3, 4])
    Heartbeat.finished(target, UNITS[0])
    assert [note["unit"] for note in notes(target)] == [UNITS[1].label]


def test_a_heartbeat_ends_with_its_unit_whatever_happens(target):
    beat = Heartbeat(target, UNITS[0], Writer())
    with pytest.raises(ZeroDivisionError), beat:
        raise ZeroDivisionError
    assert not beat._thread.is_alive()


def test_notes_that_cannot_be_written_or_read_are_no_failure(target):
    Path(target.folder).mkdir()
    Path(target.work_folder).write_bytes(b"a file where the folder should be")
    with Heartbeat(target, UNITS[0], Writer()):
        time.sleep(0.05)
    Heartbeat.finished(target, UNITS[0])
    assert list(read_notes(target.folder)) == []
    assert list(read_notes(f"{target.folder}/none")) == []


def test_half_a_note_is_passed_over(target):
    folder = Path(progress_folder(target))
    folder.mkdir(parents=True)
    (folder / "1.json").write_text('{"pid": 1, "un')
    (folder / ".2.json").write_text('{"pid": 2, "unit": "u", "read": 7}')
    (folder / "3.json").write_text('{"pid": 3, "unit": "u", "read": 7}')
    assert [note["pid"] for note in notes(target)] == [3]


def test_announcing_tells_the_whole_and_drops_notes_of_an_earlier_run(target):
    """A killed worker's last note would count as records in hand for ever."""
    folder = Path(progress_folder(target))
    folder.mkdir(parents=True)
    (folder / "1.json").write_text('{"pid": 1, "unit": "u", "read": 7}')
    Heartbeat.announce(STORAGE, target, UNITS)
    assert notes(target) == []
    total = Path(target.work_folder, "total.json")
    assert json.loads(total.read_text()) == {"units": 4, "records": 400}
    Heartbeat.announce(STORAGE, target, [*UNITS, Unit(0, 4, {}, ("a",))])
    assert json.loads(total.read_text()) == {"units": 5, "records": None}


def shown(target: Target, monkeypatch, terminal: bool, during) -> str:
    """What is on stderr after `during` ran under a progress display."""
    stderr = Terminal(terminal)
    monkeypatch.setattr(progress.sys, "stderr", stderr)
    with Progress([target], "auto"):
        during(stderr)
    return stderr.getvalue()


def test_lines_tell_units_records_rate_and_time_left(target, monkeypatch):
    Heartbeat.announce(STORAGE, target, UNITS)
    commit(target, UNITS[0])

    def during(stderr):
        assert soon(lambda: "1 of 4 units, 100 records" in stderr.getvalue())
        with Heartbeat(target, UNITS[1], Writer(read=50)):
            assert soon(lambda: "1 of 4 units, 150 records" in stderr.getvalue())
        Heartbeat.finished(target, UNITS[1])
        commit(target, UNITS[1])
        assert soon(lambda: "2 of 4 units, 200 records" in stderr.getvalue())

    lines = shown(target, monkeypatch, False, during).splitlines()
    assert all(line.startswith("chunk: passages: ") for line in lines)
    assert "0.0 records/s, time left not known yet" in lines[0]  # what an earlier run left is no rate
    assert "records/s, about " in lines[-1]
    assert lines[-1].endswith(" s left")


def test_units_are_counted_where_nobody_knows_the_records(target, monkeypatch):
    Heartbeat.announce(STORAGE, target, [*UNITS, Unit(0, 4, {}, ("a",))])

    def during(stderr):
        assert soon(lambda: "0 of 5 units" in stderr.getvalue())
        commit(target, UNITS[0])
        assert soon(lambda: "1 of 5 units, 100 records" in stderr.getvalue())

    assert "units/s" in shown(target, monkeypatch, False, during)


def test_a_terminal_gets_a_bar_that_ends_full(target, monkeypatch):
    Heartbeat.announce(STORAGE, target, UNITS)

    def during(stderr):
        commit(target, UNITS[0])
        assert soon(lambda: "1 of 4 units" in stderr.getvalue())

    text = shown(target, monkeypatch, True, during)
    assert "chunk: passages" in text
    assert "400/400" in text


def test_a_bar_of_a_failed_run_does_not_end_full(target, monkeypatch):
    Heartbeat.announce(STORAGE, target, UNITS)
    stderr = Terminal(True)
    monkeypatch.setattr(progress.sys, "stderr", stderr)
    with pytest.raises(ZeroDivisionError), Progress([target], "auto"):
        assert soon(lambda: "/400" in stderr.getvalue())
        raise ZeroDivisionError
    assert "400/400" not in stderr.getvalue()


def test_a_work_folder_that_goes_away_meanwhile_is_no_failure(target, monkeypatch, recwarn):
    Heartbeat.announce(STORAGE, target, UNITS)

    def during(stderr):
        for _ in range(20):
            for unit in UNITS:
                commit(target, unit)
            STORAGE.remove(target.work_folder)

    shown(target, monkeypatch, False, during)
    assert [str(warning.message) for warning in recwarn if "thread" in str(warning.message).lower()] == []


def test_a_unit_that_an_object_store_no_longer_has_is_passed_over(target, monkeypatch):
    tried = []

    def gone(storage, path):
        tried.append(path)
        raise StoreFailed(path)

    monkeypatch.setattr(progress, "inspect_table", gone)
    Heartbeat.announce(STORAGE, target, UNITS)
    commit(target, UNITS[0])
    shown(target, monkeypatch, False, lambda stderr: soon(lambda: len(tried) > 1))
    assert len(tried) > 1  # goes on looking


def test_looking_takes_a_bounded_share_of_the_time(target, monkeypatch):
    """Many units, or an object store, make looking slow."""
    looks = []

    def slow_update(self):
        looks.append(time.monotonic())
        time.sleep(0.05)

    monkeypatch.setattr(progress._View, "update", slow_update)
    monkeypatch.setattr(progress, "_POLL_REST", 4)
    with Progress([target], "auto"):
        time.sleep(0.7)
    assert len(looks) >= 2
    assert min(later - earlier for earlier, later in itertools.pairwise(looks)) >= 0.05 * 5


def test_none_shows_nothing_and_starts_nothing(target, monkeypatch):
    stderr = Terminal(True)
    monkeypatch.setattr(progress.sys, "stderr", stderr)
    with Progress([target], "none") as display:
        Heartbeat.announce(STORAGE, target, UNITS)
        time.sleep(0.05)
    assert stderr.getvalue() == ""
    assert not display._thread.is_alive()


def test_a_run_with_progress_leaves_no_trace_of_it(tmp_path, capfd):
    assert run(tmp_path, "--progress", "auto") == 0
    assert not (tmp_path / "out" / ".work").exists()
    assert "Traceback" not in capfd.readouterr().err
