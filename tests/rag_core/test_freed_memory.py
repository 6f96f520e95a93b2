"""What was freed between blocks that stay is held by the C library until it is given back."""

from rag_core.freed_memory import give_back_freed
from rag_core.peak_memory import PeakMemory

_BLOCK = 100_000  # bytes: too few for a mapping of its own


def resident_bytes() -> int:
    """What this process has allocated and touched."""
    with PeakMemory() as now:
        pass
    return now.anonymous


def test_gaps_are_given_back() -> None:
    blocks = [bytearray(_BLOCK) for _ in range(2_000)]
    held = resident_bytes()
    stays = blocks[::100]  # so that no end of the memory is free
    del blocks
    give_back_freed()
    assert held - resident_bytes() > 1_500 * _BLOCK
    assert len(stays) == 20


def test_another_c_library_keeps_what_it_has(monkeypatch) -> None:
    monkeypatch.setattr("rag_core.freed_memory.ctypes.CDLL", lambda name: object())
    give_back_freed()
