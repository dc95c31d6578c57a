"""Blackbox latency: a regression on the batch with trained alpha and beta coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from blis_sim.latency.base import Batch, Int64Array, RequestLike


class BlackboxModel:
    """Linear regression per (model, GPU, TP, engine version).

    ``step = int(b0 + b1 * prefill tokens + b2 * decodes)``; the frontend takes
    ``int(a0 + a1 * prompt tokens)`` and every generated token reaches the client
    ``int(a2)`` later than the one before it was delayed. All in microseconds.

    Parameters
    ----------
    alpha : tuple of three floats
        us; us per prompt token; us per output token. Each >= 0.
    beta : tuple of three floats
        us; us per prefill token; us per decode. Each >= 0.
    """

    def __init__(
        self, alpha: tuple[float, float, float], beta: tuple[float, float, float]
    ) -> None:
        self.alpha = alpha
        self.beta = beta
        self._output_token_us = int(alpha[2])

    def step_time(self, batch: Batch) -> int:
        """Return the duration of one step in microseconds, >= 1."""
        b0, b1, b2 = self.beta
        num_prefill_tokens = 0
        for _, new_tokens in batch.prefills:
            num_prefill_tokens += new_tokens
        time_us = int(b0 + b1 * num_prefill_tokens + b2 * batch.num_decodes)
        return time_us or 1

    def uniform_decode_time(self, batch: Batch) -> int | None:
        """Return the step time: it depends on the number of decodes alone."""
        time_us = int(self.beta[0] + self.beta[2] * batch.num_decodes)
        return time_us or 1

    def decode_run(self, batch: Batch, num_steps: int) -> Int64Array:
        """Return ``num_steps`` equal step times, int64[num_steps]."""
        return np.full(num_steps, self.uniform_decode_time(batch), dtype=np.int64)

    def queueing_time(self, request: RequestLike) -> int:
        """Return the frontend time of a request in microseconds."""
        return int(self.alpha[0] + self.alpha[1] * request.prompt_tokens)

    def output_token_time(self) -> int:
        """Return the client-side delay per generated token in microseconds."""
        return self._output_token_us

    def scheduling_time(self) -> int:
        """Return 0: the regression includes scheduling."""
        return 0

    def preemption_time(self) -> int:
        """Return 0: the regression includes preemption."""
        return 0
