"""Shows how far training is: a bar on a terminal, else a line now and then; each validation is a line."""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from tqdm import tqdm

from rag_core.training.run import HistoryRow, TrainingRun

_SECONDS_BETWEEN_LINES = 30.0


def no_warning(row: HistoryRow) -> None:
    """Nothing to warn of."""


class TrainingProgress:
    """Tells of each step of a run, and of each row of its history."""

    def __init__(
        self,
        stage: str,
        run: TrainingRun,
        mode: str,
        watch: Callable[[HistoryRow], str | None] = no_warning,
    ):
        """Tells nothing yet.

        Args:
          mode: `--progress`; `none` tells nothing.
          watch: what to warn of at a row of the history.
        """
        self._stage, self._run, self._silent, self._watch = stage, run, mode == "none", watch
        self._at_start = run.steps_done
        self._rows_told = len(run.history)
        self._began = self._last_line = time.monotonic()
        self._bar: tqdm | None = None
        if not self._silent and sys.stderr.isatty():
            self._bar = tqdm(
                total=run.learner.total_steps,
                initial=run.steps_done,
                desc=stage,
                unit=" steps",
                file=sys.stderr,
            )

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def stepped(self, figures: Mapping[str, float]) -> None:
        """To be called after each step with what it told."""
        if self._silent:
            return
        for row in self._run.history[self._rows_told :]:
            self._line(_row_line(row))
            warning = self._watch(row)
            if warning is not None:
                self._line(f"warning: step {row.step:,}: {warning}")
        self._rows_told = len(self._run.history)
        if self._bar is not None:
            self._bar.update(self._run.steps_done - self._bar.n)
            self._bar.set_postfix_str(f"loss {figures['loss']:.4g}")
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            rate = (self._run.steps_done - self._at_start) / (self._last_line - self._began)
            left = (self._run.learner.total_steps - self._run.steps_done) / rate
            self._line(
                f"step {self._run.steps_done:,} of {self._run.learner.total_steps:,}, loss {figures['loss']:.4g}, "
                f"{rate:.2f} steps/s, at most {left:,.0f} s left"
            )

    def _line(self, text: str) -> None:
        line = f"{self._stage}: {text}"
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)


def _row_line(row: HistoryRow) -> str:
    told = [] if row.loss is None else [f"loss {row.loss:.4f}"]
    if row.scores:
        told.append("validation " + ", ".join(f"{name} {value:.4g}" for name, value in row.scores.items()))
    best = " (best so far)" if row.best else ""
    return f"step {row.step:,}: {', '.join(told) or 'training begins'}{best}"
