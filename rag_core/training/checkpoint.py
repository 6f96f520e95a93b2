"""The file that a training run goes on from: its state, and a checksum of that."""

import hashlib
import io
from typing import Any, BinaryIO, cast

import torch

from rag_core.storage import Storage
from rag_core.tables import HashingFile

# before the SHA-256 at the end of the file: torch does not notice a flipped bit
_DIGEST_MARK = b"rag-beam sha256:"


def write_checkpoint(storage: Storage, path: str, state: dict[str, Any]) -> None:
    """Commits a state of tensors, numbers and strings, whole or not at all."""
    with storage.create(path) as file:
        hashing = HashingFile(file)
        torch.save(state, cast(BinaryIO, hashing))
        file.write(_DIGEST_MARK + bytes.fromhex(hashing.sha256))


def read_checkpoint(storage: Storage, path: str) -> dict[str, Any]:
    """The state, on the CPU.

    Raises:
      FileNotFoundError: there is none.
      Exception: it is damaged; of what kind depends on what torch makes of it.
    """
    with storage.open(path) as file:
        content = io.BytesIO(_proved(file.read()))
    # weights only: a checkpoint holds tensors and numbers, so no code of it is ever run
    state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
    return state


def _proved(content: bytes) -> bytes:
    """The state's bytes, compared with their SHA-256; checkpoints of earlier versions have none."""
    end = content.rfind(_DIGEST_MARK)
    if end < 0:
        return content
    if hashlib.sha256(content[:end]).digest() != content[end + len(_DIGEST_MARK) :]:
        raise ValueError("its content is not what was written")
    return content[:end]
