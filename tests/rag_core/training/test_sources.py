"""Training files, their formats told by content."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rag_core.errors import UsageError
from rag_core.records import LeaveOutReason, LeftOut
from rag_core.storage import LocalStorage
from rag_core.training.examples import TrainingQuestion
from rag_core.training.sources import plan_training_sources, read_training_source
from schemas import TABLES
from tests.rag_core.training.test_examples import PARIS, RETRIEVAL

STORAGE = LocalStorage()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"question": "q", "answers": ["Seine"], "positive_ctxs": [PARIS]}]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=2))
    paragraph = {
        "context": "Paris lies on the Seine.",
        "qas": [{"id": "s", "question": "Where?", "answers": [{"text": "Seine", "answer_start": 18}]}],
    }
    (tmp_path / "b.json").write_text(json.dumps({"data": [{"title": "P", "paragraphs": [paragraph]}]}))
    passages = [
        {"passage_id": "p", "document_id": "d", "score": 1.0} | {key: p[key] for key in ("title", "text")}
        for p in RETRIEVAL["passages"]
    ]
    retrievals = [RETRIEVAL | {"passages": passages}, RETRIEVAL | {"answers": None, "passages": []}]
    pq.write_table(pa.Table.from_pylist(retrievals, TABLES["retrievals"]), tmp_path / "c.parquet")
    return tmp_path


def test_each_file_is_read_as_what_it_is(folder: Path) -> None:
    sources = plan_training_sources(STORAGE, [str(folder)], "auto", "--questions_format")
    assert [source.format for source in sources] == ["dpr_training", "squad", "retrievals"]
    dpr, squad, retrievals = (list(read_training_source(STORAGE, source)) for source in sources)
    for [question] in (dpr, squad):
        assert isinstance(question, TrainingQuestion)
        assert question.positives[0].text == "Paris lies on the Seine."
    mined, without = retrievals
    assert isinstance(mined, TrainingQuestion)
    assert (len(mined.positives), len(mined.hard_negatives), mined.position) == (2, 2, 0)
    assert without == LeftOut(LeaveOutReason.NO_POSITIVE, 1)


def test_what_fits_nothing_is_refused(folder: Path) -> None:
    (folder / "d.txt").write_text("some text\n")
    with pytest.raises(UsageError, match=r"d\.txt.*--validation_format"):
        plan_training_sources(STORAGE, [str(folder / "d.txt")], "auto", "--validation_format")
    passages = pa.table({"passage_id": ["a"], "text": ["b"]})
    pq.write_table(passages, folder / "e.parquet")
    [source] = plan_training_sources(STORAGE, [str(folder / "e.parquet")], "auto", "--questions_format")
    with pytest.raises(UsageError, match=r"e\.parquet"):
        list(read_training_source(STORAGE, source))
