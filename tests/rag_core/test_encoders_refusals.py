"""What is no usable encoder is refused in one sentence that says what was found and what is accepted."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, DPRReader, RagConfig

from rag_core.encoders import load_passage_encoder, load_question_encoder
from rag_core.errors import UsageError
from tests.rag_core.tiny_encoders import (
    SENTENCES,
    edit_json,
    write_dpr_passage_encoder,
    write_dpr_question_encoder,
    write_json,
    write_rag_checkpoint,
    write_sentence_transformer,
)


def refusal(load: Callable[..., object], folder: Path, **options: object) -> str:
    """The message, after checking that it is one line and names the folder."""
    with pytest.raises(UsageError) as caught:
        load(str(folder), device="cpu", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_a_question_encoder_is_refused_for_passages(tmp_path: Path) -> None:
    assert refusal(load_passage_encoder, write_dpr_question_encoder(tmp_path)).endswith(
        "holds a question encoder (DPRQuestionEncoder) and no passage encoder; passages need the passage "
        "encoder that belongs to it, such as facebook/dpr-ctx_encoder-single-nq-base"
    )


def test_a_rag_checkpoint_is_refused_for_passages(tmp_path: Path) -> None:
    assert "holds a RAG checkpoint and no passage encoder" in refusal(
        load_passage_encoder, write_rag_checkpoint(tmp_path)
    )


def test_a_passage_encoder_is_refused_for_questions(tmp_path: Path) -> None:
    assert refusal(load_question_encoder, write_dpr_passage_encoder(tmp_path)).endswith(
        "holds a passage encoder (DPRContextEncoder); questions need the question encoder that belongs to "
        "it, such as facebook/dpr-question_encoder-single-nq-base, or a RAG checkpoint"
    )


@pytest.mark.parametrize("load", [load_passage_encoder, load_question_encoder])
class TestFoldersOfNoKnownKind:
    def test_an_empty_folder(self, tmp_path: Path, load: Callable[..., object]) -> None:
        message = refusal(load, tmp_path)
        assert "holds neither config.json nor modules.json; accepted are a DPR question or passage" in message
        assert "a RAG checkpoint" in message
        assert "sentence-transformers" in message

    def test_a_bert(self, tmp_path: Path, load: Callable[..., object]) -> None:
        config = BertConfig(
            vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
        BertModel(config).save_pretrained(tmp_path)
        assert "a model of type bert with architectures ['BertModel']; accepted are" in refusal(
            load, tmp_path
        )

    def test_a_dpr_reader(self, tmp_path: Path, load: Callable[..., object]) -> None:
        write_dpr_passage_encoder(tmp_path)
        edit_json(tmp_path / "config.json", architectures=[DPRReader.__name__])
        assert "a model of type dpr with architectures ['DPRReader']" in refusal(load, tmp_path)

    def test_a_damaged_config(self, tmp_path: Path, load: Callable[..., object]) -> None:
        (tmp_path / "config.json").write_text('{"model_type": ')
        assert re.search(r"config\.json: cannot be read as JSON", refusal(load, tmp_path))

    def test_no_folder(self, tmp_path: Path, load: Callable[..., object]) -> None:
        assert "no such model folder" in refusal(load, tmp_path / "missing")


def test_pickled_weights_need_permission(tmp_path: Path) -> None:
    folder = write_dpr_passage_encoder(tmp_path)
    expected = load_passage_encoder(str(folder), device="cpu").encode([""], [SENTENCES[0]], batch_tokens=64)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "--allow_pickle" in refusal(load_passage_encoder, folder)
    allowed = load_passage_encoder(str(folder), device="cpu", allow_pickle=True)
    assert allowed.encode([""], [SENTENCES[0]], batch_tokens=64).tobytes() == expected.tobytes()


def test_pickled_dense_weights_need_permission(tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path, dense_dimension=8)
    expected = load_question_encoder(str(folder), device="cpu").encode(SENTENCES, batch_tokens=64)
    dense = folder / "2_Dense"
    torch.save(load_file(dense / "model.safetensors"), dense / "pytorch_model.bin")
    (dense / "model.safetensors").unlink()
    assert "--allow_pickle" in refusal(load_question_encoder, folder)
    allowed = load_question_encoder(str(folder), device="cpu", allow_pickle=True)
    assert allowed.encode(SENTENCES, batch_tokens=64).tobytes() == expected.tobytes()


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    folder = write_dpr_question_encoder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["question_encoder.bert_model.encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert (
        "lacks 1 of the weights of DPRQuestionEncoder, first question_encoder.bert_model.encoder.layer.1"
        in refusal(load_question_encoder, folder)
    )


def test_damaged_weights(tmp_path: Path) -> None:
    folder = write_dpr_question_encoder(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "DPRQuestionEncoder cannot be loaded from it (SafetensorError" in refusal(
        load_question_encoder, folder
    )


@pytest.mark.parametrize(
    ("write", "load", "tokenizer"),
    [
        (write_dpr_passage_encoder, load_passage_encoder, ""),
        (write_rag_checkpoint, load_question_encoder, "question_encoder_tokenizer"),
        (write_sentence_transformer, load_question_encoder, ""),
    ],
)
def test_a_missing_tokenizer_is_not_made_up(
    tmp_path: Path, write: Callable[[Path], Path], load: Callable[..., object], tokenizer: str
) -> None:
    folder = write(tmp_path)
    (folder / tokenizer / "tokenizer.json").unlink()
    assert "holds no tokenizer; expected one of tokenizer.json, vocab.txt" in refusal(load, folder)


def test_a_rag_checkpoint_with_another_question_encoder(tmp_path: Path) -> None:
    folder = write_rag_checkpoint(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    bert = BertConfig(hidden_size=8, num_attention_heads=2)
    other = RagConfig(question_encoder=bert.to_dict(), generator=config["generator"])
    other.save_pretrained(folder)
    assert "its question encoder is of type bert; expected dpr" in refusal(load_question_encoder, folder)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "pooling max; supported is one of cls, mean"),
        (
            "1_Pooling/config.json",
            {"pooling_mode": ["cls", "mean"]},
            "pooling cls + mean; supported is one of",
        ),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling mean + max_tokens; supported"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt is false"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.SiLU"}, "activation SiLU; supported are"),
        ("2_Dense/config.json", {"use_residual": True}, "without a residual"),
        (
            "2_Dense/config.json",
            {"module_input_name": "token_embeddings"},
            "Dense layer of the pooled vector",
        ),
        ("2_Dense/config.json", {"in_features": 16}, "in_features 16, but the vectors before it have 32"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "last hidden states are pooled"),
        ("sentence_bert_config.json", {"modality_config": {"message": {}}}, "last hidden states are pooled"),
        ("config.json", {"model_type": "no-such-model"}, "AutoConfig cannot be loaded from it"),
    ],
)
def test_options_of_sentence_transformers_that_would_not_be_honoured(
    tmp_path: Path, file: str, changes: dict[str, object], message: str
) -> None:
    folder = write_sentence_transformer(tmp_path, dense_dimension=8, prompts={"query": "q: "})
    edit_json(folder / file, **changes)
    assert message in refusal(load_question_encoder, folder)


@pytest.mark.parametrize(
    ("types", "listed"),
    [
        (["sentence_transformers.models.Transformer"], "Transformer"),
        (
            ["sentence_transformers.models.Pooling", "sentence_transformers.models.Transformer"],
            "Pooling, Transformer",
        ),
        (
            [
                "sentence_transformers.models.Transformer",
                "sentence_transformers.models.Pooling",
                "own.Normalize",
            ],
            "Transformer, Pooling, own.Normalize",
        ),
        (["sentence_transformers.base.modules.router.Router"], "Router"),
        (["own.Transformer", "sentence_transformers.models.Pooling"], "own.Transformer, Pooling"),
    ],
)
def test_modules_of_sentence_transformers_that_would_not_be_honoured(
    tmp_path: Path, types: list[str], listed: str
) -> None:
    folder = write_sentence_transformer(tmp_path)
    write_json(folder / "modules.json", [{"type": kind, "path": ""} for kind in types])
    assert refusal(load_passage_encoder, folder).endswith(
        f"modules {listed}; supported are Transformer, Pooling and after them Dense and Normalize"
    )


@pytest.mark.parametrize(
    "template", ["{title}", "{text} {answer}", "{text", "{}", "{text.__class__}", "no field"]
)
def test_a_template_that_cannot_be_filled(tmp_path: Path, template: str) -> None:
    folder = write_sentence_transformer(tmp_path)
    with pytest.raises(UsageError, match="--passage_template"):
        load_passage_encoder(str(folder), device="cpu", passage_template=template)


@pytest.mark.parametrize("max_tokens", [-1, 0, 7])
def test_too_few_tokens(tmp_path: Path, max_tokens: int) -> None:
    folder = write_dpr_passage_encoder(tmp_path)
    with pytest.raises(UsageError, match=f"--max_tokens {max_tokens}: expected at least 8"):
        load_passage_encoder(str(folder), device="cpu", max_tokens=max_tokens)
