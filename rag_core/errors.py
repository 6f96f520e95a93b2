"""What ends a run with one sentence instead of a traceback, and with which exit status."""

import errno
import os

_LONGEST_REASON = 500
# what a system says of a path that a user gave wrongly; a full disk, for one, is another matter
_REFUSED = frozenset(
    {errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
)


class RagBeamError(Exception):
    """A failure that we understand; its message says where, what was expected, what to do.

    Exit status 1: the options and inputs were acceptable, and still the work could not be done
    (a flood of rejects, a worker that died).
    """

    exit_status = 1


class UsageError(RagBeamError):
    """Wrong options, inputs, checksums or a lock held by another run: exit status 2."""

    exit_status = 2


class DamagedFile(UsageError):
    """A file's content is not what a manifest says."""


def path_refused(error: BaseException) -> UsageError | None:
    """The sentence for a path that the system does not let us use; None for any other failure."""
    if not isinstance(error, OSError) or error.errno not in _REFUSED or error.filename is None:
        return None
    return UsageError(
        f"{os.fsdecode(error.filename)}: {error.strerror}; give a path that can be read or written"
    )


def reason_of(error: BaseException) -> str:
    """What an exception of another library says, fit to stand in a sentence: on one line, of bounded length."""
    reason = " ".join(str(error).split())
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"


class WriteFailed(RagBeamError):
    """The system would not write a file: no room, no permission, a broken disk."""
