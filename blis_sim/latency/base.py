"""The latency model protocol: what an engine step costs.

A model answers five questions (step, queueing, scheduling, preemption and output-token
time) and one vectorised one (``decode_run``). It depends on the batch alone: no clock, no
queue, no hidden state. All times are whole microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]


class PrefillChunk(NamedTuple):
    """New tokens of one request that is not a decode in this step."""

    context_tokens: int
    """Tokens already computed before the step, >= 0."""
    new_tokens: int
    """Tokens computed in the step, >= 1."""


class RequestLike(Protocol):
    """What ``queueing_time`` may look at."""

    @property
    def prompt_tokens(self) -> int:
        """Prompt length in tokens."""


@dataclass(slots=True)
class Batch:
    """The work of one engine step.

    A decode has generated at least one token and wants exactly one; everything else is a
    prefill.
    """

    num_decodes: int = 0
    sum_decode_context: int = 0
    """Sum over the decodes of the tokens computed before the step."""
    prefills: Sequence[PrefillChunk] = ()
    """In running order."""

    @property
    def num_prefill_tokens(self) -> int:
        """New tokens of all prefills."""
        total = 0
        for chunk in self.prefills:
            total += chunk.new_tokens
        return total

    @property
    def is_empty(self) -> bool:
        """Whether the step would have no work."""
        return not self.prefills and self.num_decodes == 0


class LatencyModel(Protocol):
    """How long things take on one deployment (model, GPU, TP)."""

    def step_time(self, batch: Batch) -> int:
        """Return the duration of one engine step in microseconds, >= 1.

        For a decode-only batch this is exactly ``decode_run(batch, 1)[0]``.
        """

    def decode_run(self, batch: Batch, num_steps: int) -> Int64Array:
        """Return the durations of ``num_steps`` consecutive steps of a decode-only batch.

        Every member grows by one token a step. ``decode_run(b, j + k)`` equals
        ``decode_run(b, j)`` followed by ``decode_run(b advanced by j, k)`` to the bit.
        """

    def uniform_decode_time(self, batch: Batch) -> int | None:
        """Return the step time when it does not depend on the context, else None.

        A shortcut for ``decode_run``: when not None, every step of any run of this batch
        takes exactly this long.
        """

    def queueing_time(self, request: RequestLike) -> int:
        """Return the frontend time between arrival and the waiting queue, >= 0."""

    def output_token_time(self) -> int:
        """Return the client-side delay added per generated token, >= 0."""

    def scheduling_time(self) -> int:
        """Return the time of one scheduling pass, >= 0."""

    def preemption_time(self) -> int:
        """Return the time added to a step per preempted request, >= 0."""
