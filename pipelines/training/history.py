"""The history of a training run as a table and as a plot."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rag_core.errors import UsageError
from rag_core.storage import Storage, join
from rag_core.tables import WrittenFile, create_table
from schemas import TABLES

if TYPE_CHECKING:  # `verify` reads names here and trains nothing: it need not wait for torch
    from rag_core.training.run import HistoryRow

HISTORY = "history.parquet"
PLOT = "history.png"


def check_plotting() -> None:
    """Refuses to begin hours of work whose plot could not be drawn at the end.

    Raises:
      UsageError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401 - only trainers need it
    except ImportError as error:
        raise UsageError(
            "a training run is plotted with matplotlib, which is not installed: pip install 'rag-beam[train]'"
        ) from error


def write_history(
    storage: Storage, folder: str, rows: Sequence["HistoryRow"], fingerprint: str
) -> WrittenFile:
    """Commits the table."""
    schema = TABLES["training_history"]
    content = [
        {
            "step": row.step,
            "loss": row.loss,
            "learning_rate": row.learning_rate,
            "gradient_norm": row.gradient_norm,
            "figures": _named(row.figures),
            "scores": _named(row.scores),
            "best": row.best,
            "seconds": row.seconds,
        }
        for row in rows
    ]
    with create_table(storage, join(folder, HISTORY), schema) as creation:
        creation.writer.write(pa.RecordBatch.from_pylist(content, schema=schema))
        creation.writer.footer = {"table": "training_history", "fingerprint": fingerprint}
    assert creation.written is not None  # set when the block ends without an exception
    return creation.written


def write_plot(
    storage: Storage, folder: str, rows: Sequence["HistoryRow"], monitor: str, best_step: int, title: str
) -> None:
    """Commits the plot: the loss, the score that tells the best weights, the other scores."""
    from matplotlib.figure import Figure  # late: seconds, and only trainers need it

    scored = [row for row in rows if row.scores]
    others = [name for name in scored[0].scores if name != monitor] if scored else []
    panels = [["loss"], *([[monitor]] if scored else []), *([others] if others else [])]
    figure = Figure(figsize=(7.0, 2.4 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, names in zip(axes, panels, strict=True):
        for name in names:
            if name == "loss":
                told = [(row.step, row.loss) for row in rows if row.loss is not None]
                label = "training loss"
            else:
                told = [(row.step, row.scores[name]) for row in scored]
                label = f"validation {name}"
            axis.plot([step for step, _ in told], [value for _, value in told], marker=".", label=label)
        if scored:
            axis.axvline(best_step, color="grey", linestyle=":", label="saved")
        axis.legend(fontsize="small")
        axis.grid(alpha=0.3)
    axes[0].set_title(title)
    axes[-1].set_xlabel("step")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    with storage.create(join(folder, PLOT)) as file:
        file.write(content.getbuffer())


def _named(figures: Mapping[str, float]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in figures.items()]
