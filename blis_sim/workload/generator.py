"""Generated load: drawn lengths and arrivals, a chunk of requests at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from blis_sim.rng import named_stream
from blis_sim.workload.arrivals import Arrivals, chunk_sizes
from blis_sim.workload.base import CHUNK_REQUESTS, Workload, build_requests
from blis_sim.workload.lengths import NormalLengths
from blis_sim.workload.request import RequestSpec


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A prefix of ``num_tokens`` in front of every prompt, one of ``num_groups`` texts."""

    num_tokens: int
    num_groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedWorkload(Workload):
    """Requests drawn from a seed.

    Arrivals, prompt lengths, output lengths and prefix groups have a random stream each, so
    that changing one of them leaves the others as they are.

    Attributes
    ----------
    seed : int
        Seed of the run, >= 0.
    arrivals : Arrivals
        When the requests arrive.
    prompt, output : NormalLengths
        Their lengths; the prompt without its shared prefix.
    prefix : SharedPrefix or None
        Shared prefix, added in front of the drawn prompt; groups are drawn uniformly.
    max_output_tokens : int or None
        The client's limit on generated tokens.
    timeout_us : int or None
        Clients give up this long after arrival, microseconds.
    slo_class, tenant : str or None
        Labels of all requests.
    last_arrival_us : int or None
        Where ``num_requests`` is None: the stream ends after the last arrival at or before
        this time.
    chunk_requests : int
        Requests drawn at a time; does not change the stream.
    """

    seed: int
    arrivals: Arrivals
    prompt: NormalLengths
    output: NormalLengths
    prefix: SharedPrefix | None = None
    max_output_tokens: int | None = None
    timeout_us: int | None = None
    slo_class: str | None = None
    tenant: str | None = None
    last_arrival_us: int | None = None
    chunk_requests: int = CHUNK_REQUESTS

    def requests(self) -> Iterator[RequestSpec]:
        """Yield the requests in order of arrival, from the start of the random streams."""
        prompt_rng = named_stream(self.seed, "workload", "prompt_tokens")
        output_rng = named_stream(self.seed, "workload", "output_tokens")
        group_rng = named_stream(self.seed, "workload", "prefix_group")
        prefix_tokens = self.prefix.num_tokens if self.prefix else 0
        first_id = 0
        sizes = chunk_sizes(self.num_requests, self.chunk_requests)
        for arrival_us in self.arrivals.times_us(self.seed, sizes):
            drawn = count = len(arrival_us)
            if self.num_requests is None and self.last_arrival_us is not None:
                count = int(np.searchsorted(arrival_us, self.last_arrival_us, side="right"))
            prompt_tokens = self.prompt.draw(prompt_rng, count) + prefix_tokens
            rows = zip(
                range(first_id, first_id + count),
                arrival_us.tolist(),
                prompt_tokens.tolist(),
                self.output.draw(output_rng, count).tolist(),
                repeat(self.max_output_tokens),
                self._groups(group_rng, count),
                repeat(prefix_tokens),
                repeat(None),  # session_id
                repeat(0),  # round
                repeat(self.slo_class),
                repeat(self.tenant),
                repeat(0),  # priority
                repeat(self.timeout_us),
                repeat(None),  # abort_us
                strict=False,
            )
            yield from build_requests(rows)
            if count < drawn:
                return
            first_id += count

    def _groups(self, rng: np.random.Generator, count: int) -> Iterable[str | None]:
        if self.prefix is None:
            return repeat(None)
        names = [f"prefix-{number}" for number in range(self.prefix.num_groups)]
        return [names[number] for number in rng.integers(len(names), size=count).tolist()]
