"""Whatever a file holds, reading it ends in records, rejects or a sentence. The long form is `fuzzing.py`."""

import json
import zipfile
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.damaged_bytes import wrapped
from tests.faults.examined_reading import Examined, examine
from tests.faults.fuzzing import damaged_seed
from tests.faults.seed_files import FORMATS, seeds
from tests.faults.watchdog import watched

NESTED = "[" * 5_000


@pytest.fixture(autouse=True)
def _not_endless():
    with watched():
        yield


def examined(folder: Path, name: str, content: str | bytes, reads: str, wanted_format: str) -> Examined:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return examine(str(path), reads, wanted_format)


def rejected(folder: Path, name: str, content: str | bytes, reads: str, wanted_format: str) -> dict[str, int]:
    """The rejects by reason of a file that must not be refused as a whole."""
    result = examined(folder, name, content, reads, wanted_format)
    assert result.refused is None
    return dict(result.counts.rejected)


def test_every_format_is_fuzzed():
    fuzzed = {(seed.reads, seed.format) for seed in seeds().values()}
    assert fuzzed == {(reads, name) for reads, names in FORMATS.items() for name in names}


@pytest.mark.parametrize("name", seeds())
def test_what_fuzzing_starts_from_is_read_without_a_reject(tmp_path: Path, name: str):
    seed = seeds()[name]
    for wanted_format in (seed.format, "auto"):
        result = examine(seed.write(tmp_path), seed.reads, wanted_format)
        assert result.refused is None
        assert result.counts.accepted > 0
        assert not result.counts.rejected


@pytest.mark.parametrize("name", seeds())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False), auto=st.booleans())
def test_damaged_files(tmp_path: Path, name: str, random: Random, auto: bool):
    seed = damaged_seed(seeds()[name], random)
    examine(seed.write(tmp_path), seed.reads, "auto" if auto else seed.format)


@pytest.mark.parametrize("reads", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=300) | st.text(max_size=300).map(str.encode), choice=st.randoms())
def test_any_bytes_in_any_format(tmp_path: Path, reads: str, content: bytes, choice: Random):
    formats = [name for name in FORMATS[reads] if name != "hf_dataset"]  # a file is a data set's name to it
    examined(tmp_path, "any.txt", content, reads, choice.choice([*formats, "auto"]))


HALF = '"\\ud800"'
PARAGRAPH = '{"context": %s, "qas": [{"id": "q", "question": %s, "answers": []}]}'


@pytest.mark.parametrize(
    ("reads", "wanted_format", "content"),
    [
        ("corpus", "squad", f'{{"data": [{{"paragraphs": [{PARAGRAPH % (HALF, HALF)}]}}]}}'),
        ("questions", "squad", f'{{"data": [{{"paragraphs": [{PARAGRAPH % (HALF, HALF)}]}}]}}'),
        ("training", "squad", f'{{"data": [{{"paragraphs": [{PARAGRAPH % (HALF, HALF)}]}}]}}'),
        ("training", "dpr_training", f'[{{"question": {HALF}, "positive_ctxs": []}}]'),
        ("questions", "dpr_qas", f"who\t[{HALF}]\n"),
        ("questions", "auto", f"who\t[{HALF}]\n"),
    ],
)
def test_half_of_a_surrogate_pair_is_a_reject(tmp_path: Path, reads: str, wanted_format: str, content: str):
    assert rejected(tmp_path, "f.json", content, reads, wanted_format) == {"bad_encoding": 1}


def test_numbers_of_thousands_of_digits(tmp_path: Path):
    digits = "9" * 5_000
    table = f"passage_id,passage_number,text\n1,{digits},x\n2,3,y\n"
    assert rejected(tmp_path, "p.csv", table, "corpus", "csv") == {"bad_field": 1}
    export = (
        f'<mediawiki><namespaces><namespace key="{digits}">x</namespace></namespaces>'
        "<page><title>a</title><ns>0</ns><text>x</text></page></mediawiki>"
    )
    assert rejected(tmp_path, "d.xml", export, "corpus", "wikipedia_xml") == {}


@pytest.mark.parametrize("depth", range(900, 1_000, 9))
def test_json_nested_nearly_to_the_limit_of_the_stack(tmp_path: Path, depth: int):
    """What can be parsed can still be too deep to be written, compared or shown."""
    nested = "[" * depth + "]" * depth
    rows = [
        f'{{"text": {nested}}}',
        f'{{"text": "a", "id": {nested}, "title": "\\ud83d\\ude00"}}',
        '{"text": "b"}',
    ]
    result = examined(tmp_path, "c.jsonl", "\n".join(rows), "corpus", "jsonl")
    assert (result.counts.read, result.counts.accepted) == (3, 1)
    articles = (
        f'{{"data": [{{"title": {nested}, "paragraphs": [{{"context": "a \\ud83d\\ude00", "qas": []}}]}}]}}'
    )
    for reads in ("corpus", "training"):
        assert examined(tmp_path, "s.json", articles, reads, "squad").counts.accepted == 0


def test_archives_with_a_nameless_or_an_encrypted_file(tmp_path: Path):
    content = wrapped("zip", b'{"text": "a"}\n', "c.jsonl")
    directory = content.index(b"PK\x01\x02")
    encrypted = bytearray(content)
    encrypted[6] |= 1  # in the flags of the file itself, and of its entry in the table of contents
    encrypted[directory + 8] |= 1
    refused = examined(tmp_path, "c.zip", bytes(encrypted), "corpus", "jsonl").refused
    assert refused and "is encrypted" in refused
    with zipfile.ZipFile(tmp_path / "nameless.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"a")
    refused = examine(str(tmp_path / "nameless.zip"), "corpus", "auto").refused
    assert refused and "has no name" in refused


def test_names_of_fields_do_not_make_a_message_long(tmp_path: Path):
    row = json.dumps({f"{n}" + "\x1b[31m" * 10_000: n for n in range(20)})
    assert rejected(tmp_path, "c.jsonl", row, "corpus", "jsonl") == {"bad_field": 1}


@pytest.mark.parametrize("wanted_format", ["dpr_tsv", "csv"])
def test_quotes_that_close_and_open_on_every_line(tmp_path: Path, wanted_format: str):
    """Each line could belong to the record before; that must not make each be looked at from every one."""
    lines = 15_000
    counts = examined(tmp_path, "t.tsv", '"\n' + '"\t"\n' * lines, "corpus", wanted_format).counts
    assert counts.rejected == {"bad_row": lines + 1}


def test_small_elements_after_a_large_one(tmp_path: Path):
    """The rest of the file is not copied for each of them."""
    large = PARAGRAPH % (json.dumps("x" * 8_000_000), '"?"')
    small = ',{"paragraphs": []}' * 150_000
    content = f'{{"data": [{{"paragraphs": [{large}]}}{small}]}}'
    assert examined(tmp_path, "s.json", content, "corpus", "squad").counts.accepted == 1


def test_strings_of_parquet_and_dates_that_python_cannot_hold(tmp_path: Path):
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, *pa.array([b"fine", b"a\xff"], pa.binary()).buffers()[1:]]
    )
    dates = pa.array([0, 2**40], pa.timestamp("s"))
    pq.write_table(pa.table({"text": bad}), tmp_path / "strings.parquet")
    pq.write_table(pa.table({"text": ["a", "b"], "title": dates}), tmp_path / "dates.parquet")
    for name, reasons in (("strings", {"bad_encoding": 1}), ("dates", {"bad_field": 2})):
        result = examine(str(tmp_path / f"{name}.parquet"), "corpus", "parquet")
        assert (result.refused, result.counts.rejected) == (None, reasons)
    retrieved = pq.read_table(seeds()["training/retrievals"].write(tmp_path))
    titles = pa.chunked_array([bad])
    pq.write_table(retrieved.set_column(1, "question", titles), tmp_path / "bad.parquet")
    refused = examine(str(tmp_path / "bad.parquet"), "training", "retrievals").refused
    assert refused and "is damaged Parquet" in refused


def test_a_data_set_that_names_files_elsewhere(tmp_path: Path):
    seed = seeds()["corpus/hf_dataset"]
    state = json.loads(seed.files["state.json"])
    for name in ("../other.arrow", "/etc/passwd"):
        state["_data_files"] = [{"filename": name}]
        path = type(seed)(
            *("corpus", "hf_dataset"), seed.files | {"state.json": json.dumps(state).encode()}, True
        )
        refused = examine(path.write(tmp_path), "corpus", "hf_dataset").refused
        assert refused and "names files outside the folder" in refused
