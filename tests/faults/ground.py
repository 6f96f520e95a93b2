"""Good and bad inputs for commands that must fail, each under the name by which a mistake refers to it."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file

from tests.pipelines.commands import rag_beam, status_of
from tests.pipelines.conftest import World, write_lines
from tests.rag_core.tiny_encoders import edit_json, write_dpr_passage_encoder, write_json


def make_ground(world: World, folder: Path) -> dict[str, str]:
    """Writes the inputs below `folder`, and a copy of the world, which other tests share; names to paths."""
    world = _copied(world, folder / "world")
    made = {name: world.made(name) for name in ("passages", "embeddings", "index", "retrievals")}
    good = {
        "corpus": world.corpus,
        "questions": world.questions,
        "encoder": world.passage_encoder,
        "question_encoder": world.question_encoder,
        "model": world.generator,
        "claims": world.made("claim_retrievals"),
        "ground": folder,
        "missing": folder / "nothing-here",
    }
    paths = good | _files(world, folder) | _folders(world, folder) | _models(world, folder)
    return made | {name: str(path) for name, path in paths.items()}


def _copied(world: World, folder: Path) -> World:
    shutil.copytree(world.folder, folder)
    paths = {
        field.name: folder / getattr(world, field.name).relative_to(world.folder)
        for field in dataclasses.fields(world)
    }
    return World(**paths)


def _files(world: World, folder: Path) -> dict[str, Path]:
    """Files that are not what they are given as."""
    files = {
        name: folder / file
        for name, file in {
            "empty_file": "empty.jsonl",
            "empty_parquet": "empty.parquet",
            "no_rows": "no_rows.jsonl",
            "binary": "binary.jsonl",
            "text": "plain.txt",
            "image": "image.parquet",
            "loop": "loop.jsonl",
            "ids": "ids.txt",
            "latin_ids": "latin.txt",
            "others": "other_questions.jsonl",
            "no_answers": "no_answers.jsonl",
            "short_vectors": "short_vectors.parquet",
            "dpr": "dpr.json",
        }.items()
    }
    files["empty_file"].touch()
    files["empty_parquet"].touch()
    files["no_rows"].write_text("\n\n")
    files["binary"].write_bytes(bytes(range(256)) * 8)
    files["image"].write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    files["text"].write_text("Some words of a person, in no format at all.\n")
    files["loop"].symlink_to(files["loop"].name)
    files["ids"].write_text("\n \n")
    files["latin_ids"].write_bytes("caf\u00e9\n".encode("latin-1"))
    write_lines(files["others"], [{"question_id": "x1", "question": "Who?", "answers": ["nobody"]}])
    write_lines(files["no_answers"], [{"question_id": "x1", "question": "Who?"}])
    passages = pq.read_table(next(Path(world.made("passages")).glob("part-*.parquet")))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(3 * len(passages), np.float16)), 3)
    pq.write_table(
        pa.table({"passage_id": passages.column("passage_id"), "vector": vectors}), files["short_vectors"]
    )
    positive = {"title": "t", "text": "of all"}
    write_json(files["dpr"], [{"question": "what?", "answers": ["all"], "positive_ctxs": [positive]}])
    latin = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jsonl"))
    latin.write_text(world.corpus.read_text())
    return files | {"latin_name": latin, "latin_folder": Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))}


def _folders(world: World, folder: Path) -> dict[str, Path]:
    """Folders that cannot be read, or written to."""
    names = (
        "empty_folder",
        "foreign",
        "unfinished",
        "claimed",
        "locked_model",
        "no_manifest",
        "bad_manifest",
    )
    folders = {name: folder / name for name in names}
    folders["empty_folder"].mkdir()
    folders["foreign"].mkdir()
    (folders["foreign"] / "thesis.txt").write_text("mine")
    lines = folder / "bad_lines.jsonl"
    lines.write_text(world.corpus.read_text() + "no json\n" * 60)
    # too many rejects: the work is kept, the folder is unfinished
    assert status_of("chunk", input=lines, output=folders["unfinished"]) == 1
    shutil.copytree(folders["unfinished"], folders["claimed"])
    shutil.copytree(world.made("passages"), folders["no_manifest"])
    (folders["no_manifest"] / "manifest.json").unlink()
    shutil.copytree(world.made("passages"), folders["bad_manifest"])
    (folders["bad_manifest"] / "manifest.json").write_text('{"table": "passages"')
    del folders["locked_model"]
    wide = write_dpr_passage_encoder(folder / "wide_encoder", projection_dim=5)
    passages = world.made("passages")
    rag_beam("encode", passages=passages, encoder=wide, num_threads=1, output=folder / "wide")
    return folders | {"wide": folder / "wide", "lines": lines}


def _models(world: World, folder: Path) -> dict[str, Path]:
    """Model folders, each with one thing wrong."""
    weights, config = "model.safetensors", "config.json"

    def copy(name: str, source: Path) -> Path:
        return Path(shutil.copytree(source, folder / name))

    models = {}
    for kind, source in (("encoder", world.passage_encoder), ("generator", world.generator)):
        truncated = models[f"truncated_{kind}"] = copy(f"truncated_{kind}", source)
        (truncated / weights).write_bytes((source / weights).read_bytes()[:-1000])
        incomplete = models[f"incomplete_{kind}"] = copy(f"incomplete_{kind}", source)
        _change_weights(incomplete, drop=True)
        misshapen = models[f"misshapen_{kind}"] = copy(f"misshapen_{kind}", source)
        _change_weights(misshapen, drop=False)
        broken = models[f"broken_config_{kind}"] = copy(f"broken_config_{kind}", source)
        (broken / config).write_text((source / config).read_text()[:-20])
        listed = models[f"list_config_{kind}"] = copy(f"list_config_{kind}", source)
        (listed / config).write_text("[1, 2]")
        pickled = models[f"pickled_{kind}"] = copy(f"pickled_{kind}", source)
        (pickled / weights).rename(pickled / "pytorch_model.bin")
    silent = models["silent_encoder"] = copy("silent_encoder", world.passage_encoder)
    (silent / "tokenizer.json").unlink()
    mute = models["mute_generator"] = copy("mute_generator", world.generator)
    shutil.rmtree(mute / "generator_tokenizer")
    other = models["other_architecture"] = copy("other_architecture", world.passage_encoder)
    edit_json(other / config, architectures=["GPT2LMHeadModel"], model_type="gpt2")
    return models


def _change_weights(model: Path, *, drop: bool) -> None:
    """Leaves the largest matrix out, or a row of it."""
    path = model / "model.safetensors"
    weights: dict[str, Any] = load_file(path)
    largest = max(weights, key=lambda name: weights[name].numel())
    matrix = weights.pop(largest)
    if not drop:
        weights[largest] = matrix[1:].clone()
    save_file(weights, path, metadata={"format": "pt"})


def write_run_files(folder: Path, paths: dict[str, str]) -> dict[str, str]:
    """Run files, each with one thing wrong; names to paths."""
    chunk = {"stage": "chunk", "input": [paths["corpus"]]}
    steps: dict[str, Any] = {
        "good_run": {"passages": chunk},
        "no_steps": {},
        "unknown_stage": {"passages": chunk | {"stage": "chnk"}},
        "unknown_option": {"passages": chunk | {"passage_word": 10}},
        "wrong_type": {"passages": chunk | {"passage_words": "many"}},
        "no_step": {"vectors": {"stage": "encode", "passages": "pasages", "encoder": paths["encoder"]}},
        "own_output": {"passages": chunk | {"output": "elsewhere"}},
        "no_mapping": {"passages": "chunk"},
        "nul": {"passages": chunk | {"input": ["a\0b"]}},
        "itself": {"passages": chunk | {"input": "passages"}},
        "cycle": {
            "index": {"stage": "index", "embeddings": "vectors", "passages": "passages"},
            "vectors": {"stage": "encode", "passages": "index", "encoder": paths["encoder"]},
        },
        "later": {
            "vectors": {"stage": "encode", "passages": "passages", "encoder": paths["encoder"]},
            "passages": chunk,
        },
        "up": {"../passages": chunk},
    }
    files = {name: folder / f"{name}.yaml" for name in (*steps, "not_yaml", "only_text", "no_output")}
    for name, content in steps.items():
        files[name].write_text(json.dumps({"output": f"out_of_{name}", "steps": content}))
    files["not_yaml"].write_text("steps: {a: [1, 2\noutput: out\n")
    files["only_text"].write_text("chunk the corpus, please\n")
    files["no_output"].write_text(json.dumps({"steps": {"passages": chunk}}))
    return {name: str(path) for name, path in files.items()}
