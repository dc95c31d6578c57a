"""Generated load: drawn arrivals and contents, a chunk of requests at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import numpy as np

from blis_sim.workload.base import CHUNK_REQUESTS, Int64Array, Workload, build_requests
from blis_sim.workload.prompts import Contents, Prompts
from blis_sim.workload.request import RequestSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRequests:
    """Requests of one kind, whenever they arrive.

    Attributes
    ----------
    prompts : Prompts
        What they say.
    names : tuple of str
        Beginning of the names of the random streams: another client has others.
    max_output_tokens : int or None
        The client's limit on generated tokens.
    timeout_us : int or None
        Clients give up this long after sending, microseconds.
    slo_class, tenant : str or None
        Labels of all requests.
    priority : int
        Lower is more urgent.
    session_name : str or None
        If given, each request begins a session of its own, named so with a number.
    """

    prompts: Prompts
    names: tuple[str, ...] = ("workload",)
    max_output_tokens: int | None = None
    timeout_us: int | None = None
    slo_class: str | None = None
    tenant: str | None = None
    priority: int = 0
    session_name: str | None = None

    def walk(self, seed: int) -> Callable[[Iterable[Int64Array]], Iterator[RequestSpec]]:
        """Return a function that gives requests to arrival times.

        It may be called again: the requests go on where they stopped. They are numbered from
        0 over all calls.
        """
        draw = self.prompts.walk(seed, self.names)
        num_drawn = 0

        def requests(times_us: Iterable[Int64Array]) -> Iterator[RequestSpec]:
            nonlocal num_drawn
            for arrival_us in times_us:
                first, count = num_drawn, len(arrival_us)
                num_drawn += count
                yield from self._build(first, arrival_us, draw(count))

        return requests

    def _build(
        self, first: int, arrival_us: Int64Array, contents: Contents
    ) -> Iterator[RequestSpec]:
        numbers = range(first, first + len(arrival_us))
        sessions: Iterable[str | None] = repeat(None)
        if self.session_name is not None:
            sessions = [f"{self.session_name}-{number}" for number in numbers]
        rows = zip(
            numbers,
            arrival_us.tolist(),
            contents.prompt_tokens.tolist(),
            contents.output_tokens.tolist(),
            repeat(self.max_output_tokens),
            contents.prefix_group,
            contents.prefix_tokens,
            sessions,
            repeat(0),  # round
            repeat(self.slo_class),
            repeat(self.tenant),
            repeat(self.priority),
            repeat(self.timeout_us),
            repeat(None),  # abort_us
            contents.prompt_id,
            repeat(None),  # block_hashes
            repeat(512),  # hash_block_tokens
            strict=False,
        )
        return build_requests(rows)


class ArrivalTimes(Protocol):
    """When requests arrive."""

    def times_us(
        self, seed: int, names: tuple[str, ...] = ..., chunk: int = ...
    ) -> Iterator[Int64Array]:
        """Yield the times in order, microseconds, at most ``chunk`` at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedWorkload(Workload):
    """Requests drawn from a seed, at times that depend on nothing else.

    Attributes
    ----------
    seed : int
        Seed of the run, >= 0.
    arrivals : ArrivalTimes
        When the requests arrive.
    drawn : DrawnRequests
        What arrives.
    last_arrival_us : int or None
        If given, the stream ends after the last arrival at or before this time.
    chunk_requests : int
        Requests drawn at a time; does not change the stream.
    """

    seed: int
    arrivals: ArrivalTimes
    drawn: DrawnRequests
    last_arrival_us: int | None = None
    chunk_requests: int = CHUNK_REQUESTS

    def requests(self) -> Iterator[RequestSpec]:
        """Yield the requests in order of arrival, from the start of the random streams."""
        times_us = self.arrivals.times_us(self.seed, self.drawn.names, self.chunk_requests)
        if self.last_arrival_us is not None:
            times_us = _until(self.last_arrival_us, times_us)
        return self.drawn.walk(self.seed)(times_us)


def _until(last_us: int, arrays: Iterable[Int64Array]) -> Iterator[Int64Array]:
    """Yield the times up to one, in order."""
    for times_us in arrays:
        count = int(np.searchsorted(times_us, last_us, side="right"))
        yield times_us[:count]
        if count < len(times_us):
            return
