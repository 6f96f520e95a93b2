"""What a worker leaves word of when it fails, and what the launcher reads of it, on any runner."""

import contextlib
import json
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.dataset.target import Target
from pipelines.filesystems import STORAGE
from pipelines.terminal import printable_lines
from rag_core.errors import RagBeamError, path_refused
from rag_core.storage import join

_FAILURE = "failure.json"
_IN_A_TEXT = re.compile(r"<failure>(.*?)</failure>")


class WorkFailed(RagBeamError):
    """A unit failed; the message names it. What was committed before is kept."""


class UntoldFailure(RuntimeError):
    """Carries in its text the word that could not be left in the work folder: the disk is full, say.

    Beam makes another of it from the text with more around it, so there is nothing but the text.
    """


@contextlib.contextmanager
def explained(target: Target, doing: str) -> Iterator[None]:
    """Leaves word of a failure in the work folder, where the launcher finds it on any runner.

    What a runner reports of a worker's exception is a text in its own form; the sentence that the
    user must read and the exit status would be lost in it. Only where no word can be left, that text
    has to do.
    """
    try:
        yield
    except Exception as error:
        told = error if isinstance(error, RagBeamError) else path_refused(error)
        failure = {
            "exit_status": 1 if told is None else told.exit_status,
            "message": f"{doing}: {type(error).__name__}: {error}" if told is None else str(told),
            "traceback": traceback.format_exc() if told is None else "",
        }
        try:
            with STORAGE.create(join(target.work_folder, _FAILURE)) as file:
                file.write(json.dumps(failure).encode())
        except (OSError, RagBeamError):
            raise UntoldFailure(f"<failure>{json.dumps(failure)}</failure>") from error
        raise


def forget_failure(target: Target) -> None:
    """Removes the word of an earlier run."""
    STORAGE.remove(join(target.work_folder, _FAILURE))


def raise_failure(targets: Sequence[Target], error: Exception) -> None:
    """Raises what a worker left word of, with its own sentence and exit status; returns where none did.

    Args:
      error: what the runner made of it.
    """
    failure = _word(targets) or _word_in(str(error))
    if failure is not None:
        print(printable_lines(failure["traceback"]), end="", file=sys.stderr)
        failed = WorkFailed(failure["message"])
        failed.exit_status = failure["exit_status"]
        raise failed from error


def _word(targets: Sequence[Target]) -> dict[str, Any] | None:
    for target in targets:
        with contextlib.suppress(FileNotFoundError), STORAGE.open(join(target.work_folder, _FAILURE)) as file:
            return json.loads(file.read())
    return None


def _word_in(text: str) -> dict[str, Any] | None:
    match = _IN_A_TEXT.search(text)
    return json.loads(match[1]) if match else None
