"""How a corpus is divided into units of `chunk`; what becomes of it is in test_stages and test_bad_input."""

from pathlib import Path

import pytest

from pipelines.dataset.unit import Unit
from pipelines.filesystems import STORAGE
from pipelines.transforms.passages import ChunkCorpus
from rag_core.corpus import plain_export, plan_sources
from tests.pipelines.commands import manifest_of, rag_beam, read_table

PAGES = 40


def units_of(folder: Path) -> list[Unit]:
    sources = plan_sources(STORAGE, [str(folder)], "auto")
    return ChunkCorpus(sources, 100, 1, "keep").plan()


def names(unit: Unit) -> list[str]:
    return [Path(origin).name for origin in unit.origins]


def write_rows(path: Path, kilobytes: int) -> None:
    path.write_text(f'{{"text": "{"word " * 200}"}}\n' * kilobytes)


def test_the_largest_unit_comes_first_and_the_corpus_keeps_its_order(tmp_path: Path) -> None:
    for name, kilobytes in [("a", 100), ("b", 300), ("c", 1), ("d", 2), ("e", 200)]:
        write_rows(tmp_path / f"{name}.jsonl", kilobytes)
    units = units_of(tmp_path)
    assert [names(unit) for unit in units] == [["b.jsonl"], ["e.jsonl"], ["a.jsonl"], ["c.jsonl", "d.jsonl"]]
    in_order = sorted(units, key=lambda unit: (unit.source, unit.number))
    assert [names(unit)[0] for unit in in_order] == ["a.jsonl", "b.jsonl", "c.jsonl", "e.jsonl"]


def test_a_large_file_and_another_format_stay_apart_from_small_files(tmp_path: Path) -> None:
    for name, kilobytes in [("a", 1), ("b", 100), ("c", 1), ("e", 1)]:
        write_rows(tmp_path / f"{name}.jsonl", kilobytes)
    (tmp_path / "d.txt").write_text("some words")
    assert sorted(map(names, units_of(tmp_path))) == [
        ["a.jsonl"],
        ["b.jsonl"],
        ["c.jsonl"],
        ["d.txt"],
        ["e.jsonl"],
    ]


def test_a_large_plain_export_is_many_units_of_one_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = (
        f"<page><title>T{n}</title><ns>0</ns><id>{n}</id><revision><text>{'word ' * 150}</text></revision></page>\n"
        for n in range(PAGES)
    )
    export = tmp_path / "wiki.xml"
    export.write_text(f"<mediawiki>\n{''.join(pages)}</mediawiki>\n")
    rag_beam("chunk", input=export, output=tmp_path / "whole")
    monkeypatch.setattr(plain_export, "BYTES_PER_SOURCE", 3_000)
    units = ChunkCorpus(plan_sources(STORAGE, [str(export)], "auto"), 100, 1, "keep").plan()
    assert {unit.source for unit in units} == {0}
    assert len(units) > 5
    rag_beam("chunk", input=export, output=tmp_path / "split")
    assert read_table(tmp_path / "split").equals(read_table(tmp_path / "whole"))
    assert manifest_of(tmp_path / "split").counts == manifest_of(tmp_path / "whole").counts
    assert manifest_of(tmp_path / "split").fingerprint == manifest_of(tmp_path / "whole").fingerprint
