"""One step's batch, and the limits batches are formed within."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.config.engine import SchedulingPolicy
from blis_sim.latency.base import Batch, PrefillChunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.engine.request import Request


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """Limits of one instance; see the scenario's engine section for the meanings."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    long_prefill_token_threshold: int = 0
    policy: SchedulingPolicy = SchedulingPolicy.FCFS
    enable_chunked_prefill: bool = True
    reserve_full_sequence: bool = False


class ScheduledBatch(Batch):
    """One step's work and who gets a token from it.

    Most steps have none of the lists, so they begin as one shared empty tuple.
    """

    __slots__ = (
        "completing",
        "finishing",
        "irregular",
        "num_regular",
        "num_victims",
        "pausing",
        "start_us",
        "step",
        "was_disturbed",
    )

    def __init__(self, step: int, num_decodes: int = 0, sum_decode_context: int = 0) -> None:
        self.step = step
        self.num_decodes = num_decodes
        self.sum_decode_context = sum_decode_context
        self.prefills: Sequence[PrefillChunk] = ()
        self.num_regular = num_decodes
        """Decodes whose previous token came with the step before: their gap is this step."""
        self.irregular: Sequence[Request] = ()
        """Decodes that were left out of the step before."""
        self.completing: Sequence[Request] = ()
        """Requests whose prompt (or recomputation) completes: they yield a token, too."""
        self.finishing: Sequence[Request] = ()
        """Requests that end with this step, in running order."""
        self.pausing: Sequence[Request] = ()
        """Requests whose token of this step is their last for a while."""
        self.num_victims = 0
        self.was_disturbed = False
        """Whether the pass did anything but advance all decodes."""
        self.start_us = 0

    def num_dropped(self, gone: Sequence[Request], now_us: int) -> int:
        """Return how many of the regular decodes have left before the step's end."""
        num_dropped = 0
        for request in gone:
            num_dropped += (
                request.aborted_us < now_us
                and request.yields_in(self.step)
                and request not in self.irregular
                and request not in self.completing
            )
        return num_dropped

    def drop_token(self, request: Request) -> int:
        """Take a request's token out; its work stays in. Return how many: 0 or 1."""
        if not request.yields_in(self.step):
            return 0
        if request in self.completing:
            self.completing = [r for r in self.completing if r is not request]
        elif request in self.irregular:
            self.irregular = [r for r in self.irregular if r is not request]
        else:
            self.num_regular -= 1
        return 1
