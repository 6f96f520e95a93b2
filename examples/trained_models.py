"""Where training put what it made."""

from pathlib import Path


def trained_folder(name: str, train: Path) -> Path:
    """Where lies what train.yaml names: among its outputs or, as `../out/average/reader`, beside them.

    Args:
      train: what `rag-beam run examples/train.yaml` wrote.
    """
    return train.parent / name.removeprefix("../out/") if name.startswith("../out/") else train / name
