"""The small world of the stages' tests, here too."""

from tests.faults.stage_commands import commands, corpus, undisturbed  # noqa: F401 (fixtures)
from tests.pipelines.conftest import _collect_little, _inspect_once, whole_run, world  # noqa: F401 (fixtures)
