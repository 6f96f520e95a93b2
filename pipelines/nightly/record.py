"""`current.json`: the nights that are whole, and where each step's output of them lies. Replaced at once."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from pipelines.dataset.manifest import CREATED_BY
from pipelines.filesystems import STORAGE
from rag_core.errors import UsageError
from rag_core.storage import join

CURRENT = "current.json"
NIGHT = "night-"


@dataclasses.dataclass(frozen=True)
class Night:
    """A night that is whole.

    Attributes:
      steps: each step's output, relative to the run's: in this night's folder, or in an earlier one's where nothing
        had changed.
      changes: what became of a step's answers or labels since the night before, by step; relative, too.
    """

    number: int
    steps: dict[str, str]
    changes: dict[str, str]

    @property
    def folders(self) -> set[str]:
        """All that it needs."""
        return {*self.steps.values(), *self.changes.values()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Night":
        return cls(int(content["night"]), dict(content["steps"]), dict(content["changes"]))

    def to_json(self) -> dict[str, Any]:
        return {"night": self.number, "steps": self.steps, "changes": self.changes}


def night_folder(number: int) -> str:
    """The folder of a night, relative to the run's output."""
    return f"{NIGHT}{number:06d}"


def read_nights(output: str) -> list[Night]:
    """The nights that are kept, the newest first; none before the first one is whole.

    Raises:
      UsageError: the file is not what `write_nights` writes.
    """
    path = join(output, CURRENT)
    try:
        with STORAGE.open(path) as file:
            content = json.loads(file.read())
        return [Night.from_json(item) for item in (content, *content["earlier"])]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, LookupError) as error:
        raise UsageError(
            f"{path}: expected what a run with nights writes, got something else ({error!r}); put it back, or remove "
            "it to begin with a first night"
        ) from error


def write_nights(output: str, nights: Sequence[Night]) -> None:
    """Makes the first of them the current one."""
    current, *earlier = nights
    content = {
        "created_by": CREATED_BY,
        **current.to_json(),
        "earlier": [night.to_json() for night in earlier],
    }
    with STORAGE.create(join(output, CURRENT)) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())


def remove_unused(output: str, nights: Sequence[Night]) -> None:
    """Removes what none of the nights needs, of those folders that nights make."""
    used = {folder for night in nights for folder in night.folders}
    below = join(output, "")
    found = {
        tuple(path.removeprefix(below).split("/")[:2])
        for path in STORAGE.list_files(output)
        if path.removeprefix(below).startswith(NIGHT)
    }
    for night, step in sorted(found):
        if join(night, step) not in used:
            STORAGE.remove(join(output, night, step))
    for night in {night for night, _ in found} - {folder.split("/")[0] for folder in used}:
        STORAGE.remove(join(output, night))
