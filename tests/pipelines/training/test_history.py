"""The history as a table and as a plot."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from pipelines.filesystems import STORAGE
from pipelines.training.history import write_history, write_plot
from rag_core.storage import file_sha256
from rag_core.training.run import HistoryRow

ROWS = [
    HistoryRow(0, None, {}, 0.1, None, {"average_rank": 4.0, "recall@1": 0.1, "recall@5": 0.3}, True, 0.5),
    HistoryRow(
        2, 0.7, {"entropy": 1.5}, 0.2, 3.0, {"average_rank": 2.0, "recall@1": 0.5, "recall@5": 0.9}, True, 1.5
    ),
    HistoryRow(
        4,
        0.4,
        {"entropy": 1.0},
        0.1,
        2.0,
        {"average_rank": 3.0, "recall@1": 0.4, "recall@5": 0.8},
        False,
        2.5,
    ),
]


def test_a_row_of_the_table_is_a_row_of_the_history(tmp_path: Path) -> None:
    written = write_history(STORAGE, str(tmp_path), ROWS, "f" * 64)
    path = tmp_path / "history.parquet"
    assert (written.name, written.rows) == ("history.parquet", 3)
    assert written.sha256 == file_sha256(STORAGE, str(path))
    first, second, _ = pq.read_table(path).to_pylist()
    assert first["loss"] is first["gradient_norm"] is None
    assert second == {
        "step": 2,
        "loss": 0.7,
        "learning_rate": 0.2,
        "gradient_norm": 3.0,
        "figures": [{"name": "entropy", "value": 1.5}],
        "scores": [
            {"name": "average_rank", "value": 2.0},
            {"name": "recall@1", "value": 0.5},
            {"name": "recall@5", "value": 0.9},
        ],
        "best": True,
        "seconds": 1.5,
    }


@pytest.mark.parametrize(
    "rows, panels",
    [
        (ROWS, [["training loss"], ["validation average_rank"], ["validation recall@1", "validation recall@5"]]),
        ([HistoryRow(0, None, {}, 0.1, None, {}, False, 0.1), HistoryRow(2, 0.7, {}, 0.1, 1.0, {}, False, 0.2)],
         [["training loss"]]),
    ],
)  # fmt: skip
def test_the_plot_has_the_loss_and_the_scores(
    rows: list[HistoryRow], panels: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: object, **options: object) -> None:
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    write_plot(STORAGE, str(tmp_path), rows, "average_rank", 2, "train_retriever")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    [figure] = drawn
    labels = [[str(line.get_label()) for line in axis.get_lines()] for axis in figure.axes]
    assert [[label for label in axis if label != "saved"] for axis in labels] == panels
    assert all(("saved" in axis) == bool(rows[0].scores) for axis in labels)
    loss = figure.axes[0].get_lines()[0]
    assert list(loss.get_ydata()) == [row.loss for row in rows if row.loss is not None]  # type: ignore[arg-type]
