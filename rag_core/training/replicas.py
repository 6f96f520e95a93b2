"""Processes that train one model together, each on its device, through `accelerate`.

Every process holds the whole model and the same batch. It computes its share of the batch's vectors,
gathers those of the others, and so knows the loss over the whole batch; it backpropagates through its own
vectors alone, and the gradients of all processes are summed. One process needs none of this.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from rag_core.errors import UsageError
from rag_core.model_files import resolve_device

T = TypeVar("T")


@dataclass(frozen=True)
class Replicas:
    """This process among those that train together; without arguments the only one.

    Attributes:
      index: of this process; the first one writes files.
      count: of processes.
      device: where this process computes.
    """

    index: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str) -> "Replicas":
        """Joins the processes that `accelerate launch` or `torchrun` started with this one, if any.

        Args:
          device: `auto`, `cpu`, `cuda` or `cuda:N`; of several processes each takes a device of its own.

        Raises:
          UsageError: `accelerate` is not installed, or all processes would share one device.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(device=resolve_device(device))
        try:
            from accelerate import PartialState  # one process needs no package for this
        except ImportError as error:
            raise UsageError(
                "several processes train together through accelerate, which is not installed: "
                "pip install 'rag-beam[train]'"
            ) from error
        if device.startswith("cuda:"):
            raise UsageError(
                f"--device {device}: several processes would share it; give auto, cpu or cuda, and each takes its own"
            )
        state = PartialState(cpu=resolve_device(device).type == "cpu")
        # accelerate numbers the CPU too: cpu:0
        where = torch.device("cpu") if state.device.type == "cpu" else state.device
        return cls(state.process_index, state.num_processes, where)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and tells how far training is."""
        return self.index == 0

    def check_batch(self, questions: int) -> None:
        """Refuses a batch of which some process would have nothing.

        Raises:
          UsageError: it has fewer questions than there are processes.
        """
        if questions < self.count:
            raise UsageError(
                f"--batch_questions {questions}: {self.count} processes share a batch; expected at least one "
                "question for each"
            )

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's run of items; all processes' runs in order are the whole. May be empty."""
        return items[len(items) * self.index // self.count : len(items) * (self.index + 1) // self.count]

    def gather(self, vectors: Tensor) -> Tensor:
        """All processes' vectors in their order, with a graph to this process's own.

        Args:
          vectors: [n, D], n of any size in each process; [0, 0] where it has none.

        Returns:
          [sum of n, D].
        """
        if self.count == 1:
            return vectors
        from accelerate.utils import gather, pad_across_processes

        shapes = gather(torch.tensor([vectors.shape], device=self.device))
        counts, dimension = shapes[:, 0].tolist(), int(shapes[:, 1].max())
        if not vectors.shape[0]:
            vectors = torch.zeros(0, dimension, device=self.device)
        # without a graph: the other processes' vectors get their gradients there
        padded = gather(pad_across_processes(vectors.detach().contiguous(), dim=0))
        parts = [part[:n] for part, n in zip(padded.split(max(counts)), counts, strict=True)]
        parts[self.index] = vectors
        return torch.cat(parts)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gives each parameter the sum of its gradients in all processes."""
        if self.count == 1:
            return
        from accelerate.utils import reduce

        trained = list(parameters)
        has_gradient = torch.tensor([float(p.grad is not None) for p in trained], device=self.device)
        # what no process uses stays without a gradient, as in one process: zeros would be decayed
        for parameter, used in zip(trained, reduce(has_gradient).tolist(), strict=True):
            if used:
                grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = reduce(grad, reduction="sum")

    def from_first(self, value: T) -> T:
        """What the first process holds, in every process; it must be picklable."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        found: T = broadcast_object_list([value])[0]
        return found

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()
