"""Passages a second of a DPR encoder, beside what else would encode them, and the share of the machine's rate.

    python -m benchmarks.encoding --input psgs_w100.tsv.gz --tokenizer all-MiniLM-L6-v2

The encoder has BERT-base's sizes and random weights, since speed does not depend on them; `--tokenizer`
is any folder with BERT's uncased vocabulary, so that lengths are real. Passages are sorted by length, as
every engine but DPR's loop would sort a corpus, and cut into groups; in each round all engines encode one
group in turns, so that a machine whose speed drifts is the same for all, and ratios are taken within
rounds. The matrix product is measured before and after ours at the model's own shapes; the share is that
of the multiplications that the vectors need, without padding, at this rate.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoTokenizer, BertConfig, BertModel, DPRConfig, DPRContextEncoder

from benchmarks.encoding_peers import DprLoop, OnnxRuntime, SentenceTransformersEncode
from benchmarks.report import Comparison, argument_parser, write_report
from pipelines.filesystems import STORAGE
from pipelines.transforms.models import default_batch_tokens
from rag_core.corpus import plan_sources, read_source
from rag_core.encoders import PassageEncoder, load_passage_encoder
from rag_core.encoders.pooling import Pooling
from rag_core.records import Passage

SIZES = {
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "small": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
}
PEERS = ("dpr", "sentence_transformers", "onnx_float32", "onnx_int8")
LEAST_COSINE = 0.999
WIKIPEDIA_PASSAGES = 21_015_324  # of DPR's split
REFERENCE = {"pair": "ours", "single": "ours single"}  # by what an engine takes: title and text, or one text
Encode = Callable[[Sequence[str], Sequence[str]], np.ndarray]
Group = tuple[list[str], list[str]]


def main() -> None:
    """Encodes the same passages by every engine, in turns, and compares medians."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument(
        "--input", required=True, help="passages: DPR's TSV, or what else chunk takes as such"
    )
    parser.add_argument("--tokenizer", required=True, help="folder with BERT's uncased vocabulary")
    parser.add_argument("--scale", choices=SIZES, default="base")
    parser.add_argument("--passages", type=int, default=16, help="of a group")
    parser.add_argument("--runs", type=int, default=9, help="groups, each encoded once by each engine")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of ours"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch_tokens", type=int)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    arguments = parser.parse_args()

    titles, texts = read_passages(arguments.input, arguments.passages * arguments.runs)
    with tempfile.TemporaryDirectory() as work:
        dpr, single = make_encoders(Path(work), arguments.tokenizer, SIZES[arguments.scale])
        engines = make_engines(arguments, dpr, single)
        encoder = load_passage_encoder(str(dpr), device=arguments.device, dtype=arguments.dtype)
        groups = groups_by_length(encoder, titles, texts, arguments.passages)
        write_report(compare(engines, encoder, groups, arguments), arguments.json)


def read_passages(path: str, count: int) -> tuple[list[str], list[str]]:
    """Titles and texts of `count` passages, every tenth, so that neighbours are of different articles."""
    sources = plan_sources(STORAGE, [path], "auto")
    records = (record for source in sources for record in read_source(STORAGE, source))
    passages = list(islice((item for item in records if isinstance(item, Passage)), 0, 10 * count, 10))
    return [passage.title for passage in passages], [passage.text for passage in passages]


def make_encoders(work: Path, tokenizer: str, sizes: dict[str, int]) -> tuple[Path, Path]:
    """The same random weights as a DPR passage encoder and as a sentence-transformers folder."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    words.model_max_length = 512
    torch.manual_seed(0)
    model = DPRContextEncoder(DPRConfig(vocab_size=len(words), **sizes))
    dpr, single = work / "dpr", work / "sentence_transformers"
    model.save_pretrained(dpr)
    bert = BertModel(BertConfig(vocab_size=len(words), **sizes))
    bert.load_state_dict(model.ctx_encoder.bert_model.state_dict(), strict=False)
    bert.save_pretrained(single)
    for folder in (dpr, single):
        words.save_pretrained(folder)
    (single / "1_Pooling").mkdir()
    (single / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},'
        ' {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'
    )
    (single / "sentence_bert_config.json").write_text('{"max_seq_length": 256, "do_lower_case": false}')
    (single / "1_Pooling" / "config.json").write_text(
        f'{{"word_embedding_dimension": {sizes["hidden_size"]}, "pooling_mode_cls_token": true}}'
    )
    return dpr, single


def make_engines(arguments: argparse.Namespace, dpr: Path, single: Path) -> dict[str, tuple[str, Encode]]:
    """By name: which of the two inputs an engine takes (pair or single text), and its encode."""
    device, threads = arguments.device, torch.get_num_threads()
    batch_tokens = arguments.batch_tokens or default_batch_tokens(device)

    def ours(folder: Path, dtype: str) -> Encode:
        encoder = load_passage_encoder(str(folder), device=device, dtype=dtype)
        return lambda titles, texts: encoder.encode(titles, texts, batch_tokens=batch_tokens)

    engines = {
        "ours": ("pair", ours(dpr, arguments.dtype)),
        "ours single": ("single", ours(single, arguments.dtype)),
    }
    if arguments.dtype != "float32":
        engines["ours float32"] = ("pair", ours(dpr, "float32"))
    if "dpr" in arguments.peers:
        engines["dpr"] = ("pair", DprLoop(dpr, device).encode)
    if "sentence_transformers" in arguments.peers:
        peer = SentenceTransformersEncode(single, device, arguments.dtype)
        engines["sentence_transformers"] = ("single", peer.encode)
    for name in ("onnx_float32", "onnx_int8"):
        if name in arguments.peers:
            runtime = OnnxRuntime(
                DPRContextEncoder.from_pretrained(dpr, attn_implementation="eager").ctx_encoder.bert_model,
                AutoTokenizer.from_pretrained(dpr),
                Pooling.FIRST_TOKEN,
                name == "onnx_int8",
                threads,
            )
            print(f"{name}: fused {runtime.fused}")
            engines[name] = ("pair", runtime.encode)
    return engines


def groups_by_length(encoder: PassageEncoder, titles: list[str], texts: list[str], size: int) -> list[Group]:
    """Titles and texts of passages of like length, `size` at a time; the groups in a random order."""
    order = np.argsort([len(row) for row in encoder.tower.tokenize(titles, texts)], kind="stable")
    groups = [
        ([titles[row] for row in rows], [texts[row] for row in rows])
        for rows in np.split(order, len(order) // size)
    ]
    np.random.default_rng(0).shuffle(groups)  # type: ignore[arg-type]
    return groups


def compare(
    engines: dict[str, tuple[str, Encode]],
    encoder: PassageEncoder,
    groups: list[Group],
    arguments: argparse.Namespace,
) -> list[Comparison]:
    """Encodes each group by every engine; one comparison a peer."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    shares: list[float] = []
    cosines: dict[str, list[float]] = {name: [] for name in engines}
    for _, encode in engines.values():
        encode(*(column[:2] for column in groups[0]))
    for number, group in enumerate(groups):
        vectors = {}
        before = product_rate(arguments)
        for name, (_, encode) in engines.items():
            began = time.perf_counter()
            vectors[name] = encode(*group)
            seconds[name].append(time.perf_counter() - began)
            if name == "ours":
                rate = (before + product_rate(arguments)) / 2
                shares.append(
                    needed_gflop(encoder, *group, SIZES[arguments.scale]) / seconds[name][-1] / rate
                )
        for name, (kind, _) in engines.items():
            cosines[name].append(least_cosine(vectors[name], vectors[REFERENCE[kind]]))
        times = ", ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items())
        print(f"group {number}: {times}; product {rate:.4g} GFLOP/s, share {shares[-1]:.0%}", flush=True)

    speed = {name: arguments.passages / statistics.median(times) for name, times in seconds.items()}
    print(
        f"ours: {speed['ours']:.2f} passages/s, {statistics.median(shares):.0%} of the matrix rate, "
        f"{WIKIPEDIA_PASSAGES / speed['ours'] / 3600:.3g} hours for {WIKIPEDIA_PASSAGES:,} passages"
    )
    settings = {name: getattr(arguments, name) for name in ("scale", "passages", "dtype", "device")}
    comparisons = []
    for name, (kind, _) in engines.items():
        reference = REFERENCE[kind]
        if name in REFERENCE.values():
            continue
        ratios = [theirs / mine for mine, theirs in zip(seconds[reference], seconds[name], strict=True)]
        cosine = min(cosines[name])
        print(
            f"{name}: {min(ratios):.2f} to {max(ratios):.2f} times as long as ours, least cosine {cosine:.6f}"
        )
        comparisons.append(
            Comparison(
                f"encode against {name}",
                "passages/s",
                speed[reference],
                speed[name],
                statistics.median(ratios),
                len(groups),
                settings | {"least_cosine": cosine},
                agrees=cosine >= LEAST_COSINE,
            )
        )
    return comparisons


def least_cosine(vectors: np.ndarray, others: np.ndarray) -> float:
    """The smallest cosine of two engines' vectors of a passage."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(others, axis=1)
    return float(((vectors * others).sum(axis=1) / norms).min())


def product_rate(arguments: argparse.Namespace) -> float:
    """GFLOP/s of the model's four products, at a batch's number of tokens and in its dtype."""
    sizes, dtype = SIZES[arguments.scale], getattr(torch, arguments.dtype)
    tokens = arguments.batch_tokens or default_batch_tokens(arguments.device)
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    shapes = [(width, 3 * width), (width, width), (width, inner), (inner, width)]
    pairs = [
        (
            torch.randn(tokens, rows, device=arguments.device, dtype=dtype),
            torch.randn(columns, rows, device=arguments.device, dtype=dtype),
        )
        for rows, columns in shapes
    ]

    def run() -> float:
        began = time.perf_counter()
        for states, weight in pairs:
            functional.linear(states, weight)
        if arguments.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    run()
    return 2 * tokens * (4 * width**2 + 2 * width * inner) / statistics.median(run() for _ in range(5)) / 1e9


def needed_gflop(
    encoder: PassageEncoder, titles: list[str], texts: list[str], sizes: dict[str, int]
) -> float:
    """The products that these passages' vectors need: no padding; of the last layer, first tokens only."""
    lengths = np.array([len(row) for row in encoder.tower.tokenize(titles, texts)], dtype=np.float64)
    width, inner, layers = sizes["hidden_size"], sizes["intermediate_size"], sizes["num_hidden_layers"]
    a_token = 2 * (4 * width**2 + 2 * width * inner) + 4 * lengths * width  # with its attention over the text
    whole = (layers - 1) * (lengths * a_token).sum()
    last = (lengths * 2 * 2 * width**2).sum() + (
        2 * (2 * width**2 + 2 * width * inner) + 4 * lengths * width
    ).sum()
    return (whole + last) / 1e9


if __name__ == "__main__":
    main()
