"""A train command: claims its output, trains or goes on training, and commits model, history and manifest."""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipelines.dataset.ledger import Counts, TooManyRejects, flood_message, is_flood
from pipelines.dataset.lock import locked
from pipelines.dataset.manifest import Manifest, write_manifest
from pipelines.dataset.raw_input import check_unchanged
from pipelines.dataset.target import Target, claim
from pipelines.dataset.unit import rejects_batch
from pipelines.dataset.withdrawal import withdrawn_on_mistake
from pipelines.filesystems import STORAGE
from pipelines.launch import Command
from pipelines.terminal import printable_lines
from pipelines.training.history import check_plotting, write_history, write_plot
from pipelines.training.model_files import check_model_files, commit_model, save_locally
from pipelines.training.progress import TrainingProgress, no_warning
from pipelines.training.settings import TrainSettings
from pipelines.transforms.models import limit_threads, quieten_transformers, threads_per_worker
from rag_core.freed_memory import give_back_freed
from rag_core.records import Reject
from rag_core.storage import join
from rag_core.tables import create_table
from rag_core.training.replicas import Replicas
from rag_core.training.run import HistoryRow, TrainingRun
from schemas import TABLES

_CHECKPOINT = "checkpoint.pt"
_GIVE_BACK_EVERY = 20  # steps

T = TypeVar("T", bound=TrainSettings)


@dataclass(frozen=True)
class Training:
    """A run of training, ready for its first step, and what belongs to it.

    Attributes:
      run: its `replicas` are those given to `begin`.
      save_model: writes the model's folders, with the weights as they are then, below an empty local folder.
      counts: what became of the records read; `accepted` are those trained on or validated with.
      rejects: the bad ones.
      details: what the manifest tells besides of the model.
      watch: what to warn of at a row of the history, as training goes and in the manifest.
    """

    run: TrainingRun
    save_model: Callable[[Path], None]
    counts: Counts
    rejects: Sequence[Reject] = ()
    details: dict[str, Any] = field(default_factory=dict)
    watch: Callable[[HistoryRow], str | None] = no_warning


@dataclass(frozen=True)
class TrainingPlan:
    """What a command is about to make, before anything heavy is read.

    Attributes:
      target: the output, of table `model`.
      begin: reads the inputs and loads the models, on the device of its `Replicas`; called in every process,
        and only where there is something to do.
      notes: lines to print.
    """

    target: Target
    begin: Callable[[Replicas], Training]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class TrainStage(Command[T]):
    """A command that trains, in one process or in several that `accelerate launch` or `torchrun` started.

    Attributes:
      plan: from settings to what is to be made. It raises UsageError for anything wrong with options and
        inputs.
    """

    plan: Callable[[T], TrainingPlan]

    def run(self, settings: T, beam_args: Sequence[str]) -> Manifest:
        """Trains, or finds the model trained; Beam's options are for the other stages.

        In every process the same; the first one writes.
        """
        check_plotting()
        replicas = Replicas.join(settings.device)
        limit_threads(threads_per_worker(settings.num_threads, replicas.count))
        quieten_transformers()
        plan = self.plan(settings)
        target = plan.target
        with contextlib.ExitStack() as held:
            made: Manifest | None = None
            if replicas.is_first:
                for note in plan.notes:
                    print(printable_lines(f"{self.name}: {note}"), flush=True)
                held.enter_context(locked(target.folder))
                held.enter_context(withdrawn_on_mistake(STORAGE, target.folder))
                made = claim(STORAGE, target, overwrite=settings.overwrite)
                if made is not None:
                    check_model_files(STORAGE, target.folder, made)
            made = replicas.from_first(made)
            if made is not None:
                if replicas.is_first:
                    self.tell(settings, f"nothing to do, {target.folder} is complete", made)
                return made
            try:
                training = plan.begin(replicas)
            finally:  # what a changed file made fail is told by the change
                check_unchanged(STORAGE, target.inputs)
            if replicas.is_first:
                _keep_rejects(target, training)
            replicas.wait()
            if is_flood(training.counts, target.max_rejects):
                message = flood_message(target.folder, training.counts, target.max_rejects)
                raise TooManyRejects(message)
            _train(training, target, settings)
            manifest = _commit(training, target) if replicas.is_first else None
            manifest = replicas.from_first(manifest)
        assert manifest is not None  # the first process made it
        if replicas.is_first:
            self.tell(settings, f"{target.folder}: {manifest.counts.summary()}", manifest)
        return manifest


def _train(training: Training, target: Target, settings: TrainSettings) -> None:
    """Steps until done, from the last checkpoint where there is one; the best weights are in the module then."""
    run = training.run
    checkpoint = join(target.work_folder, _CHECKPOINT)
    first = run.replicas.is_first
    if run.replicas.from_first(STORAGE.exists(checkpoint)):
        run.resume(STORAGE, checkpoint, target.fingerprint)
        if first:
            print(f"{target.stage}: goes on after step {run.steps_done:,}", flush=True)
    mode = settings.progress if first else "none"
    with TrainingProgress(target.stage, run, mode, training.watch) as progress:
        while not run.done:
            progress.stepped(run.step())
            if first and (run.steps_done % settings.checkpoint_every == 0 or run.done):
                run.save_checkpoint(STORAGE, checkpoint, target.fingerprint)
            if run.steps_done % _GIVE_BACK_EVERY == 0:
                give_back_freed()
    run.restore_best()


def _keep_rejects(target: Target, training: Training) -> None:
    path = join(target.folder, "rejects", "part-00000-00000.parquet")
    if not training.rejects:
        STORAGE.remove(join(target.folder, "rejects"))
        return
    with create_table(STORAGE, path, TABLES["rejects"]) as creation:
        creation.writer.write(rejects_batch(target.stage, list(training.rejects)))
        creation.writer.footer = {"table": "rejects", "fingerprint": target.fingerprint}


def _commit(training: Training, target: Target) -> Manifest:
    """Model, history, plot, and the manifest last."""
    run = training.run
    with tempfile.TemporaryDirectory() as folder:
        save_locally(training.save_model, Path(folder))
        files = commit_model(STORAGE, Path(folder), target.folder)
    history = write_history(STORAGE, target.folder, run.history, target.fingerprint)
    write_plot(STORAGE, target.folder, run.history, run.monitor, run.best_step, target.stage)
    counts = training.counts
    counts.rows_written = history.rows
    scored = {row.step: row.scores for row in run.history}
    manifest = Manifest(
        table=target.table,
        parts=[history],
        fingerprint=target.fingerprint,
        inputs=target.inputs,
        settings=target.settings,
        counts=counts,
        details={
            **target.details,
            **training.details,
            "files": files,
            "training": {
                "steps": run.steps_done,
                "stopped_early": run.stopped_early,
                "seconds": run.history[-1].seconds,
                "processes": run.replicas.count,
                "monitor": run.monitor,
                "saved_step": run.best_step if run.best_score is not None else run.steps_done,
                "scores": scored[run.best_step] if run.best_score is not None else {},
                "scores_before": run.history[0].scores,
                "warnings": [
                    f"step {row.step}: {warning}"
                    for row in run.history
                    if (warning := training.watch(row)) is not None
                ],
            },
        },
    )
    write_manifest(STORAGE, target.folder, manifest)
    STORAGE.remove(target.work_folder)
    return manifest


def training_report(settings: TrainSettings, manifest: Manifest) -> str:
    """Where the model is and what its validation gave, for people."""
    trained = manifest.details["training"]
    folders = sorted(
        {item["name"].split("/")[0] for item in manifest.details["files"] if "/" in item["name"]}
    )
    early = ", stopped early" if trained["stopped_early"] else ""
    lines = [
        f"  {trained['steps']:,} steps in {trained['seconds']:,.1f} s{early}; saved are the weights of step "
        f"{trained['saved_step']:,}: {', '.join(join(settings.output, name) for name in folders) or settings.output}"
    ]
    before = trained["scores_before"]
    lines += [
        f"  {name:<16}{value:>10.4f}   before training {before[name]:.4f}"
        for name, value in trained["scores"].items()
    ]
    return "\n".join(lines)
