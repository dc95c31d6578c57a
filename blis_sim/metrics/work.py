"""How many engine steps of which kind an instance did: what a roofline of a run is made from.

A run has millions of steps, but what one costs falls into parts that depend on little: on its
tokens, its requests, the number and contexts of its decodes, and each chunk of a prompt. So steps
are counted by each of these apart, and each kind is worked out once, after the run.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from blis_sim.engine.decode_run import DecodeRun
    from blis_sim.latency.base import Batch

_Key = TypeVar("_Key")
_BITS = 6
"""Leading binary digits of a mean context that tell kinds of decodes apart."""


def bucket_of(mean_context: int) -> tuple[int, int]:
    """Return the first context of the bucket that a mean context is in, and its width.

    Contexts below 64 tokens have a bucket each; above, a bucket is at most 1/32 of its first
    context wide.
    """
    shift = max(0, mean_context.bit_length() - _BITS)
    return mean_context >> shift << shift, 1 << shift


class StepBook:
    """Steps counted by what their parts depend on.

    Attributes
    ----------
    tokens, rows : dict of int to list of two ints
        By the tokens, and by the requests, of a step: steps, and decodes in them.
    decodes : dict of (int, int) to list of two ints
        By the decodes of a step and the bucket of their mean context: steps, and the exact sum
        over these of the tokens computed before for all decodes.
    chunks : Counter of (int, int)
        Prompt chunks by context and new tokens.
    launch_us : float
        Time of launching attention that no chunk and no decode has.
    num_steps, time_us : int
        Steps, and what they took together, microseconds.
    """

    __slots__ = ("chunks", "decodes", "launch_us", "num_steps", "rows", "time_us", "tokens")

    def __init__(self) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.rows: dict[int, list[int]] = {}
        self.decodes: dict[tuple[int, int], list[int]] = {}
        self.chunks: Counter[tuple[int, int]] = Counter()
        self.launch_us = 0.0
        self.num_steps = 0
        self.time_us = 0

    def add_decodes(self, num_decodes: int, first_context: int, num_steps: int) -> None:
        """Count the decodes of steps in a row, in each of which every context grows by one."""
        context = first_context
        while num_steps:
            mean = context // num_decodes
            first, width = bucket_of(mean)
            here = min(num_steps, first + width - mean)
            total = here * context + num_decodes * (here * (here - 1) // 2)
            _add(self.decodes, (num_decodes, first), here, total)
            context += here * num_decodes
            num_steps -= here

    def add_steps(
        self, num_steps: int, num_tokens: int, num_requests: int, num_decodes: int, time_us: int
    ) -> None:
        """Count equal steps that took ``time_us`` together."""
        _add(self.tokens, num_tokens, num_steps, num_steps * num_decodes)
        _add(self.rows, num_requests, num_steps, num_steps * num_decodes)
        self.num_steps += num_steps
        self.time_us += time_us

    def add(self, other: StepBook) -> None:
        """Add the steps of another book."""
        for ours, theirs in ((self.tokens, other.tokens), (self.rows, other.rows)):
            for number, (num_steps, num_decodes) in theirs.items():
                _add(ours, number, num_steps, num_decodes)
        for key, (num_steps, context) in other.decodes.items():
            _add(self.decodes, key, num_steps, context)
        self.chunks.update(other.chunks)
        self.launch_us += other.launch_us
        self.num_steps += other.num_steps
        self.time_us += other.time_us


def _add(counts: dict[_Key, list[int]], key: _Key, first: int, second: int) -> None:
    found = counts.get(key)
    if found is None:
        counts[key] = [first, second]
    else:
        found[0] += first
        found[1] += second


class WorkLog:
    """The steps of one instance.

    Parameters
    ----------
    launch_us : callable or None
        What launching attention takes in a step with prompts beyond chunks and decodes, us;
        None = nothing is known of it.

    Attributes
    ----------
    decoding : StepBook
        Steps without prompts.
    prompting : StepBook
        Steps with prompts, and perhaps decodes.
    """

    __slots__ = ("_launch_us", "decoding", "prompting")

    def __init__(self, launch_us: Callable[[Batch], float] | None = None) -> None:
        self._launch_us = launch_us
        self.decoding = StepBook()
        self.prompting = StepBook()

    def add_step(self, batch: Batch, time_us: int) -> None:
        """Count an ordinary step that has ended."""
        num_decodes, prefills = batch.num_decodes, batch.prefills
        book = self.prompting if prefills else self.decoding
        num_tokens = num_decodes + batch.num_prefill_tokens
        book.add_steps(1, num_tokens, num_decodes + len(prefills), num_decodes, time_us)
        if num_decodes:
            book.add_decodes(num_decodes, batch.sum_decode_context, 1)
        for context_tokens, new_tokens in prefills:
            book.chunks[context_tokens, new_tokens] += 1
        if prefills and self._launch_us is not None:
            book.launch_us += self._launch_us(batch)

    def add_run(self, run: DecodeRun, num_ended: int, context_tokens: int) -> None:
        """Count the steps of a run that have ended since the last time.

        ``context_tokens`` are those of the first of them; each step adds one per decode.
        """
        num_steps, count = num_ended - run.num_ended, run.num_decodes
        time_us = run.end_of(num_ended) - run.ended_us
        self.decoding.add_steps(num_steps, count, count, count, time_us)
        self.decoding.add_decodes(count, context_tokens, num_steps)

    def add(self, other: WorkLog) -> None:
        """Add the steps of another instance of the same kind."""
        self.decoding.add(other.decoding)
        self.prompting.add(other.prompting)
