"""The peers of the encoding benchmark: what else a user would encode the same passages with."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, DPRContextEncoder, PreTrainedTokenizerBase

from rag_core.encoders.pooling import Pooling
from rag_core.padding import pad_rows

DPR_BATCH = 32
DPR_TOKENS = 256
ONNX_BATCH = 32


class DprLoop:
    """A loop with the settings of DPR's own script: every passage padded to 256 tokens, float32."""

    def __init__(self, folder: Path, device: str):
        self._model = DPRContextEncoder.from_pretrained(folder, dtype=torch.float32).eval().to(device)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def encode(self, titles: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """Vectors of passages, float32 [N, D]."""
        vectors = []
        for begin in range(0, len(texts), DPR_BATCH):
            batch = slice(begin, begin + DPR_BATCH)
            inputs = self._tokenizer(
                list(titles[batch]),
                list(texts[batch]),
                padding="max_length",
                truncation=True,
                max_length=DPR_TOKENS,
                return_tensors="pt",
            ).to(self._model.device)
            output = self._model(inputs["input_ids"], attention_mask=inputs["attention_mask"])
            vectors.append(output.pooler_output.cpu())
        return torch.cat(vectors).numpy()


class SentenceTransformersEncode:
    """`SentenceTransformer.encode` with its defaults."""

    def __init__(self, folder: Path, device: str, dtype: str):
        from sentence_transformers import SentenceTransformer  # an extra: only this peer needs it

        self._model = SentenceTransformer(str(folder), device=device, model_kwargs={"dtype": dtype})

    def encode(self, titles: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """Vectors of passages, float32 [N, D]."""
        passages = [f"{title} {text}".strip() for title, text in zip(titles, texts, strict=True)]
        vectors = self._model.encode(passages, show_progress_bar=False, convert_to_tensor=True)
        return vectors.float().cpu().numpy()


class OnnxRuntime:
    """ONNX Runtime on the exported graph, optimised as for BERT; passages sorted by length, little padding."""

    def __init__(
        self, bert: BertModel, tokenizer: PreTrainedTokenizerBase, pooling: Pooling, int8: bool, threads: int
    ):
        """Exports BERT with its pooling; int8 quantizes weights and activations.

        The model must have eager attention, which is what the optimiser knows to fuse.
        """
        import onnxruntime  # an extra: only this peer needs it
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.transformers import optimizer

        self._tokenizer = tokenizer
        config: BertConfig = bert.config
        with tempfile.TemporaryDirectory() as work:
            exported, optimised, quantized = (
                str(Path(work, f"{name}.onnx")) for name in ("raw", "fused", "int8")
            )
            _export(_Pooled(bert.eval(), pooling), exported)
            fused = optimizer.optimize_model(
                exported,
                model_type="bert",
                num_heads=config.num_attention_heads,
                hidden_size=config.hidden_size,
            )
            fused.save_model_to_file(optimised)
            if int8:
                quantize_dynamic(
                    optimised,
                    quantized,
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                    extra_options={
                        "DefaultTensorType": 1
                    },  # float: of fused operators it cannot tell the type
                )
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            self._session = onnxruntime.InferenceSession(
                quantized if int8 else optimised, options, providers=["CPUExecutionProvider"]
            )
        self.fused = {name: count for name, count in fused.get_fused_operator_statistics().items() if count}

    def encode(self, *segments: Sequence[str]) -> np.ndarray:
        """Pooled vectors of texts, or of titles and texts as pairs: float32 [N, D]."""
        rows = self._tokenizer(*map(list, segments), truncation=True, max_length=DPR_TOKENS)["input_ids"]
        order = np.argsort([-len(row) for row in rows], kind="stable")
        vectors: list[Any] = [None] * len(rows)
        for begin in range(0, len(rows), ONNX_BATCH):
            batch = order[begin : begin + ONNX_BATCH]
            ids, mask = (tensor.numpy() for tensor in pad_rows([rows[row] for row in batch], 0))
            [states] = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
            for row, vector in zip(batch, states, strict=True):
                vectors[row] = vector
        return np.stack(vectors)


class _Pooled(torch.nn.Module):
    """What is exported: token ids and mask, int64 [rows, tokens], to pooled states."""

    def __init__(self, bert: BertModel, pooling: Pooling):
        super().__init__()
        self._bert = bert
        self._pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self._bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self._pooling is Pooling.FIRST_TOKEN:
            return states[:, 0]
        weights = attention_mask.unsqueeze(-1).float()
        return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _export(model: _Pooled, path: str) -> None:
    ids = torch.ones((2, 16), dtype=torch.int64)
    axes = {0: "rows", 1: "tokens"}
    torch.onnx.export(
        model,
        (ids, ids),
        path,
        input_names=["input_ids", "attention_mask"],
        output_names=["vectors"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "vectors": {0: "rows"}},
        dynamo=False,
    )
