"""`rag-beam STAGE …`, the same as `python -m pipelines.STAGE …`."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import rag_core
import schemas
from pipelines import __file__ as own_file
from pipelines.terminal import printable_lines
from rag_core.errors import UsageError

COMMANDS = {
    "chunk": "documents to passages of 100 words",
    "encode": "passages to vectors",
    "index": "vectors and passages to a MIPS index",
    "retrieve": "questions to their top K passages",
    "generate": "retrievals to answers",
    "classify": "retrievals to labels",
    "evaluate": "answers, labels or retrievals to scores",
    "compare": "answers or labels of two runs to what changed, and why",
    "train_retriever": "questions with their passages to question and passage encoder",
    "train_rag": "questions with answers to question encoder and generator, end to end",
    "run": "all of these, from one file",
    "inspect": "what a data set, index or model is; one answer with its passages",
    "verify": "re-reads any of these and proves it",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        check_packages()
        if not arguments or arguments[0] in ("-h", "--help"):
            print(_overview())
            return 0
        command = arguments[0]
        if command not in COMMANDS:
            near = difflib.get_close_matches(command, COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
            raise UsageError(f"{command}: no such command; {hint}")
    except UsageError as error:
        print(printable_lines(f"rag-beam: {error}"), file=sys.stderr)
        return error.exit_status
    # imported late: help needs neither torch nor Beam
    return importlib.import_module(f"pipelines.{command}").main(arguments[1:])


def check_packages() -> None:
    """Refuses to run with another distribution's `pipelines` or `schemas`: the names are general.

    Raises:
      UsageError: the packages do not lie side by side.
    """
    home = Path(rag_core.__file__ or "").parent.parent
    for name, file in (("pipelines", own_file), ("schemas", schemas.__file__)):
        if Path(file or "").parent.parent != home:
            raise UsageError(
                f"the package {name} is imported from {Path(file or '').parent}, rag-beam's is in {home}; another "
                "distribution has the same name: use a virtual environment of its own"
            )


def _overview() -> str:
    commands = "\n".join(f"  {name:<16} {text}" for name, text in COMMANDS.items())
    return (
        "Retrieval-Augmented Generation as Apache Beam batch pipelines.\n\n"
        f"usage: rag-beam COMMAND …\n\n{commands}\n\nrag-beam COMMAND --help tells the options of one."
    )


if __name__ == "__main__":
    raise SystemExit(main())
