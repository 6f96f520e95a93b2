"""SQuAD's JSON, as benchmarks on real text read it."""

import gzip
import json
from pathlib import Path
from typing import Any


def read_squad(path: Path) -> dict[str, Any]:
    """The content of a SQuAD file, gzipped or not: its articles are in `data`."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return content
