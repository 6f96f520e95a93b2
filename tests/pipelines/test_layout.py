"""The layout as the design has it: who imports whom, how long files are, what travels to workers."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.internal import pickler

import pipelines.transforms
from pipelines.dataset.manifest import Input
from pipelines.dataset.reader import Dataset, Part
from pipelines.dataset.target import Target
from pipelines.run import STAGES
from pipelines.transforms.answers import ClassifyQuestions, GenerateAnswers
from pipelines.transforms.changes import FindChanges
from pipelines.transforms.codes import FillCodes, MeasurePrice, Measuring, TrainFactory
from pipelines.transforms.deletions import DeletePassages
from pipelines.transforms.embeddings import EncodePassages
from pipelines.transforms.index_build import ENTRIES_SCHEMA, IndexBuild
from pipelines.transforms.models import GeneratorLoader, PassageEncoderLoader, QuestionEncoderLoader
from pipelines.transforms.passages import ChunkCorpus
from pipelines.transforms.questions import EncodeQuestions, ReadQuestions
from pipelines.transforms.scores import EvaluatePredictions, EvaluationSettings
from pipelines.transforms.search import SearchIndex, TakePassages
from pipelines.transforms.shards import BuildShards
from pipelines.transforms.units import Work
from pipelines.transforms.word_search import SearchWords
from rag_core.answers import DecodingSettings
from rag_core.corpus import Source
from rag_core.questions import QuestionSource
from schemas.embeddings import embeddings_schema

ROOT = Path(__file__).parents[2]
OURS = {"schemas", "rag_core", "pipelines", "tests", "examples", "benchmarks"}
COMMANDS = {f"pipelines.{name}" for name in [*STAGES, "inspect", "verify", "run", "cli"]}

SOURCES = sorted(
    path for package in ("schemas", "rag_core", "pipelines") for path in (ROOT / package).rglob("*.py")
)
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file; of `from a import b`, a.b where that is one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports relatively"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


IMPORTS = {module: set(imports(path)) for module, path in MODULES.items()}


def top(module: str) -> str:
    return module.split(".")[0]


def modules_below(package: str) -> list[str]:
    return [module for module in MODULES if module == package or module.startswith(f"{package}.")]


def test_schemas_import_pyarrow_only():
    for module in modules_below("schemas"):
        assert {top(name) for name in IMPORTS[module]} <= {"pyarrow", "schemas"}, module


def test_rag_core_imports_neither_beam_nor_command_lines_nor_pipelines():
    for module in modules_below("rag_core"):
        found = {top(name) for name in IMPORTS[module]}
        assert found.isdisjoint({"apache_beam", "argparse", "pydantic", "tqdm"}), module
        assert found & OURS <= {"rag_core", "schemas"}, module


def test_the_data_set_knows_no_beam():
    """Commit and resume can be used and tested without a runner."""
    for module in modules_below("pipelines.dataset"):
        found = IMPORTS[module]
        assert "apache_beam" not in {top(name) for name in found}, module
        ours = {name for name in found if top(name) == "pipelines"}
        assert all(name.startswith("pipelines.dataset.") for name in ours), module


def test_transforms_know_no_command():
    own = ("pipelines.dataset.", "pipelines.transforms.")
    allowed = (*own, "pipelines.filesystems", "pipelines.heartbeat", "pipelines.terminal")
    for module in modules_below("pipelines.transforms"):
        found = IMPORTS[module]
        assert found.isdisjoint(COMMANDS), module
        assert {top(name) for name in found}.isdisjoint({"argparse", "pydantic", "tqdm"}), module
        ours = {name for name in found if top(name) in OURS - {"rag_core", "schemas"}}
        assert all(name.startswith(allowed) for name in ours), module


def test_estimates_know_no_command_no_options_and_no_runner():
    """They measure a stage's own work: what a stage file hands them, without Beam."""
    allowed = (
        "pipelines.dataset.",
        "pipelines.estimates.",
        "pipelines.transforms.",
        "pipelines.filesystems",
    )
    for module in modules_below("pipelines.estimates"):
        found = IMPORTS[module]
        assert {top(name) for name in found}.isdisjoint({"apache_beam", "argparse", "pydantic", "tqdm"}), (
            module
        )
        assert all(name.startswith(allowed) for name in found if top(name) == "pipelines"), module


@pytest.mark.parametrize("command", sorted(COMMANDS - {"pipelines.run"}))
def test_a_stage_file_knows_no_other(command):
    assert IMPORTS[command].isdisjoint(COMMANDS - {command})


def test_only_run_knows_the_stages_and_nobody_knows_run():
    assert IMPORTS["pipelines.run"] & COMMANDS == {f"pipelines.{name}" for name in STAGES}
    for module, found in IMPORTS.items():
        if module != "pipelines.run":
            assert found.isdisjoint(COMMANDS - {module}), module


def test_nothing_installed_imports_what_is_not():
    for module, found in IMPORTS.items():
        assert {top(name) for name in found}.isdisjoint({"tests", "examples", "benchmarks", "pytest"}), module


def test_importing_rag_core_and_data_sets_loads_neither_beam_nor_bm25s():
    """The second starts JAX where that is installed, whose hold on a GPU's memory leaves a model none."""
    modules = [*modules_below("rag_core"), *modules_below("pipelines.dataset"), *modules_below("schemas")]
    program = (
        "import importlib, sys\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "print([name for name in ('apache_beam', 'pipelines.launch', 'bm25s') if name in sys.modules])"
    )
    assert printed_by(program) == "[]\n"


def test_a_command_does_not_wait_for_libraries_that_it_may_not_need():
    """torch takes two seconds to import and transformers four, at every start and in every worker."""
    program = (
        "import sys\n"
        "import pipelines.chunk, pipelines.evaluate, pipelines.inspect\n"
        "print([name for name in ('torch', 'transformers', 'faiss') if name in sys.modules])\n"
        "import pipelines.index, pipelines.verify\n"
        "print([name for name in ('transformers', 'datasets', 'scipy') if name in sys.modules])"
    )
    assert printed_by(program) == "[]\n[]\n"


def printed_by(program):
    """What a new Python process prints."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


ALL_FILES = sorted(
    path
    for folder in ("schemas", "rag_core", "pipelines", "tests", "examples", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)


def test_no_star_imports_and_no_modules_of_leftovers():
    for path in ALL_FILES:
        assert path.stem not in {"utils", "util", "helpers", "common", "misc"}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert all(alias.name != "*" for alias in node.names), path


def test_no_file_is_longer_than_400_lines():
    assert [path for path in ALL_FILES if len(path.read_text().splitlines()) > 400] == []


def test_every_package_and_test_folder_has_an_init():
    """Without one, tests/pipelines would shadow pipelines."""
    assert {path.parent for path in ALL_FILES if not (path.parent / "__init__.py").exists()} == set()


def test_every_module_says_what_it_is():
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or path.name == "__init__.py", path


# ---- what travels to workers: small, and whole on arrival

_HASH = "0123456789abcdef" * 4


def data_set(table: str, parts: int = 100) -> Dataset:
    """An input as it lies on an object store: its parts' names and hashes travel."""
    folder = f"gs://a-bucket-of-some-length/runs/2026-01-31/{table}"
    return Dataset(
        folder,
        table,
        [Part(f"{folder}/part-{number:05d}-00000.parquet", 50_000, _HASH) for number in range(parts)],
        _HASH,
    )


def target(table: str, inputs: int = 100) -> Target:
    return Target(
        folder=f"gs://a-bucket-of-some-length/runs/2026-01-31/{table}",
        table=table,
        stage="a_stage",
        settings={"max_tokens": 256, "dtype": "float32", "encoder": {"fingerprint": _HASH, "towers": 2}},
        inputs=[Input(f"gs://a-bucket-of-some-length/corpus/{n:05d}.jsonl", _HASH) for n in range(inputs)],
        schema={"embeddings": embeddings_schema(768, "float16")}.get(table, ENTRIES_SCHEMA),
    )


_MODEL = {"device": "auto", "dtype": "auto", "allow_pickle": False, "num_threads": 1}
_GENERATOR = GeneratorLoader("facebook/rag-sequence-nq", **_MODEL)
_DECODING = DecodingSettings(model_type="rag_token", decoding="beam")

_BUILD = IndexBuild("gs://bucket/index", "gs://bucket/index/.work/steps", "IVF4096,PQ64,RFlat", {"towers": 2})
_MEASURING = Measuring("gs://bucket/vectors", 1_000, 0.95, 20, 2 << 30, 1)

WORKS: list[tuple[str, Work]] = [
    (
        "passages",
        ChunkCorpus([Source(f"gs://bucket/{n:05d}.jsonl", "jsonl") for n in range(100)], 100, 1, "keep"),
    ),
    (
        "embeddings",
        EncodePassages(
            data_set("passages"),
            PassageEncoderLoader("facebook/dpr", **_MODEL),
            unit_rows=2_000,
            batch_tokens=2_048,
            vector_dtype="float16",
        ),
    ),
    ("shards", BuildShards(_BUILD, data_set("embeddings"), data_set("passages"), 1_000_000)),
    ("training", TrainFactory(_BUILD, _MEASURING, None)),
    ("codes", FillCodes(_BUILD, 1)),
    ("price", MeasurePrice(_BUILD, _MEASURING)),
    ("gone", DeletePassages(_BUILD, "gs://bucket/ids.txt")),
    (
        "questions",
        ReadQuestions([QuestionSource(f"gs://bucket/{n:05d}.jsonl", "jsonl") for n in range(100)]),
    ),
    (
        "question_vectors",
        EncodeQuestions(
            "gs://bucket/questions",
            QuestionEncoderLoader("facebook/dpr", **_MODEL),
            unit_rows=10_000,
            batch_tokens=2_048,
        ),
    ),
    (
        "search_results",
        SearchIndex(
            "gs://bucket/index",
            "gs://bucket/vectors",
            n_docs=50,
            question_block=50_000,
            shard_tiles=4,
            effort=None,
            memory_bytes=2 << 30,
            num_threads=1,
            device="auto",
        ),
    ),
    (
        "search_results",
        SearchWords(
            "gs://bucket/index", "gs://bucket/questions", n_docs=50, question_block=50_000, k1=0.9, b=0.4
        ),
    ),
    (
        "retrievals",
        TakePassages(
            "gs://bucket/index", "gs://bucket/vectors", "gs://bucket/results", n_docs=50, unit_rows=10_000
        ),
    ),
    (
        "answers",
        GenerateAnswers(
            data_set("retrievals"), _GENERATOR, _DECODING, n_docs=None, unit_rows=256, passage_texts=True
        ),
    ),
    (
        "labels",
        ClassifyQuestions(
            data_set("retrievals"),
            _GENERATOR,
            ("SUPPORTS", "REFUTES"),
            n_docs=None,
            unit_rows=256,
            batch_tokens=8_192,
        ),
    ),
    ("changes", FindChanges(data_set("answers"), data_set("answers"), unit_rows=10_000)),
    (
        "scores",
        EvaluatePredictions(
            "gs://bucket/scores",
            data_set("answers"),
            [QuestionSource("gs://bucket/questions.jsonl", "jsonl")],
            EvaluationSettings(metrics=None, regex=False, exports=()),
        ),
    ),
]


def do_fns() -> list[type[beam.DoFn]]:
    """Every DoFn of pipelines.transforms."""
    found = []
    for info in pkgutil.iter_modules(pipelines.transforms.__path__, "pipelines.transforms."):
        module = importlib.import_module(info.name)
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, beam.DoFn) and item.__module__ == info.name:
                found.append(item)
    return found


def works() -> set[type[Work]]:
    """Every kind of work that a stage does, tests' own left away."""

    def concrete(kind: type[Work]) -> Iterator[type[Work]]:
        for child in kind.__subclasses__():
            yield from concrete(child)
            if not child.__abstractmethods__ and child.__module__.startswith("pipelines."):
                yield child

    return set(concrete(Work))


def instances() -> Iterator[beam.DoFn]:
    """Each DoFn with each target, and with each work where it takes one."""
    for kind in do_fns():
        if "build" in kind.__init__.__annotations__:
            yield kind(target("mips_index"), _BUILD, [], False)
            continue
        takes_work = "work" in kind.__init__.__annotations__
        for table, work in WORKS:
            yield kind(target(table), work) if takes_work else kind(target(table))


def test_the_instances_below_cover_every_work():
    assert {type(work) for _, work in WORKS} == works()


def test_do_fns_end_in_fn_and_there_are_some():
    names = [kind.__name__ for kind in do_fns()]
    assert len(names) >= 8
    assert all(name.endswith("Fn") for name in names)


@pytest.mark.parametrize("fn", list(instances()), ids=lambda fn: type(fn).__name__)
def test_a_do_fn_travels_small_and_whole(fn):
    """With 100 parts and 100 inputs; a runner sends it to each worker with each bundle's descriptor."""
    pickled = pickler.dumps(fn)
    assert len(pickled) <= 64 << 10
    arrived = pickler.loads(pickled)
    assert type(arrived).__name__ == type(fn).__name__
    assert arrived._target == fn._target
    assert arrived._target.fingerprint == fn._target.fingerprint
    if hasattr(fn, "_work"):
        assert repr(vars(arrived._work)) == repr(vars(fn._work))
