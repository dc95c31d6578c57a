"""One walk along a stream of requests: what of each request is kept."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from blis_sim.workload.base import CHUNK_REQUESTS, Int64Array
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.shareable import BLOCK_TOKENS, InfinitePrefixCache, generated_tokens

Int32Array = npt.NDArray[np.int32]

LABELS = ("slo_class", "tenant")
"""Fields of RequestSpec by which requests are told apart in reports."""


@dataclass(frozen=True, slots=True)
class ObservedLabel:
    """One label of every request: a number into ``names``; None = without."""

    codes: Int32Array
    names: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedStream:
    """What is known of each request after one walk: 20 bytes, and 4 for each label.

    Attributes
    ----------
    arrival_us : numpy.ndarray of int64, shape (n,)
        Arrivals, never decreasing.
    prompt_tokens, output_tokens : numpy.ndarray of int32, shape (n,)
        Lengths; the answer no longer than the client's limit.
    hit_tokens : numpy.ndarray of int32, shape (n,)
        Prompt tokens that an infinite prefix cache would hold.
    block_tokens : int
        Tokens per block of that cache.
    labels : dict
        Name of the field -> the labels; fields that no request has are missing.
    rounds : numpy.ndarray of int64, shape (number of sessions,)
        Requests of each session.
    num_prefix_groups, num_prompt_ids, num_block_hashes : int
        Distinct names of shared content.
    num_deadlines : int
        Requests whose client gives up or disconnects at some time.
    """

    arrival_us: Int64Array
    prompt_tokens: Int32Array
    output_tokens: Int32Array
    hit_tokens: Int32Array
    block_tokens: int
    labels: dict[str, ObservedLabel]
    rounds: Int64Array
    num_prefix_groups: int
    num_prompt_ids: int
    num_block_hashes: int
    num_deadlines: int

    @property
    def names_content(self) -> bool:
        """Whether any request says what its tokens are, so that others could share them."""
        return bool(
            self.num_prefix_groups
            or self.num_prompt_ids
            or self.num_block_hashes
            or len(self.rounds)
        )


class _Observer:
    def __init__(self, block_tokens: int) -> None:
        self._cache = InfinitePrefixCache(block_tokens)
        self._block_tokens = block_tokens
        self._arrivals = array("q")
        self._prompts, self._outputs, self._hits = array("i"), array("i"), array("i")
        self._names: dict[str, dict[str | None, int]] = {label: {} for label in LABELS}
        self._codes = {label: array("i") for label in LABELS}
        self._rounds: Counter[str] = Counter()
        self._groups: set[str] = set()
        self._prompt_ids: set[str] = set()
        self._hashes: set[int] = set()
        self._num_deadlines = 0

    def add(self, chunk: list[RequestSpec]) -> None:
        serve = self._cache.serve
        self._arrivals.extend([spec.arrival_us for spec in chunk])
        self._prompts.extend([spec.prompt_tokens for spec in chunk])
        self._outputs.extend([generated_tokens(spec) for spec in chunk])
        self._hits.extend([serve(spec) for spec in chunk])
        for label, names in self._names.items():
            values = map(attrgetter(label), chunk)
            self._codes[label].extend([names.setdefault(value, len(names)) for value in values])
        self._rounds.update([spec.session_id for spec in chunk if spec.session_id is not None])
        self._groups.update([spec.prefix_group for spec in chunk if spec.prefix_group is not None])
        self._prompt_ids.update([spec.prompt_id for spec in chunk if spec.prompt_id is not None])
        for spec in chunk:
            if spec.block_hashes is not None:
                self._hashes.update(spec.block_hashes)
        self._num_deadlines += sum(
            spec.timeout_us is not None or spec.abort_us is not None for spec in chunk
        )

    def result(self) -> ObservedStream:
        labels = {
            label: ObservedLabel(_int32(self._codes[label]), tuple(names))
            for label, names in self._names.items()
            if any(name is not None for name in names)
        }
        return ObservedStream(
            arrival_us=np.frombuffer(self._arrivals, dtype=np.int64),
            prompt_tokens=_int32(self._prompts),
            output_tokens=_int32(self._outputs),
            hit_tokens=_int32(self._hits),
            block_tokens=self._block_tokens,
            labels=labels,
            rounds=np.fromiter(self._rounds.values(), dtype=np.int64, count=len(self._rounds)),
            num_prefix_groups=len(self._groups),
            num_prompt_ids=len(self._prompt_ids),
            num_block_hashes=len(self._hashes),
            num_deadlines=self._num_deadlines,
        )


def observe(
    requests: Iterable[RequestSpec], *, block_tokens: int = BLOCK_TOKENS
) -> ObservedStream:
    """Walk along a stream once and return what describes it.

    Parameters
    ----------
    requests : iterable of RequestSpec
        In order of arrival; taken a chunk at a time and not kept.
    block_tokens : int
        Tokens per block of the imagined prefix cache, >= 1.
    """
    observer = _Observer(block_tokens)
    stream = iter(requests)
    while chunk := list(islice(stream, CHUNK_REQUESTS)):
        observer.add(chunk)
    return observer.result()


def _int32(values: array[int]) -> Int32Array:
    return np.frombuffer(values, dtype=np.int32)
