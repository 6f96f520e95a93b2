"""A training step of DPR's passage encoder: as we compute it, and as `transformers` does by default.

    python -m benchmarks.retriever_step --encoder examples/models/passage_encoder

Both train the same weights on the same texts of random words, short ones and whole passages mixed: forward and
backward pass, no optimiser. The peer pads all texts to the longest and uses the library's fused attention.
"""

import statistics
import time

import torch
from torch import Tensor
from transformers import AutoTokenizer, DPRContextEncoder

from benchmarks.report import Comparison, argument_parser, write_report
from rag_core.training.bi_encoder import dpr_tower
from rag_core.training.precision import forward_precision

CLOSE = {"float32": 1e-4, "bfloat16": 2e-2}  # of the gradients' norms, relative


def main() -> None:
    """Times steps of ours and the peer, one after the other, and compares their gradients."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--encoder", required=True, help="folder of a DPRContextEncoder")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--words", type=int, nargs=2, default=(10, 100), help="of a text: from, to")
    parser.add_argument("--max_tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    words = [word for word in tokenizer.get_vocab() if word.isalpha()]
    draw = torch.Generator().manual_seed(0)

    def text() -> str:
        count = int(torch.randint(*arguments.words, (), generator=draw))
        return " ".join(words[number] for number in torch.randint(len(words), (count,), generator=draw))

    def peer(model: DPRContextEncoder, precision: str, texts: list[str]) -> Tensor:
        tokens = tokenizer(
            texts, padding=True, truncation=True, max_length=arguments.max_tokens, return_tensors="pt"
        ).to(model.device)
        with forward_precision(precision, model.device):  # type: ignore[arg-type]
            return model(tokens["input_ids"], tokens["attention_mask"]).pooler_output.float()

    comparisons = []
    for precision, close in CLOSE.items():
        models = [
            DPRContextEncoder.from_pretrained(arguments.encoder, dtype=torch.float32)
            .to(arguments.device)
            .train()
            for _ in range(2)
        ]
        tower = dpr_tower(models[0], tokenizer, arguments.max_tokens, precision)  # type: ignore[arg-type]
        seconds: tuple[list[float], list[float]] = ([], [])
        furthest = 0.0
        for number in range(arguments.rounds + 1):
            texts = [text() for _ in range(arguments.batch)]
            norms = []
            for side, model in enumerate(models):
                model.zero_grad()
                began = time.perf_counter()
                vectors = peer(model, precision, texts) if side else tower.encode(texts, None)
                vectors.logsumexp(dim=0).sum().backward()
                norms.append(float(torch.nn.utils.get_total_norm(p.grad for p in model.parameters())))
                if number:  # the first warms up
                    seconds[side].append(time.perf_counter() - began)
            furthest = max(furthest, abs(norms[0] / norms[1] - 1))
        ours, theirs = map(statistics.median, seconds)
        comparisons.append(
            Comparison(
                f"step of {arguments.batch} texts in {precision}",
                "s",
                ours,
                theirs,
                theirs / ours,
                arguments.rounds,
                {"threads": arguments.threads, "words": [*arguments.words], "gradient_difference": furthest},
                agrees=furthest <= close,
            )
        )
    write_report(comparisons, arguments.json)


if __name__ == "__main__":
    main()
