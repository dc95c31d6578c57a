"""Where an engine's limits may lie, by arithmetic: a guess for the search, never an answer.

In steady state a batch of b requests finishes b / output requests a step, and the step computes
their prompts, too. So it serves (b / output) / step time requests per second, and a token takes
one step. Chance, queues and the mix of lengths are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.units import US_PER_MS, US_PER_S

if TYPE_CHECKING:
    from blis_sim.engine.resolved import Deployed

_GROWTH = 1.15
"""Ratio of one batch size tried to the next."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A mean load on one engine.

    Attributes
    ----------
    prompt_tokens : float
        Prompt tokens of a request.
    computed_tokens : float
        Of these, not found in the prefix cache.
    output_tokens : float
        Tokens generated for a request, >= 1.
    """

    prompt_tokens: float
    computed_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class FluidPoint:
    """Steady state with a batch size.

    Attributes
    ----------
    num_running : int
        Requests in the batch.
    rate : float
        Requests finished per second.
    step_ms : float
        One step, which is the gap between two tokens.
    """

    num_running: int
    rate: float
    step_ms: float


def fluid_points(deployed: Deployed, flow: Flow) -> Iterator[FluidPoint]:
    """Yield steady states from one request to as many as seats and KV cache allow."""
    engine = deployed.engine
    context = flow.prompt_tokens + flow.output_tokens / 2
    blocks = math.ceil(max(context, 1) / engine.block_size)
    most = min(engine.scheduler.max_num_seqs, engine.num_kv_blocks // blocks)
    budget = engine.scheduler.max_num_batched_tokens
    size = 1.0
    while size <= max(most, 1):
        number = int(size)
        new = min(number * flow.computed_tokens / flow.output_tokens, budget - min(number, budget))
        yield _point(deployed, flow, number, new)
        size = max(size * _GROWTH, size + 1)


def _point(deployed: Deployed, flow: Flow, number: int, new_tokens: float) -> FluidPoint:
    context = flow.prompt_tokens + flow.output_tokens / 2
    prefills = [PrefillChunk(0, round(new_tokens))] if new_tokens >= 1 else []
    batch = Batch(number, round(number * context), prefills)
    step_us = deployed.latency.model.step_time(batch)
    rate = number / flow.output_tokens / step_us * US_PER_S
    return FluidPoint(number, rate, step_us / US_PER_MS)


def busiest(deployed: Deployed, flow: Flow, itl_limit_ms: float) -> FluidPoint | None:
    """Return the steady state of the highest rate whose steps keep a limit; None: none does."""
    points = (each for each in fluid_points(deployed, flow) if each.step_ms <= itl_limit_ms)
    return max(points, key=lambda point: point.rate, default=None)


def highest_fluid_rate(deployed: Deployed, flow: Flow, itl_limit_ms: float) -> float:
    """Return the highest rate of a steady state whose steps keep a limit; 0 when none does."""
    point = busiest(deployed, flow, itl_limit_ms)
    return 0.0 if point is None else point.rate


def least_step_ms(deployed: Deployed) -> float:
    """Return the shortest step there is: one decode with next to no context.

    Latency models are monotone in tokens and context, so no gap between tokens is shorter.
    """
    return deployed.latency.model.step_time(Batch(1, 1)) / US_PER_MS


def lone_request_s(deployed: Deployed, flow: Flow) -> float:
    """Return how long a mean request takes on an empty engine, seconds."""
    model = deployed.latency.model
    context = round(flow.prompt_tokens + flow.output_tokens / 2)
    prompt_us = model.step_time(
        Batch(0, 0, [PrefillChunk(0, max(1, round(flow.computed_tokens)))])
    )
    return (prompt_us + flow.output_tokens * model.step_time(Batch(1, context))) / US_PER_S
