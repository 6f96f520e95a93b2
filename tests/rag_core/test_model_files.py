"""Model folders: found, hashed by content, never unpickled unasked, placed on a device that is there."""

import json
from pathlib import Path

import pytest
import torch

from rag_core.errors import UsageError
from rag_core.model_files import (
    describe_model,
    model_fingerprint,
    resolve_device,
    resolve_dtype,
    resolve_model,
    use_safetensors,
)


def write_model(folder: Path, **files: bytes) -> Path:
    """A folder that looks like a model; files are given as name=content, `__` for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    default = {"config__json": b'{"model_type": "bart"}', "model__safetensors": b"weights"}
    for name, content in (default | files).items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def test_a_folder_is_its_own_model(tmp_path):
    assert resolve_model(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("model", ["/nowhere/model", "./model", "../model", "out/models/generator"])
def test_a_path_without_a_folder_is_refused_without_asking_the_hub(model, monkeypatch):
    import huggingface_hub

    def no_network(*args, **kwargs):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    with pytest.raises(UsageError, match="no such model folder") as refusal:
        resolve_model(model)
    assert model in str(refusal.value)


def test_a_hub_id_is_downloaded_without_the_weights_of_other_frameworks(tmp_path, monkeypatch):
    import huggingface_hub

    asked = {}

    def download(model, ignore_patterns):
        asked[model] = ignore_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_model("facebook/rag-sequence-nq") == tmp_path
    assert "*.h5" in asked["facebook/rag-sequence-nq"]
    assert "*.safetensors" not in asked["facebook/rag-sequence-nq"]


def test_a_hub_that_does_not_answer_is_one_sentence(monkeypatch):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(UsageError, match=r"someone/model: neither a local folder nor .*ConnectionError"):
        resolve_model("someone/model")


def test_weights_are_read_from_safetensors_and_pickles_only_when_allowed(tmp_path):
    safe = write_model(tmp_path / "safe", pytorch_model__bin=b"pickle")
    assert use_safetensors(safe, allow_pickle=False) is True
    assert use_safetensors(safe, allow_pickle=True) is True
    (safe / "model.safetensors").unlink()
    assert use_safetensors(safe, allow_pickle=True) is False
    with pytest.raises(UsageError, match="--allow_pickle") as refusal:
        use_safetensors(safe, allow_pickle=False)
    assert str(safe) in str(refusal.value)


def test_equal_content_has_an_equal_fingerprint_wherever_it_lies(tmp_path):
    here, there = write_model(tmp_path / "here"), write_model(tmp_path / "far" / "there")
    assert model_fingerprint(here) == model_fingerprint(there)
    assert len(model_fingerprint(here)) == 64


@pytest.mark.parametrize(
    "name, content", [("model.safetensors", b"other"), ("config.json", b"{}"), ("tokenizer.json", b"{}")]
)
def test_other_content_or_another_file_changes_the_fingerprint(tmp_path, name, content):
    folder = write_model(tmp_path / "model")
    before = model_fingerprint(folder)
    (folder / name).write_bytes(content)
    assert model_fingerprint(folder) != before


def test_renaming_a_file_changes_the_fingerprint(tmp_path):
    folder = write_model(tmp_path / "model", vocab__txt=b"a\nb\n")
    before = model_fingerprint(folder)
    (folder / "vocab.txt").rename(folder / "merges.txt")
    assert model_fingerprint(folder) != before


def test_files_in_folders_count_such_as_a_rag_checkpoints_tokenizers(tmp_path):
    folder = write_model(tmp_path / "model")
    before = model_fingerprint(folder)
    write_model(folder / "generator_tokenizer", config__json=b"{}")
    assert model_fingerprint(folder) != before


@pytest.mark.parametrize(
    "name", ["README.md", "tf_model.h5", "flax_model.msgpack", "pytorch_model.bin", ".cache", ".git/config"]
)
def test_what_does_not_change_a_result_does_not_count(tmp_path, name):
    folder = write_model(tmp_path / "model")
    before = model_fingerprint(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"something")
    assert model_fingerprint(folder) == before


def test_pickled_weights_count_where_they_are_what_is_loaded(tmp_path):
    folder = write_model(tmp_path / "model", pytorch_model__bin=b"one")
    (folder / "model.safetensors").unlink()
    before = model_fingerprint(folder)
    (folder / "pytorch_model.bin").write_bytes(b"two")
    assert model_fingerprint(folder) != before


def test_a_model_in_a_hidden_folder_is_hashed_like_any_other(tmp_path):
    """The hub's cache lies under ~/.cache."""
    hidden, plain = write_model(tmp_path / ".cache" / "model"), write_model(tmp_path / "model")
    assert model_fingerprint(hidden) == model_fingerprint(plain)


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "mps", ""])
def test_a_device_that_is_none_is_refused(name):
    with pytest.raises(UsageError, match="expected auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"cuda:2.*sees 2 CUDA devices"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match=r"--device cuda: .*sees 0 CUDA devices"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    "name, device, has_bfloat16, expected",
    [
        ("auto", "cpu", True, torch.float32),
        ("auto", "cuda", True, torch.bfloat16),
        ("auto", "cuda", False, torch.float16),
        ("float32", "cuda", True, torch.float32),
        ("bfloat16", "cpu", False, torch.bfloat16),
        ("float16", "cuda", True, torch.float16),
    ],
)
def test_dtypes(monkeypatch, name, device, has_bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bfloat16)
    assert resolve_dtype(name, torch.device(device)) == expected


def test_a_dtype_that_is_none_is_refused():
    with pytest.raises(UsageError, match="--dtype float64: expected auto, float32, bfloat16, float16"):
        resolve_dtype("float64", torch.device("cpu"))


def test_describe_tells_what_the_configuration_says(tmp_path):
    config = {
        "model_type": "rag",
        "architectures": ["RagTokenForGeneration"],
        "passage_encoder_fingerprint": "f" * 64,
    }
    folder = write_model(tmp_path / "model", config__json=json.dumps(config).encode())
    assert describe_model(str(folder)) == {
        "kind": "rag (RagTokenForGeneration)",
        "fingerprint": model_fingerprint(folder),
        "weights": "7 bytes of safetensors",
        "belongs to passage encoder": "f" * 64,
    }


def test_describe_knows_sentence_transformers_by_their_modules(tmp_path):
    folder = write_model(tmp_path / "model", modules__json=b"[]")
    assert describe_model(str(folder))["kind"] == "sentence-transformers"


@pytest.mark.parametrize("config", [b"{", b"\xff\xfe", None])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path, config):
    folder = write_model(tmp_path / "model", config__json=config or b"")
    if config is None:
        (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"config.json|modules.json"):
        describe_model(str(folder))
