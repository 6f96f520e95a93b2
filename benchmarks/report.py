"""What every benchmark shares: its --json option, its comparisons, the machine it ran on."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Comparison:
    """One comparison of ours with a peer.

    Attributes:
      ours: median, in `unit`.
      peer: median, in `unit`.
      ratio: how many times better ours is; above 1 is ahead.
      agrees: whether both gave the same result.
    """

    name: str
    unit: str
    ours: float
    peer: float
    ratio: float
    runs: int
    settings: dict[str, Any]
    agrees: bool


def argument_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the option that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", help="write the comparisons to this file")
    return parser


def write_report(comparisons: Sequence[Comparison], path: str | None) -> None:
    """Prints a line a comparison, and writes them as JSON where a path is given."""
    for item in comparisons:
        print(
            f"{item.name}: ours {item.ours:.4g} {item.unit}, peer {item.peer:.4g} {item.unit}, ratio {item.ratio:.3g}, "
            f"{'agrees' if item.agrees else 'DIFFERS'} ({item.runs} runs)"
        )
    if path:
        with open(path, "w") as file:
            json.dump([asdict(item) | {"machine": machine()} for item in comparisons], file, indent=1)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor()
