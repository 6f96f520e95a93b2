"""How probable, at most, is a target that a document's beam search did not keep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

# of log-probabilities computed along two ways (cached beams, teacher forcing), in units of the dtype's
# epsilon and a token; generous, since it only widens bounds
_ROUNDING_UNITS = 16


@dataclass(frozen=True, slots=True)
class SearchTrace:
    """Every continuation that one search considered: its C = 2B best of each step, best first.

    Attributes:
      tokens: int64 [steps, C].
      parents: the running beam that each continues, int64 [steps, C].
      sums: log-probability of each, the new token included; float64 [steps, C], −inf where there is none, and
        throughout the steps after the search stopped.
      end_token: ends a hypothesis.
    """

    tokens: NDArray[np.int64]
    parents: NDArray[np.int64]
    sums: NDArray[np.float64]
    end_token: int

    def log_upper_bound(self, target: Sequence[int]) -> float:
        """An upper bound of log p(target, end|x,z) for a target that is none of the search's hypotheses.

        Follows the target's prefixes through the search. A prefix is at least as probable as the target, so
        the bound is the sum of the last prefix that was running, or less: where the next prefix did not run
        on, it is no more probable than the last continuation that did; where the target ended and was not
        finished, than the B-th continuation. What the settings forbid depends on the target alone, which is
        allowed, so this holds with n-gram bans and minimum lengths too; sums know no length penalty.

        Args:
          target: tokens without the decoder's prompt and the end token.
        """
        steps, width = self.sums.shape
        beams = width // 2
        slot, prefix_sum = 0, 0.0
        for step, token in enumerate([*target, self.end_token][:steps]):
            sums = self.sums[step]
            if sums[0] == -np.inf:  # the search had stopped, with the prefix still running
                break
            ended = (self.tokens[step] == self.end_token) | (step == steps - 1)
            match = np.flatnonzero(
                (self.parents[step] == slot) & (self.tokens[step] == token) & (sums > -np.inf)
            )
            running = np.flatnonzero(~ended & (sums > -np.inf))[:beams]
            if len(match) and match[0] in running:
                slot = int(np.searchsorted(running, match[0]))
                prefix_sum = float(sums[match[0]])
                continue
            if len(match):
                return float(sums[match[0]])
            if token == self.end_token or step == steps - 1:
                return min(prefix_sum, float(sums[beams - 1]))
            return min(prefix_sum, float(sums[running[-1]]) if len(running) == beams else -math.inf)
        return prefix_sum


def rounding(length: int, dtype: torch.dtype) -> float:
    """How far the log-probability of `length` tokens may differ between two ways of computing it."""
    return _ROUNDING_UNITS * torch.finfo(dtype).eps * length


def answer_bound(
    log_prob: float, log_prior: Sequence[float], log_bounds: Sequence[float], length: int, dtype: torch.dtype
) -> float:
    """log(p + Σ_z p(z|x) bound_z) − log p over the documents z under which an answer was not scored.

    Wider by what rounding may make of the sum, so that it holds where the bound is the probability itself.

    Args:
      log_prob: log p, the answer's probability from the documents that were scored.
      log_prior: log p(z|x) of the others.
      log_bounds: upper bounds of log p(y|x,z) under them.
      length: tokens of the answer; its scores' rounding grows with it.
      dtype: of the model's arithmetic.
    """
    if not len(log_bounds):
        return 0.0
    joint = np.asarray(log_prior) + np.minimum(log_bounds, 0.0)
    return float(np.logaddexp.reduce([log_prob, *joint])) - log_prob + rounding(length, dtype)
