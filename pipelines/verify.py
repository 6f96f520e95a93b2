"""`rag-beam verify`: re-reads data sets, indexes, trained models or a whole run, and proves them."""

import argparse
import sys
from collections.abc import Sequence
from typing import Literal

from pipelines.estimates.sample_run import folder_bytes
from pipelines.exit_status import exit_status
from pipelines.filesystems import STORAGE
from pipelines.options import CommandParser, Settings, add_arguments, option, parse
from pipelines.proofs.findings import Outcome, Report
from pipelines.proofs.folders import find_folders, prove_folder
from pipelines.proofs.lineage import Lineage, spelt
from pipelines.proofs.reading import Reading
from pipelines.terminal import printable

_DESCRIPTION = """\
Re-reads what rag-beam made and proves it: checksums, rows, schema, values, ids, counts, order, and the fingerprints
of what it was made from, back to the corpus. An input is proved by its fingerprint, its own files only where its
folder is given too, or lies in the same run. What cannot be checked, as its path is gone, is told and is no error.

Exit status: 0 everything that could be checked is proved; 1 a proof failed; 2 wrong options, or nothing of rag-beam.

example:
  rag-beam verify out"""


class VerifySettings(Settings):
    """Options of `rag-beam verify` besides the folders."""

    progress: Literal["auto", "none"] = option(
        "auto: a bar on a terminal, else a line now and then", "auto", changes_result=False
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Proves the folders that a command line names; returns the exit status."""
    with exit_status() as status:
        parser = CommandParser(
            prog="rag-beam verify",
            description=_DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument(
            "paths",
            nargs="+",
            metavar="DIR",
            help="a data set, an index, a trained model, or a folder of such folders: the output of rag-beam run",
        )
        add_arguments(parser, VerifySettings)
        arguments = sys.argv[1:] if argv is None else list(argv)
        settings, _ = parse(parser, VerifySettings, arguments)
        report = verify(parser.parse_known_args(arguments)[0].paths, settings)
        if report.count(Outcome.FAILED):
            status.code = 1
    return status.code


def verify(paths: Sequence[str], settings: VerifySettings) -> Report:
    """Makes every check of every folder, and prints what comes of it.

    Raises:
      UsageError: a path holds nothing of rag-beam.
    """
    found = [folder for path in paths for folder in find_folders(STORAGE, path)]
    folders = list({spelt(folder): folder for folder in found}.values())
    lineage = Lineage(STORAGE, {spelt(folder) for folder in folders})
    with Reading(sum(map(folder_bytes, folders)), settings.progress) as reading:
        report = Report(lambda line: reading.tell(printable(line)))
        for folder in folders:
            prove_folder(STORAGE, folder, lineage, report, reading)
        counts = {outcome: report.count(outcome) for outcome in Outcome}
        reading.tell(
            f"{len(folders):,} folders: "
            + ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
        )
    return report


if __name__ == "__main__":
    raise SystemExit(main())
