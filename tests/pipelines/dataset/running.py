"""Runs the small stage from a command line and looks at what lies on disk."""

from pathlib import Path

from pipelines.dataset.target import WORK
from tests.pipelines.dataset.small_stage import Sources, main, write_records

# three units of three records in two sources
SOURCES: Sources = [
    [
        [["a", 1, "accept"], ["b", 2, "accept"], ["c", 1, "accept"]],
        [["d", 3, "accept"], ["a", 1, "accept"], ["e", 1, "redirect"]],
    ],
    [[["f", 1, "accept"], ["g", 1, "accept"], ["b", 1, "accept"]]],
]
UNITS = ["0-0", "0-1", "1-0"]


def argv(folder: Path, *more: str, output: str = "out", sources: Sources = SOURCES) -> list[str]:
    """A command line of the small stage; its input is written where it is not there."""
    records = folder / "records.json"
    if not records.exists():
        write_records(records, sources)
    return [
        "--records",
        str(records),
        "--output",
        str(folder / output),
        "--unique",
        "--progress",
        "none",
        *more,
    ]


def run(folder: Path, *more: str, output: str = "out", sources: Sources = SOURCES) -> int:
    """The exit status of the small stage in this process."""
    return main(argv(folder, *more, output=output, sources=sources))


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unit_file(output: Path, unit: str, suffix: str = "parquet") -> Path:
    """A file of a committed unit of an unfinished folder."""
    source, number = map(int, unit.split("-"))
    return output / WORK / "units" / f"{source:05d}-{number:06d}.{suffix}"


def committed_units(output: Path) -> list[str]:
    """The units whose rows are committed."""
    return [unit for unit in UNITS if unit_file(output, unit).exists()]


def flip_a_bit(path: Path) -> None:
    """Damages a Parquet file in its rows, where only a checksum finds it."""
    damaged = bytearray(path.read_bytes())
    damaged[40] ^= 1
    path.write_bytes(damaged)
