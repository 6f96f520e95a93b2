"""Model folders: where a MODEL option leads, what its content hash is, on which device it runs.

Weights are read from safetensors; a checkpoint that has only pickled weights is refused unless the
caller allows pickles, since unpickling runs code. Remote code of a model is never run.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from rag_core.errors import UsageError, reason_of
from rag_core.remote_folders import brought
from rag_core.storage import LocalStorage, file_sha256, is_local

_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
# weights of other frameworks and texts about the model: they do not change a result
_IGNORED = (".h5", ".msgpack", ".onnx", ".ot", ".md", ".png", ".gitattributes", ".gitignore")


def resolve_model(model: str) -> Path:
    """The local folder of a model: the folder itself, a copy of one on a store, or the snapshot of a hub id.

    Raises:
      UsageError: there is no such folder, and the hub has no such model or cannot be reached.
    """
    if not is_local(model):
        return Path(brought(model))
    folder = Path(model)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.startswith(".") or model.count("/") > 1:
        raise UsageError(
            f"{model}: no such model folder; give a local folder or a hub id such as facebook/rag-sequence-nq"
        )
    from huggingface_hub import snapshot_download  # imported late: most runs use local folders

    try:
        return Path(snapshot_download(model, ignore_patterns=[f"*{suffix}" for suffix in _IGNORED]))
    except Exception as error:
        raise UsageError(
            f"{model}: neither a local folder nor a model that the hub gives "
            f"({type(error).__name__}: {reason_of(error)}); give a folder that holds config.json and model.safetensors"
        ) from error


def use_safetensors(folder: Path, allow_pickle: bool) -> bool:
    """The `use_safetensors` argument for `from_pretrained` on this folder.

    Raises:
      UsageError: the folder holds no safetensors and pickles are not allowed, or its list of shards names
        files elsewhere.
    """
    for index in (*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")):
        for name in set(_shard_names(index)):
            inside(folder, name, index)
    if any(folder.glob("*.safetensors")):
        return True
    if allow_pickle:
        return False
    raise UsageError(
        f"{folder}: holds no *.safetensors; weights are expected as safetensors because loading pickled ones "
        "runs code. Convert them, or pass --allow_pickle if you trust where they came from"
    )


def inside(folder: Path, name: str, named_in: Path) -> Path:
    """What a file of a model folder calls by a relative name: it lies in the folder, and so in its fingerprint.

    Raises:
      UsageError: the name leads elsewhere, or to a link to another folder (a file may be a link: the hub's cache
        is made of them).
    """
    parts = Path(name).parts
    path = folder.joinpath(*parts)
    links = (folder.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1))
    if (
        Path(name).is_absolute()
        or ".." in parts
        or any(link.is_symlink() and link.is_dir() for link in links)
    ):
        raise UsageError(
            f"{named_in}: names {name!r}, outside the model's folder; all of a model lies in its folder"
        )
    return path


def _shard_names(index: Path) -> list[str]:
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict):
        raise UsageError(f"{index}: expected a weight_map of files by weight; the model folder is damaged")
    return list(map(str, names.values()))


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of the model's files (hex); equal content, equal hash."""
    digest = hashlib.sha256()
    for path in _files_that_count(folder):
        name = path.relative_to(folder).as_posix()
        digest.update(name.encode() + b"\0" + file_sha256(LocalStorage(), str(path)).encode())
    return digest.hexdigest()


def model_stamp(folder: Path) -> str:
    """Another where a file of the model was changed, by names, sizes and times: cheap, where its hash is not."""
    found = [(str(path), path.stat()) for path in _files_that_count(folder)]
    return repr([(path, status.st_ino, status.st_size, status.st_mtime_ns) for path, status in found])


def _files_that_count(folder: Path) -> Iterator[Path]:
    """Pickled weights count only where no safetensors lie beside them, as in loading."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not path.is_file() or hidden or path.name.endswith(_IGNORED):
            continue
        if path.name.endswith(_PICKLED) and any(path.parent.glob("*.safetensors")):
            continue
        yield path


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` to a device.

    Raises:
      UsageError: the name is none of these, or CUDA is asked for and not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and name != "cuda" and not (name.startswith("cuda:") and name[5:].isdigit()):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise UsageError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`, `float32`, `bfloat16` or `float16`; auto is float32 on a CPU and bfloat16 on a GPU that has it."""
    if name == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise UsageError(f"--dtype {name}: expected auto, {', '.join(dtypes)}")
    return dtypes[name]


def read_json(path: Path) -> Any:
    """A JSON file of a model folder.

    Raises:
      UsageError: it is not there or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as JSON ({error}); the model folder is damaged") from error


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder.

    Raises:
      UsageError: it is not there, not JSON, or another value.
    """
    config = read_json(path)
    if not isinstance(config, dict):
        raise UsageError(
            f"{path}: expected a JSON object, got a {type(config).__name__}; the model folder is damaged"
        )
    return config


def check_weights(
    folder: Path, model: torch.nn.Module, report: Mapping[str, Any], needed: Callable[[str], bool]
) -> None:
    """Refuses a model some of whose weights transformers made up, as they were not there, or of other shapes.

    Args:
      model: as `from_pretrained` with `ignore_mismatched_sizes` made it.
      report: its `output_loading_info`.
      needed: whether a weight of this name takes part in what is computed.

    Raises:
      UsageError: names the first weight.
    """
    # what a checkpoint may lack: buffers, which are made as the architecture has them, and tied weights
    parameters = {name for name, _ in model.named_parameters()}
    missing = sorted(name for name in report["missing_keys"] if name in parameters and needed(name))
    if missing:
        raise UsageError(
            f"{folder}: lacks {len(missing)} of the weights of {type(model).__name__}, first {missing[0]}; the "
            "checkpoint is incomplete or of another architecture than its config.json says"
        )
    others = sorted(item for item in report["mismatched_keys"] if needed(item[0]))
    if others:
        name, found, expected = others[0]
        raise UsageError(
            f"{folder}: {name} has the shape {list(found)}, in {type(model).__name__} of its config.json "
            f"{list(expected)}; weights and config.json are of different models"
        )


def describe_model(folder: str) -> dict[str, str]:
    """What a model folder holds, from its configuration alone.

    Raises:
      UsageError: there is no configuration that can be read.
    """
    found = resolve_model(folder)
    has_config = (found / "config.json").is_file()
    config = read_config(found / "config.json") if has_config else read_json(found / "modules.json")
    weights = sum(path.stat().st_size for path in found.rglob("*.safetensors"))
    description = {"fingerprint": model_fingerprint(found), "weights": f"{weights:,} bytes of safetensors"}
    if (found / "modules.json").is_file():
        return {"kind": "sentence-transformers"} | description
    architectures = ", ".join(config.get("architectures") or ["not stated"])
    description = {"kind": f"{config.get('model_type', 'not stated')} ({architectures})"} | description
    recorded = config.get("passage_encoder_fingerprint")
    return description | ({"belongs to passage encoder": recorded} if recorded else {})
