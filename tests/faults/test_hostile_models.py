"""Model folders that someone else made: no code of theirs runs, and no name of theirs leads elsewhere."""

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rag_core.corpus import plan_sources, read_source
from rag_core.encoders import load_passage_encoder, load_question_encoder
from rag_core.errors import UsageError
from rag_core.generator import load_generator
from rag_core.storage import LocalStorage
from rag_core.training.bi_encoder import BiEncoder
from rag_core.training.rag_model import RagModel
from tests.pipelines.commands import status_of
from tests.pipelines.conftest import World
from tests.rag_core.tiny_encoders import edit_json, write_json, write_sentence_transformer


class Payload:
    """Runs code when it is unpickled: creates a file."""

    def __init__(self, mark: Path):
        self._mark = mark

    def __reduce__(self):
        return (open, (str(self._mark), "w"))


class Bench:
    """A copy of a model to tamper with, and the mark that its code would leave."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.mark = folder / "code-has-run"

    def copy(self, model: Path) -> Path:
        return Path(shutil.copytree(model, self.folder / model.name))

    def pickle_weights(self, model: Path) -> None:
        """Puts a payload where the weights were."""
        for path in model.rglob("*.safetensors"):
            path.unlink()
            for name in ("pytorch_model.bin", "model.pt", "model.pkl"):
                (path.parent / name).write_bytes(pickle.dumps({"weight": Payload(self.mark)}))

    def code(self) -> str:
        """Python that leaves the mark when it is imported."""
        return f"open({str(self.mark)!r}, 'w')\n"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever a test does, the mark must not be there after it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    bench = Bench(tmp_path)
    yield bench
    assert not bench.mark.exists()


LOADS: dict[str, tuple[str, Callable[..., object]]] = {
    "encode": ("passage_encoder", load_passage_encoder),
    "retrieve": ("question_encoder", load_question_encoder),
    "retrieve with a RAG checkpoint": ("generator", load_question_encoder),
    "generate": ("generator", load_generator),
    "train_retriever": ("question_encoder", lambda model, **options: BiEncoder.load(model, model, **options)),
    "train_rag": ("generator", lambda model, **options: RagModel.load(model, None, **options)),
    "train_rag's encoder": ("both", lambda model, **options: RagModel.load(*model, **options)),
}


def test_the_payload_would_run(tmp_path: Path) -> None:
    """Else these tests would show nothing."""
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Payload(mark))).close()
    assert mark.exists()


@pytest.mark.parametrize("name", LOADS)
def test_pickled_weights_are_refused_unread(world: World, bench: Bench, name: str) -> None:
    kind, load = LOADS[name]
    if kind == "both":
        tampered = bench.copy(world.question_encoder)
        model: object = (str(world.generator), str(tampered))
    else:
        tampered = bench.copy(getattr(world, kind))
        model = str(tampered)
    bench.pickle_weights(tampered)
    with pytest.raises(UsageError, match="--allow_pickle"):
        load(model, device="cpu")


@pytest.mark.parametrize("load", [load_passage_encoder, load_question_encoder])
@pytest.mark.parametrize("place", ["", "2_Dense"])
def test_pickled_weights_inside_a_sentence_transformers_folder(
    bench: Bench, load: Callable[..., object], place: str
) -> None:
    """Those of a Dense layer alone, too, whatever the transformer has."""
    model = write_sentence_transformer(bench.folder / "st", dense_dimension=8)
    (model / place / "model.safetensors").unlink()
    (model / place / "pytorch_model.bin").write_bytes(pickle.dumps({"linear.weight": Payload(bench.mark)}))
    with pytest.raises(UsageError, match="--allow_pickle"):
        load(str(model), device="cpu")
    with pytest.raises(UsageError, match="--allow_pickle"):
        BiEncoder.load_one_tower(str(model), device="cpu")


@pytest.mark.parametrize("kind", ["passage_encoder", "generator", "dense"])
def test_allowed_pickles_are_tensors_and_nothing_else(world: World, bench: Bench, kind: str) -> None:
    """The option allows the format; a payload in it is refused by torch's own reader of weights."""
    if kind == "dense":
        model = write_sentence_transformer(bench.folder / "st", dense_dimension=8)
        bench.pickle_weights(model / "2_Dense")
        load: Callable[..., object] = load_passage_encoder
    else:
        model = bench.copy(getattr(world, kind))
        bench.pickle_weights(model)
        load = load_generator if kind == "generator" else load_passage_encoder
    with pytest.raises(UsageError) as refusal:
        load(str(model), device="cpu", allow_pickle=True)
    assert "\n" not in str(refusal.value)


def test_weights_beside_a_payload_are_what_is_read(world: World, bench: Bench) -> None:
    model = bench.copy(world.passage_encoder)
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(bench.mark)))
    (model / "optimizer.pt").write_bytes(pickle.dumps(Payload(bench.mark)))
    for allow_pickle in (False, True):
        load_passage_encoder(str(model), device="cpu", allow_pickle=allow_pickle)


OWN_CODE = {
    "AutoConfig": "own.Own",
    "AutoModel": "own.Own",
    "AutoModelForSeq2SeqLM": "own.Own",
    "AutoModelForTextEncoding": "own.Own",
    "AutoTokenizer": ["own.Own", "own.Own"],
}


@pytest.mark.parametrize("model_type", [None, "own-type"])
@pytest.mark.parametrize("kind", ["passage_encoder", "question_encoder", "generator", "sentence_transformer"])
def test_code_of_a_model_never_runs(world: World, bench: Bench, kind: str, model_type: str | None) -> None:
    """Whether the folder is loaded without its code or refused: `auto_map` names a module that would leave a mark."""
    if kind == "sentence_transformer":
        model = write_sentence_transformer(bench.folder / "st")
    else:
        model = bench.copy(getattr(world, kind))
    places = [model, *(path for path in model.iterdir() if path.is_dir())]
    for place in places:
        (place / "own.py").write_text(bench.code() + "class Own: pass\n")
        for name in ("config.json", "tokenizer_config.json"):
            if (place / name).exists():
                edit_json(place / name, auto_map=OWN_CODE, trust_remote_code=True)
    for path in model.rglob("tokenizer_config.json"):
        edit_json(path, tokenizer_class="Own", chat_template="{{ own() }}")
    if model_type:
        edit_json(model / "config.json", model_type=model_type)
    load = {"generator": load_generator, "question_encoder": load_question_encoder}.get(
        kind, load_passage_encoder
    )
    try:
        load(str(model), device="cpu")
    except UsageError as error:
        assert str(model) in str(error) and "\n" not in str(error)
    else:
        assert model_type is None


@pytest.mark.parametrize(
    "kind", ["own.Transformer", "os.system", "sentence_transformers.own.Own", "", "Transformer"]
)
def test_modules_of_others_are_not_imported(bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    model = write_sentence_transformer(bench.folder / "st")
    (model / "own.py").write_text(bench.code())
    monkeypatch.syspath_prepend(str(model))
    modules = json.loads((model / "modules.json").read_text())
    write_json(model / "modules.json", [modules[0] | {"type": kind}, *modules[1:]])
    if kind == "Transformer":
        load_passage_encoder(str(model), device="cpu")  # a name of ours without its package: the same module
        return
    with pytest.raises(UsageError, match=r"modules.json: modules .*supported are"):
        load_passage_encoder(str(model), device="cpu")


@pytest.mark.parametrize("module", [0, 1, 2])
@pytest.mark.parametrize("how", ["up", "absolute", "link"])
def test_paths_of_modules_stay_inside_the_folder(bench: Bench, module: int, how: str) -> None:
    other = write_sentence_transformer(
        bench.folder / "other", dense_dimension=8, transformer_path="0_Transformer"
    )
    model = write_sentence_transformer(
        bench.folder / "st", dense_dimension=8, transformer_path="0_Transformer"
    )
    modules = json.loads((model / "modules.json").read_text())
    name = modules[module]["path"]
    if how == "link":
        shutil.rmtree(model / name)
        (model / name).symlink_to(other / name)
    else:
        modules[module]["path"] = f"../other/{name}" if how == "up" else str(other / name)
        write_json(model / "modules.json", modules)
    with pytest.raises(UsageError, match="outside the model's folder"):
        load_passage_encoder(str(model), device="cpu")


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "{folder}/elsewhere.safetensors"])
@pytest.mark.parametrize("kind", ["passage_encoder", "generator"])
def test_shards_of_weights_stay_inside_the_folder(world: World, bench: Bench, kind: str, name: str) -> None:
    """A `model.safetensors.index.json` names files; these lie beside it."""
    model = bench.copy(getattr(world, kind))
    (model / "model.safetensors").rename(bench.folder / "elsewhere.safetensors")
    names = load_file(bench.folder / "elsewhere.safetensors")
    shard = name.format(folder=bench.folder)
    write_json(
        model / "model.safetensors.index.json", {"metadata": {}, "weight_map": dict.fromkeys(names, shard)}
    )
    (model / "unused.safetensors").write_bytes((bench.folder / "elsewhere.safetensors").read_bytes())
    load = load_generator if kind == "generator" else load_passage_encoder
    with pytest.raises(UsageError, match="outside the model's folder"):
        load(str(model), device="cpu")


def test_a_command_refuses_them_in_one_sentence(
    world: World, bench: Bench, capsys: pytest.CaptureFixture
) -> None:
    model = bench.copy(world.passage_encoder)
    bench.pickle_weights(model)
    options = {"passages": world.made("passages"), "output": bench.folder / "out"}
    assert status_of("encode", encoder=model, **options) == 2
    said = capsys.readouterr().err
    assert "--allow_pickle" in said and "Traceback" not in said
    assert not (bench.folder / "out").exists()


def test_state_of_a_training_run_is_read_as_tensors_only(bench: Bench) -> None:
    """Every `torch.load` of ours asks for weights only, and nothing else unpickles a file."""
    root = Path(__file__).parents[2]
    calls = [
        (path.name, line.strip())
        for package in ("rag_core", "pipelines", "schemas")
        for path in (root / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if "torch.load(" in line or "pickle.load" in line or "allow_pickle=True" in line
    ]
    assert calls
    assert all("weights_only=True" in line for _, line in calls), calls


@pytest.mark.parametrize("name", ["../../evil.jsonl", "/evil.jsonl", "a/../../evil.jsonl", "..\\evil.jsonl"])
def test_members_of_an_archive_are_read_and_never_unpacked(bench: Bench, name: str) -> None:
    """Names of members lead nowhere: they only name documents and rejects."""
    path = bench.folder / "in" / "archive.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), '{"text": "words"}\n')
    before = set(bench.folder.rglob("*"))
    (source,) = plan_sources(LocalStorage(), [str(path)], "auto")
    (document,) = read_source(LocalStorage(), source)
    assert document.text == "words"
    assert set(bench.folder.rglob("*")) == before
    assert not Path("/evil.jsonl").exists()
