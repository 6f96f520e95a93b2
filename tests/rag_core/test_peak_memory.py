"""Peak memory counts what was allocated while it looked."""

import numpy as np

from rag_core.peak_memory import PeakMemory


def test_an_allocation_shows_and_a_mapped_file_is_counted_apart(tmp_path) -> None:
    with PeakMemory() as before:
        pass
    with PeakMemory() as allocated:
        block = np.ones(64 << 20, dtype=np.uint8)
        allocated._look()
        del block
    assert allocated.anonymous - before.anonymous > 48 << 20
    np.save(tmp_path / "block.npy", np.ones(64 << 20, dtype=np.uint8))
    with PeakMemory() as mapped:
        block = np.load(tmp_path / "block.npy", mmap_mode="r")
        block.max()
        mapped._look()
    assert mapped.mapped - before.mapped > 32 << 20
