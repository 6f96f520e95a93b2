"""Tells how far the reading is: a bar on a terminal, else a line now and then."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

from rag_core.storage import Storage, file_sha256

_SECONDS_BETWEEN_LINES = 30.0


class Reading:
    """Counts the bytes of files whose content has been hashed."""

    def __init__(self, total_bytes: int, mode: str):
        """`mode` is `--progress`; `none` tells nothing."""
        self._silent = mode == "none"
        self._total, self._done = total_bytes, 0
        self._began = self._last_line = time.monotonic()
        self._bar: tqdm | None = None
        if not self._silent and sys.stderr.isatty():
            self._bar = tqdm(total=total_bytes, desc="verify", unit="B", unit_scale=True, file=sys.stderr)

    def __enter__(self) -> "Reading":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def sha256(self, storage: Storage, path: str) -> str:
        """SHA-256 (hex) of a file, counted when it is read."""
        found = file_sha256(storage, path)
        self._read(storage.size(path))
        return found

    def tell(self, line: str) -> None:
        """Prints a line of the report without breaking the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
        else:
            print(line, flush=True)

    def _read(self, count: int) -> None:
        self._done += count
        if self._silent:
            return
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            rate = self._done / (self._last_line - self._began)
            left = max(0, self._total - self._done) / rate
            print(
                f"verify: {self._done:,} of {self._total:,} bytes read, {rate / 1e6:.1f} MB/s, "
                f"about {left:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )


def prove_file(reading: Reading, storage: Storage, path: str, size: int, sha256: str) -> str | None:
    """What is wrong with a file that a manifest lists; None where it is whole."""
    remedy = "make the data set again with --overwrite, or copy it again"
    if not storage.exists(path) or storage.is_folder(path):
        return f"{path}: is missing, though the manifest lists it; {remedy}"
    found = storage.size(path)
    if found != size:
        return f"{path}: has {found:,} bytes, expected {size:,} from the manifest; {remedy}"
    digest = reading.sha256(storage, path)
    if digest != sha256:
        return (
            f"{path}: its content has SHA-256 {digest[:12]}…, expected {sha256[:12]}… from the manifest: it was "
            f"changed or damaged since, or is of another run; {remedy}"
        )
    return None
