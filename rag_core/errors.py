"""What ends a run with one sentence instead of a traceback, and with which exit status."""


class RagBeamError(Exception):
    """A failure that we understand; its message says where, what was expected, what to do.

    Exit status 1: the options and inputs were acceptable, and still the work could not be done
    (a flood of rejects, a worker that died).
    """

    exit_status = 1


class UsageError(RagBeamError):
    """Wrong options, inputs, checksums or a lock held by another run: exit status 2."""

    exit_status = 2
