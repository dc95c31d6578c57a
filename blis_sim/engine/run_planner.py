"""When a run of decode steps is certain, and how long it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.decode_run import DecodeRun, make_run
from blis_sim.engine.frontend import FAR_US
from blis_sim.latency.base import Batch

if TYPE_CHECKING:
    from blis_sim.engine.batch import ScheduledBatch
    from blis_sim.engine.frontend import Frontend
    from blis_sim.engine.request import Request
    from blis_sim.engine.scheduler import Scheduler
    from blis_sim.latency.base import LatencyModel


class RunPlanner:
    """Plans the decode runs of one instance.

    Parameters
    ----------
    scheduler, latency, frontend
        The instance's own.
    lead : int
        Steps that are scheduled ahead of the running one: 0, or 1 with asynchronous
        scheduling.
    """

    def __init__(
        self, scheduler: Scheduler, latency: LatencyModel, frontend: Frontend, lead: int
    ) -> None:
        self._scheduler = scheduler
        self._latency = latency
        self._frontend = frontend
        self._lead = lead

    def run_from(
        self, batch: ScheduledBatch, pending: ScheduledBatch | None, awaited: Request | None
    ) -> DecodeRun | None:
        """Plan a run that begins with a formed batch; None if more like it are not certain.

        Parameters
        ----------
        batch : ScheduledBatch
            The first step.
        pending : ScheduledBatch or None
            With asynchronous scheduling, the step after it.
        awaited : Request or None
            Who waits outside for blocks here.
        """
        if (
            batch.was_disturbed
            or batch.finishing
            or batch.num_victims
            or batch.num_regular != batch.num_decodes  # it carries work for one who has left
        ):
            return None
        scheduler, lead = self._scheduler, self._lead
        decodes = scheduler.decodes
        if lead and (
            pending is None
            or pending.was_disturbed
            or pending.finishing
            or pending.num_victims
            or pending.num_regular != batch.num_regular
        ):
            return None
        heads = [scheduler.waiting.head()] if scheduler.head_needs_blocks else []
        if awaited is not None:
            heads.append(awaited)
        for head in heads:
            if head.content and decodes.is_filling(head.content[-1].key):
                return None  # a member may fill a block the head is waiting to find
        more = self._steps_to_come()
        if not more:
            return None
        return self._make(batch, (batch.start_us, batch.step), 1 + lead + more)

    def run_after(self, batch: ScheduledBatch, end_us: int) -> DecodeRun | None:
        """Plan the run that follows a step with prompts; None if that is not certain.

        Certain it is if everybody decodes from then on and nobody waits: whoever comes before
        the step's end takes the plan back. Nothing of it is scheduled yet.
        """
        scheduler = self._scheduler
        if (
            scheduler.prefilling
            or scheduler.returning
            or scheduler.waiting.requests
            or batch.finishing
            or self._frontend.next_entry_us <= end_us
        ):
            return None
        decodes = scheduler.decodes
        more = self._steps_to_come()
        if not more:
            return None
        work = Batch(decodes.count, decodes.sum_context)
        run = self._make(work, (end_us, decodes.counter), more)
        run.num_scheduled = 0
        return run

    def _steps_to_come(self) -> int:
        """Return how many more steps have their blocks, up to the first that ends somebody."""
        decodes = self._scheduler.decodes
        limit = decodes.finish_at - decodes.counter
        return decodes.steps_within(self._scheduler.kv.num_free, limit)

    def _make(self, work: Batch, first: tuple[int, int], num_steps: int) -> DecodeRun:
        """Return the run, cut where somebody known to come may be admitted."""
        until_us = FAR_US
        if self._scheduler.admits_newcomers():
            until_us = self._frontend.next_entry_us
        run = make_run(self._latency, work, first, num_steps, self._lead, until_us)
        if until_us < FAR_US:
            run.cut(until_us)
        return run
