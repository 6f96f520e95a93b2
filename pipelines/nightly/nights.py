"""One night: every step looked at, what changed made anew from what the night before left, and told."""

import time
from collections.abc import Sequence
from typing import Any

from pipelines.dataset.lock import locked
from pipelines.dataset.manifest import Manifest, read_manifest
from pipelines.dataset.target import MadeOtherwise
from pipelines.filesystems import STORAGE
from pipelines.launch import Command
from pipelines.nightly.record import Night, night_folder, read_nights, remove_unused, write_nights
from pipelines.options import StageSettings
from pipelines.run_file import CHANGES, Job, Step
from pipelines.run_report import RunReport
from pipelines.terminal import printable_lines
from pipelines.transforms.reuse import NotReusable
from rag_core.errors import UsageError
from rag_core.storage import join

# what a question does not need to be answered: without --refresh they stay as a night made them
_KEPT_STAGES = frozenset({"chunk", "encode", "index", "train_retriever", "train_rag"})
_ANSWER_TABLES = ("answers", "labels")
_QUESTION_VECTORS = "question_vectors"


def run_night(
    job: Job, beam_args: Sequence[str], compare: Command[Any], report: RunReport, *, refresh: bool
) -> None:
    """Makes a night of what changed since the last one; does nothing where nothing did.

    What is left of a night that was interrupted is gone on with. Until all steps are done the night before
    stays the current one.

    Args:
      compare: the stage that tells what became of answers and labels.
      refresh: whether to look for changes of corpus, encoder and index, too; else they stay as they are.

    Raises:
      UsageError: wrong inputs, or another run is at work on the output.
      RagBeamError: as the step that failed raised it, its name before the message.
    """
    _refuse_overwriting(job)
    with locked(job.output):
        nights = read_nights(job.output)
        last = nights[0] if nights else Night(0, _steps_without_nights(job), {})
        night = _Night(job, last, beam_args, compare, report, refresh)
        made = night.make()
        if made is None:
            print("nothing to do: no input has changed since the last night", flush=True)
            return
        kept = [made, *nights][: job.nights]
        write_nights(job.output, kept)
        report.night = made.number
        remove_unused(job.output, kept)
        _remove_unused_vectors(job.output, kept)


class _Night:
    """The making of a night."""

    def __init__(
        self,
        job: Job,
        last: Night,
        beam_args: Sequence[str],
        compare: Command[Any],
        report: RunReport,
        refresh: bool,
    ):
        self._job = job
        self._last = last
        self._beam_args = beam_args
        self._compare = compare
        self._report = report
        self._refresh = refresh
        self._folder = night_folder(last.number + 1)
        self._steps = {step.name: join(self._folder, step.name) for step in job.steps}
        self._changes: dict[str, str] = {}

    def make(self) -> Night | None:
        """The night, whole; None where every step's output is that of the last one."""
        for number, step in enumerate(self._job.steps, start=1):
            print(printable_lines(f"[{number}/{len(self._job.steps)}] {step.name}"), flush=True)
            begin = time.monotonic()
            earlier = self._earlier(step.name)
            with step.named():
                manifest = None if earlier is None else self._unchanged(step)
                made = manifest is None
                if manifest is None:
                    manifest = self._made(step, earlier)
            seconds = time.monotonic() - begin
            print(f"    {seconds:.1f} s", flush=True)
            self._report.add(step.name, step.stage.name, manifest, made=made, seconds=seconds)
            if made and earlier is not None and manifest.table in _ANSWER_TABLES:
                with step.named():
                    self._tell_changes(step, earlier, manifest)
        if all(folder == self._last.steps.get(name) for name, folder in self._steps.items()):
            return None
        return Night(self._last.number + 1, self._steps, self._changes)

    def _earlier(self, name: str) -> Manifest | None:
        """What the night before holds of a step."""
        folder = self._last.steps.get(name)
        return None if folder is None else read_manifest(STORAGE, join(self._job.output, folder))

    def _unchanged(self, step: Step) -> Manifest | None:
        """The output of the night before, where it is what this night would make or is not to be looked at."""
        folder = self._last.steps[step.name]
        if step.stage.name in _KEPT_STAGES and not self._refresh:
            print(printable_lines(f"    kept as it is in {folder}; --refresh looks for changes"), flush=True)
            manifest = read_manifest(STORAGE, join(self._job.output, folder))
        else:
            there = self._step(step.name, folder)
            try:  # complete as it is, it can only be found whole or found to be another
                manifest = there.stage.run(there.settings, [*self._beam_args, *there.beam_args])
            except MadeOtherwise as error:
                print(printable_lines(f"    not what {folder} was made of: {error.difference}"), flush=True)
                return None
        self._steps[step.name] = folder
        return manifest

    def _made(self, step: Step, earlier: Manifest | None) -> Manifest:
        """The output of this night, with what can be kept of the night before."""
        new = self._step(step.name, join(self._folder, step.name))
        settings = new.settings
        if earlier is not None and earlier.rows and getattr(settings, "reuse", "") is None:
            reuse = join(self._job.output, self._last.steps[step.name])
            settings = settings.model_copy(update={"reuse": reuse})
        else:
            reuse = None
        if new.stage.name == "retrieve" and settings.retriever == "dense" and not settings.question_vectors:
            folder = join(self._job.output, _QUESTION_VECTORS)
            settings = settings.model_copy(update={"question_vectors": folder})
        return self._run(new.stage, settings, new.beam_args, reuse)

    def _run(
        self, stage: Command[Any], settings: Any, beam_args: Sequence[str], reuse: str | None = None
    ) -> Manifest:
        """Runs a stage into this night's folder, over what an interrupted night left there of other inputs.

        Args:
          reuse: what may be kept where it fits; it is left where it does not.
        """
        while True:
            try:
                manifest = stage.run(settings, [*self._beam_args, *beam_args])
            except NotReusable as error:
                if settings.reuse != reuse:
                    raise  # the run file's own
                print(printable_lines(f"    nothing can be kept: {error}"), flush=True)
                settings = settings.model_copy(update={"reuse": None})
            except MadeOtherwise:
                if settings.overwrite:
                    raise
                settings = settings.model_copy(update={"overwrite": True})
            else:
                break
        if manifest is None:
            raise UsageError(
                "a run with nights waits for each step; take away the option that hands a job over"
            )
        return manifest

    def _tell_changes(self, step: Step, earlier: Manifest, manifest: Manifest) -> None:
        """Writes which answers or labels changed since the night before, and why."""
        if not earlier.rows or not manifest.rows or earlier.table != manifest.table:
            return
        relative = join(self._folder, step.name + CHANGES)
        settings = self._compare.settings(
            before=join(self._job.output, self._last.steps[step.name]),
            after=join(self._job.output, self._steps[step.name]),
            output=join(self._job.output, relative),
            progress=step.settings.progress,
        )
        self._report.changes[step.name] = self._run(self._compare, settings, ()).counts.extra
        self._changes[step.name] = relative

    def _step(self, name: str, folder: str) -> Step:
        """The step with its output in a folder, and its inputs where this night has them."""
        folders = {other: join(self._job.output, place) for other, place in self._steps.items()}
        return self._job.step_at(name, folders | {name: join(self._job.output, folder)})


def _refuse_overwriting(job: Job) -> None:
    for step in job.steps:
        settings: StageSettings = step.settings
        if settings.overwrite:
            raise UsageError(
                f"{step.name}: --overwrite: a run with nights makes what changed in a new folder; take it away"
            )


def _steps_without_nights(job: Job) -> dict[str, str]:
    """What runs made before the run file had nights: complete outputs beside the nights' folders."""
    names = (step.name for step in job.steps)
    return {name: name for name in names if read_manifest(STORAGE, join(job.output, name)) is not None}


def _remove_unused_vectors(output: str, nights: Sequence[Night]) -> None:
    """Removes encoded questions that no retrieval of the nights was made with."""
    used = set()
    for folder in {folder for night in nights for folder in night.steps.values()}:
        manifest = read_manifest(STORAGE, join(output, folder))
        if manifest is not None:
            used.add(manifest.details.get(_QUESTION_VECTORS, "")[:16])
    vectors = join(output, _QUESTION_VECTORS, "")
    for name in {path.removeprefix(vectors).split("/")[0] for path in STORAGE.list_files(vectors)} - used:
        STORAGE.remove(join(output, _QUESTION_VECTORS, name))
