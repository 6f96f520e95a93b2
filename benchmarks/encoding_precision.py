"""What half precision and int8 change: vectors beside float32's, and the documents that they retrieve.

    python -m benchmarks.encoding_precision --input psgs_w100.tsv.gz --questions questions.jsonl \\
        --encoder all-MiniLM-L6-v2

Needs a sentence-transformers folder of BERT with mean pooling and real weights. The peer is float32: a
ratio is the share of its 20 best passages that are kept, over all questions.
"""

import json
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch
from transformers import AutoTokenizer, BertModel

from benchmarks.encoding import least_cosine, read_passages
from benchmarks.encoding_peers import OnnxRuntime
from benchmarks.report import Comparison, argument_parser, write_report
from pipelines.transforms.models import default_batch_tokens
from rag_core.encoders import load_passage_encoder
from rag_core.encoders.pooling import Pooling

BEST = 20
LEAST_OVERLAP = 0.99


def main() -> None:
    """Encodes passages and questions in each precision, and compares what is retrieved."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--input", required=True, help="passages, as chunk takes them")
    parser.add_argument("--questions", required=True, help="JSON lines with a question each")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--passages", type=int, default=900)
    parser.add_argument("--question_count", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="*", default=["bfloat16", "onnx_int8"])
    arguments = parser.parse_args()

    titles, texts = read_passages(arguments.input, arguments.passages)
    passages = [f"{title} {text}".strip() for title, text in zip(titles, texts, strict=True)]
    with open(arguments.questions) as file:
        questions = [json.loads(line)["question"] for line in islice(file, arguments.question_count)]
    vectors = {}
    for precision in ("float32", *arguments.precisions):
        encode = make_encode(arguments.encoder, precision, arguments.device)
        vectors[precision] = encode(passages), encode(questions)

    exact_passages, exact_questions = vectors.pop("float32")
    exact = best(exact_questions, exact_passages)
    comparisons = []
    for precision, (encoded, encoded_questions) in vectors.items():
        cosine = least_cosine(encoded, exact_passages)
        found = best(encoded_questions, encoded)
        overlap = np.mean(
            [len({*mine} & {*theirs}) / BEST for mine, theirs in zip(found, exact, strict=True)]
        )
        print(f"{precision}: least cosine of a passage {cosine:.6f}, overlap@{BEST} {overlap:.4f}")
        comparisons.append(
            Comparison(
                f"documents of {precision} among those of float32",
                f"overlap@{BEST}",
                float(overlap),
                1.0,
                float(overlap),
                1,
                {"passages": len(passages), "questions": len(questions), "least_cosine": cosine},
                agrees=bool(overlap >= LEAST_OVERLAP),
            )
        )
    write_report(comparisons, arguments.json)


def make_encode(folder: str, precision: str, device: str) -> Callable[[list[str]], np.ndarray]:
    """Texts to normalised vectors, float32 [N, D], in a precision."""
    if precision == "onnx_int8":
        bert = BertModel.from_pretrained(folder, attn_implementation="eager")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        encode = OnnxRuntime(bert, tokenizer, Pooling.MEAN, True, torch.get_num_threads()).encode
    else:
        encoder = load_passage_encoder(folder, device=device, dtype=precision, passage_template="{text}")
        batch_tokens = default_batch_tokens(device)

        def encode(texts: list[str]) -> np.ndarray:
            return encoder.encode([""] * len(texts), texts, batch_tokens=batch_tokens)

    def normalised(texts: list[str]) -> np.ndarray:
        vectors = encode(texts)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return normalised


def best(questions: np.ndarray, passages: np.ndarray) -> np.ndarray:
    """The rows of the best passages of each question, int64 [questions, BEST]."""
    return np.argsort(-(questions @ passages.T), axis=1, kind="stable")[:, :BEST]


if __name__ == "__main__":
    main()
