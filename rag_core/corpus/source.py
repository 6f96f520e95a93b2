"""Which formats a corpus may have, and the unit of work in which one is read."""

from dataclasses import dataclass

from rag_core import storage

CORPUS_FORMATS: tuple[str, ...] = (
    "wikipedia_xml",
    "wikiextractor",
    "dpr_tsv",
    "kilt",
    "squad",
    "fever_wiki",
    "jsonl",
    "csv",
    "text",
    "parquet",
    "hf_dataset",
)


@dataclass(frozen=True, slots=True)
class Source:
    """One unit of reading: a file, a member of a zip archive, or a range of a dump's bytes.

    Attributes:
      path: file path or URL; for `hf_dataset` a folder or the name of a dataset.
      format: one of `CORPUS_FORMATS` (of `QUESTION_FORMATS` for questions).
      member: name inside the zip archive at `path`.
      byte_range: [begin, end) of what to read: bz2 streams of a multistream dump, pages of a plain export.
      first_record: number of records in the file before this source, so that the number of a record
        does not depend on how the file was split.
    """

    path: str
    format: str
    member: str | None = None
    byte_range: tuple[int, int] | None = None
    first_record: int = 0

    @property
    def name(self) -> str:
        """How messages and rejects name this source: on one line, whatever an archive calls its members."""
        if self.member is None:
            return self.path
        shown = (char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in self.member)
        return f"{self.path}:{''.join(shown)}"

    def record_id(self, position: int) -> str:
        """The id of a record that brings none: `{file stem}:{0-based record}`."""
        return f"{storage.file_stem(self.member or self.path)}:{position}"
