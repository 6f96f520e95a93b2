"""A training step of a generator: its attention as we compute it, and as `transformers` does.

    python -m benchmarks.training_step --model examples/models/rag_answers

Both train the same weights on the same batches of random tokens, of lengths like those of passages, padded to the
longest: forward and backward pass, no optimiser. The peers are the library's fused attention (`sdpa`, its default)
and its formula (`eager`). On a GPU ours is the library's.
"""

import statistics
import time

import torch
from torch import Tensor

from benchmarks.report import Comparison, argument_parser, write_report
from rag_core.generator import load_generator
from rag_core.shared_attention import SHARED_ATTENTION
from rag_core.training.precision import forward_precision

PEERS = ("sdpa", "eager")
TARGET_TOKENS = 8
CLOSE = {"float32": 1e-4, "bfloat16": 2e-2}  # of losses, relative


def main() -> None:
    """Times steps of ours and the peers, one after the other, and compares their losses."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--model", required=True, help="a seq2seq model, or a RAG checkpoint with one")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, nargs=2, default=(150, 210), help="of a context: from, to")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_generator(arguments.model, device=arguments.device, dtype="float32").model.train()
    draw = torch.Generator().manual_seed(0)

    def tokens(width: int) -> Tensor:
        return torch.randint(3, model.config.vocab_size, (arguments.batch, width), generator=draw).to(
            model.device
        )

    def step(
        attention: str, precision: str, contexts: Tensor, mask: Tensor, targets: Tensor
    ) -> tuple[float, float]:
        """Its seconds and its loss."""
        model.set_attn_implementation(attention)
        model.zero_grad()
        began = time.perf_counter()
        with forward_precision(precision, model.device):  # type: ignore[arg-type]
            loss = model(input_ids=contexts, attention_mask=mask, labels=targets).loss
        loss.backward()
        last = float(loss)  # waits for a GPU
        return time.perf_counter() - began, last

    comparisons = []
    for precision, close in CLOSE.items():
        seconds: dict[str, list[float]] = {name: [] for name in (SHARED_ATTENTION, *PEERS)}
        furthest = 0.0
        for number in range(arguments.rounds + 1):
            lengths = torch.randint(*arguments.tokens, (arguments.batch, 1), generator=draw)
            mask = (torch.arange(int(lengths.max())) < lengths).long().to(model.device)
            contexts, targets = tokens(mask.shape[1]), tokens(TARGET_TOKENS)
            found = {name: step(name, precision, contexts, mask, targets) for name in seconds}
            if number == 0:
                continue  # warms up
            for name, (spent, _) in found.items():
                seconds[name].append(spent)
            losses = [loss for _, loss in found.values()]
            furthest = max(furthest, (max(losses) - min(losses)) / min(losses))
        ours = statistics.median(seconds[SHARED_ATTENTION])
        for peer in PEERS:
            theirs = statistics.median(seconds[peer])
            comparisons.append(
                Comparison(
                    f"step of {arguments.batch} contexts in {precision}, {peer}",
                    "s",
                    ours,
                    theirs,
                    theirs / ours,
                    arguments.rounds,
                    {
                        "threads": arguments.threads,
                        "tokens": [*arguments.tokens],
                        "loss_difference": furthest,
                    },
                    agrees=furthest <= close,
                )
            )
    write_report(comparisons, arguments.json)


if __name__ == "__main__":
    main()
