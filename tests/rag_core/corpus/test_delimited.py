import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.corpus import delimited
from rag_core.corpus.delimited import Dialect, read_rows
from rag_core.corpus.files import DamagedFileError
from rag_core.corpus.rows import BadRecord

FIELD = st.text(st.sampled_from('ab ",\t\n'), max_size=8)


def rows_of(text: str, dialect: Dialect, columns: int | None = None) -> list:
    rows = read_rows(io.BytesIO(text.encode()), dialect, columns)
    return [row.reason if isinstance(row, BadRecord) else row for row in rows]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.lists(FIELD, min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from(",\t"),
    st.booleans(),
)
def test_reads_what_csv_writes(rows, delimiter, undouble):
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    assert rows_of(written.getvalue(), Dialect(delimiter, undouble=undouble), 3) == rows


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.lists(st.text(st.sampled_from('ab "'), max_size=8), min_size=3, max_size=3), min_size=1, max_size=5
    )
)
def test_reads_what_csv_writes_with_quotes_where_needed(rows):
    written = io.StringIO()
    csv.writer(written, delimiter="\t", lineterminator="\n").writerows([["id", *row] for row in rows])
    assert rows_of(written.getvalue(), Dialect("\t", undouble=True), 4) == [["id", *row] for row in rows]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"a ""b"" c"', 'a "b" c'),  # enclosed, as CSV has it
        ('a ""b"" c', 'a "b" c'),  # doubled, not enclosed
        ('""b"" c', '"b" c'),  # the same at the start, where csv drops a quote
        ('a ""b""', 'a "b"'),
        ('""b"" and ""c""', '"b" and "c"'),  # starts and ends with a pair, and is not enclosed
        ('"""b"" c"', '"b" c'),  # enclosed, with a pair at the start
        ('""""Angel"""" x', '""Angel"" x'),
        ('a "b" c', 'a "b" c'),
        ('5" pipe', '5" pipe'),
        ('"b" c', '"b" c'),
        ('""', ""),
        ("", ""),
    ],
)
def test_ways_to_quote(written, meant):
    assert rows_of(f"1\t{written}\tTitle\n", Dialect("\t", undouble=True), 3) == [["1", meant, "Title"]]


def test_doubled_quotes_stay_where_a_table_is_plain_csv():
    assert rows_of('a ""b"",c\n', Dialect(",")) == [['a ""b""', "c"]]


def test_a_quoted_field_may_span_lines():
    assert rows_of('a,"x\n\ny, ""z""\n",b\nc,d,e\n', Dialect(",")) == [
        ["a", 'x\n\ny, "z"\n', "b"],
        ["c", "d", "e"],
    ]


def test_an_open_quote_costs_only_its_own_row():
    text = 'a,"open,b\n' + "c,d,e\n" * 5
    assert rows_of(text, Dialect(","), 3) == [["a", '"open', "b"]] + [["c", "d", "e"]] * 5
    assert rows_of('a,"open b\nc,d,e\n', Dialect(","), 3) == ["bad_row", ["c", "d", "e"]]


def test_what_an_open_quote_may_swallow_is_bounded(monkeypatch):
    monkeypatch.setattr(delimited, "MAX_RECORD_LINES", 3)
    assert rows_of('a,"1\n2",b\n', Dialect(","), 3) == [["a", "1\n2", "b"]]
    assert rows_of('a,"1\n2\n3\n4",b\n', Dialect(","), 3) == ["bad_row", "bad_row", "bad_row", "bad_row"]


def test_columns_empty_lines_and_line_ends():
    assert rows_of("a,b\r\n\r\nc\r\n \nd,e,f\ng,h", Dialect(",")) == [
        ["a", "b"],
        None,
        "bad_row",
        None,
        "bad_row",
        ["g", "h"],
    ]


def test_lines_looked_at_are_kept_when_the_file_is_damaged():
    def lines():
        yield b'a,"open,b\n'
        yield b"c,d,e\n"
        raise DamagedFileError("cut")

    rows = read_rows(lines(), Dialect(","), 3)
    assert [next(rows), next(rows)] == [["a", '"open', "b"], ["c", "d", "e"]]
    with pytest.raises(DamagedFileError):
        next(rows)


def test_ten_megabytes_of_doubled_quotes():
    (row,) = read_rows([b'1\t"' + b'""' * 5_000_000 + b'"\tTitle\n'], Dialect("\t", undouble=True), 3)
    assert row == ["1", '"' * 5_000_000, "Title"]
