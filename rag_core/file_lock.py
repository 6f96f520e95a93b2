"""Files that the kernel locks: a lock ends with the process that has it, so none is ever stale."""

import contextlib
import fcntl
import os


def lock_file(path: str, how: int, mode: int = 0o600) -> int:
    """Opens a file, made where it is missing, and locks it; closing the descriptor gives the lock back.

    Who holds an exclusive lock may remove the file. So what was locked is held against what has the path by
    then, and it is tried again where that is another file or none.

    Args:
      how: `fcntl.LOCK_EX` or `LOCK_SH`, with `LOCK_NB` not to wait.
      mode: of a file that is made.

    Returns:
      The descriptor, open for reading and writing.

    Raises:
      BlockingIOError: another holds it, and it is not to be waited for.
      OSError: the file cannot be opened or made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode)
        try:
            fcntl.flock(descriptor, how)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
