"""A small valid file, or folder, of each format that the readers take: what fuzzing starts from."""

import bz2
import functools
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from rag_core.corpus import CORPUS_FORMATS
from rag_core.questions import QUESTION_FORMATS
from rag_core.training.sources import TRAINING_FORMATS

EXPORT = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="en">
<siteinfo><namespaces><namespace key="0" case="first-letter" />
<namespace key="1" case="first-letter">Talk</namespace><namespace key="6">File</namespace></namespaces></siteinfo>
<page><title>River</title><ns>0</ns><id>1</id><revision><id>7</id><text xml:space="preserve">'''River''' &amp; lake
{{Infobox|a={{b|{{{c}}}}}}} is [[a|the ''longest'']] of [[File:x.png|thumb|its [[kind]]]].
&lt;ref name="r"&gt;x&lt;/ref&gt;
{| class="t"
|-
| cell || {{t}}
|}
== Course ==
* It flows [http://x.org north] &lt;br/&gt; and &lt;b&gt;south&lt;/b&gt;.
== Empty ==
[[Category:Rivers]] [[de:Fluss]] __NOTOC__ &lt;!-- hidden --&gt;</text></revision></page>
<page><title>Stream</title><ns>0</ns><id>2</id><redirect title="River" /><revision><text>#REDIRECT [[River]]</text>
</revision></page>
<page><title>Talk:River</title><ns>1</ns><id>3</id><revision><text>Hello.</text></revision></page>
<page><title>Nothing</title><ns>0</ns><id>4</id><revision><text></text></revision></page>
</mediawiki>
"""
EXTRACTED = """<doc id="12" url="https://x.org?curid=12" title="A &amp; B">
A &amp; B

Text of the first &lt;article&gt;, in
two lines.

</doc>
{"id": "13", "url": "u", "title": "C", "text": "C\\nText of the second."}
<doc id="14" url="u" title="D">
D
</doc>
"""
DPR_PASSAGES = (
    'id\ttext\ttitle\n1\t"Aaron ""the prophet"" lived"\tAaron\n2\ta ""doubled"" quote\tB\n'
    '3\t"two\nlines"\tC "D"\n\n4\tplain\tE\n'
)
TABLE = 'id,title,text\n1,A,"some, words"\n2,B,"two\nlines ""quoted"""\n3,,plain\n4,D,\n'
QUESTION_TABLE = 'id,question,answers\n1,Who?,"[""a"", ""b""]"\n2,"When, then?",1990\n3,What?,\n'
DPR_QUESTIONS = 'who wrote it\t[\'Mary Shelley\', "O\'Neill"]\nwhen\t["1818"]\n\nwhere\t[]\n'
PARAGRAPHS = {
    "version": "1.1",
    "data": [
        {
            "title": "Beyonc\u00e9",
            "paragraphs": [
                {
                    "context": "She was born in 1981 in Houston.",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "When was she born?",
                            "answers": [{"text": "1981", "answer_start": 16}],
                        },
                        {"id": "q2", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                },
                {"context": "Another \ud83d\ude00 paragraph.", "qas": []},
            ],
        },
        {"title": "Paris", "paragraphs": [{"context": "A city.", "qas": []}]},
    ],
}
RETRIEVED = {
    "question_id": "q1",
    "question": "When?",
    "answers": ["1981"],
    "passages": [
        {"passage_id": f"p{n}", "document_id": "d", "title": "T", "text": text, "score": 1.0 / n}
        for n, text in ((1, "born in 1981"), (2, "some other words"))
    ],
}


@dataclass(frozen=True)
class Seed:
    """A valid input.

    Attributes:
      reads: `corpus`, `questions` or `training`: what it is given to.
      format: one of that kind's formats.
      files: name to content; the first is the one that is read, unless `is_folder`.
      is_folder: the files are read as one folder.
    """

    reads: str
    format: str
    files: dict[str, bytes]
    is_folder: bool = False

    @property
    def name(self) -> str:
        """How reports and options name it."""
        return f"{self.reads}/{self.format}"

    def write(self, folder: Path) -> str:
        """Writes the files; returns the path to read."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return str(folder if self.is_folder else folder / next(iter(self.files)))


@functools.cache
def seeds() -> dict[str, Seed]:
    """One or more for each format of each kind of reader, by name; a test holds that none is missing."""
    corpus = [
        Seed("corpus", "wikipedia_xml", {"dump.xml": EXPORT.encode()}),
        Seed("corpus", "wikiextractor", {"wiki_00": EXTRACTED.encode()}),
        Seed("corpus", "dpr_tsv", {"psgs.tsv": DPR_PASSAGES.encode()}),
        Seed(
            "corpus", "kilt", {"kilt.json": _lines(_kilt_page(), {"wikipedia_id": "2", "text": ["B\n", ""]})}
        ),
        Seed("corpus", "squad", {"train.json": json.dumps(PARAGRAPHS).encode()}),
        Seed(
            "corpus",
            "fever_wiki",
            {"wiki-001.jsonl": _lines(_fever_page(), {"id": "", "text": "", "lines": ""})},
        ),
        Seed("corpus", "jsonl", {"c.jsonl": _lines(*_documents()) + b"\n \n" + _lines(_passage())}),
        Seed("corpus", "csv", {"c.csv": TABLE.encode()}),
        Seed("corpus", "text", {"book.txt": "\ufeffA book of\r\nsome w\u00f6rds.\n".encode()}),
        Seed("corpus", "parquet", {"c.parquet": _parquet(_documents())}),
        Seed("corpus", "hf_dataset", _dataset(_documents()), is_folder=True),
    ]
    task = {"id": "k", "input": "who", "output": [{"answer": "a", "provenance": [{"wikipedia_id": "1"}]}]}
    claims = ({"id": 1, "claim": "It is.", "label": "SUPPORTS"}, {"id": 2, "claim": "It is not."})
    questions = [
        Seed("questions", "jsonl", {"q.jsonl": _lines(*_questions())}),
        Seed("questions", "dpr_qas", {"nq.csv": DPR_QUESTIONS.encode()}),
        Seed("questions", "curatedtrec", {"trec.csv": DPR_QUESTIONS.replace("1818", r"18\\d\\d").encode()}),
        Seed("questions", "kilt", {"nq-dev-kilt.jsonl": _lines(task, {"id": "l", "input": "when"})}),
        Seed("questions", "squad", {"dev.json": json.dumps(PARAGRAPHS).encode()}),
        Seed("questions", "fever", {"fever.jsonl": _lines(*claims)}),
        Seed("questions", "csv", {"q.csv": QUESTION_TABLE.encode()}),
        Seed("questions", "parquet", {"q.parquet": _parquet(_questions())}),
        Seed("questions", "hf_dataset", _dataset(_questions()), is_folder=True),
    ]
    training = [
        Seed("training", "dpr_training", {"nq-train.json": json.dumps([_training_question()] * 2).encode()}),
        Seed("training", "squad", {"train.json": json.dumps(PARAGRAPHS).encode()}),
        Seed("training", "retrievals", {"r.parquet": _parquet([RETRIEVED, RETRIEVED])}),
    ]
    return {seed.name: seed for seed in (*corpus, *_multistream(), *questions, *training)}


FORMATS = {"corpus": CORPUS_FORMATS, "questions": QUESTION_FORMATS, "training": TRAINING_FORMATS}


def _documents() -> list[dict]:
    return [{"id": f"d{n}", "title": f"T{n}", "text": f"Text \u00fc of document {n}."} for n in range(4)]


def _passage() -> dict:
    return {"passage_id": "p", "document_id": "d", "passage_number": 3, "title": "T", "text": "A passage."}


def _questions() -> list[dict]:
    return [{"id": f"q{n}", "question": f"Who is {n}?", "answers": ["a", str(n)]} for n in range(3)]


def _kilt_page() -> dict:
    paragraphs = ["A\n", "Section::::History.:Early.\n", "BULLET::::- item\n", "Text of A.\n"]
    return {"_id": "1", "wikipedia_id": "1", "wikipedia_title": "A", "text": paragraphs}


def _fever_page() -> dict:
    return {"id": "Soul_-LRB-film-RRB-", "text": "Soul -LRB- film -RRB- is .", "lines": "0\tSoul"}


def _training_question() -> dict:
    positive, negative = {"title": "T", "text": "born in 1981"}, {"title": "U", "text": "other"}
    return {
        "question": "When?",
        "answers": ["1981"],
        "positive_ctxs": [positive],
        "negative_ctxs": [],
        "hard_negative_ctxs": [negative],
    }


def _lines(*rows: dict) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def _dataset(rows: list[dict]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        datasets.disable_progress_bars()
        datasets.Dataset.from_list(rows).save_to_disk(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _multistream() -> list[Seed]:
    """A dump of several bz2 streams beside its index."""
    pieces = EXPORT.split("<page>")
    streams = [bz2.compress(piece.encode()) for piece in (pieces[0], *("<page>" + p for p in pieces[1:]))]
    offsets = [sum(map(len, streams[:number])) for number in range(1, len(streams))]
    index = "".join(f"{offset}:{number}:Title {number}\n" for number, offset in enumerate(offsets, 1))
    files = {
        "x-pages-articles-multistream.xml.bz2": b"".join(streams),
        "x-pages-articles-multistream-index.txt.bz2": bz2.compress(index.encode()),
    }
    seed = Seed("corpus", "wikipedia_xml", files)
    return [_Named(seed.reads, seed.format, seed.files)]


class _Named(Seed):
    """A second seed of a format."""

    @property
    def name(self) -> str:
        return f"{self.reads}/{self.format}-multistream"
