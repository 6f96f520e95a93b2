"""Fuzzes the readers with inputs that coverage leads: `python -m tests.faults.coverage_fuzzing --seconds 120`.

What reaches new code of `rag_core` is kept and changed further. Needs the package atheris, which is no
dependency of the tests. A format's process ends with the first input that breaks the rules, and keeps it.
The project's modules are imported late, where atheris sees it.
"""

import argparse
import importlib
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LONGEST_INPUT = 16_384


def main() -> int:
    """Gives each format its share of the time; the status is 1 where something failed."""
    from tests.faults.seed_files import seeds

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--formats", nargs="*", default=[name for name in seeds() if not seeds()[name].is_folder]
    )
    parser.add_argument("--keep", type=Path, default=None, help="folder for inputs that fail")
    arguments = parser.parse_args()
    keep = arguments.keep or Path(tempfile.mkdtemp(prefix="coverage-fuzzing-"))
    share = max(1, arguments.seconds // len(arguments.formats))
    failures = 0
    for name in arguments.formats:
        folder = keep / name.replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        process = multiprocessing.get_context("spawn").Process(
            target=_fuzz, args=(name, share, arguments.seed, folder)
        )
        process.start()
        process.join()
        tried = json.loads((folder / "tried.json").read_text())
        kept = len(list((folder / "corpus").iterdir()))
        print(
            f"{name:<34}{tried:>10,} inputs, {kept:,} of them new code, ended with {process.exitcode}",
            flush=True,
        )
        failures += process.exitcode != 0
    print(f"{failures:,} formats failed, kept in {keep}")
    return 1 if failures else 0


def _fuzz(name: str, seconds: int, number: int, folder: Path) -> None:
    try:
        import atheris
    except ImportError as error:
        raise SystemExit("atheris is not installed: pip install atheris") from error
    with atheris.instrument_imports(include=["rag_core.corpus", "rag_core.questions", "rag_core.training"]):
        examine = importlib.import_module("tests.faults.examined_reading").examine
        seed = importlib.import_module("tests.faults.seed_files").seeds()[name]
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    first, content = next(iter(seed.files.items()))
    (corpus / first).write_bytes(content)
    tried = 0

    def read(data: bytes) -> None:
        nonlocal tried
        tried += 1
        if tried % 100 == 1:
            (folder / "tried.json").write_text(json.dumps(tried))
        if data:
            _read(seed, first, data, folder, examine)

    options = [f"-max_total_time={seconds}", f"-seed={number}", f"-max_len={_LONGEST_INPUT}", "-timeout=60"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", "-verbosity=0", str(corpus)], read)
    atheris.Fuzz()


def _read(seed: Any, first: str, data: bytes, folder: Path, examine: Callable[..., object]) -> None:
    now = folder / "now"
    now.mkdir(exist_ok=True)
    changed = type(seed)(seed.reads, seed.format, seed.files | {first: data})
    examine(changed.write(now), seed.reads, seed.format)


if __name__ == "__main__":
    raise SystemExit(main())
