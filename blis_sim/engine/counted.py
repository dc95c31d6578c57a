"""An instance whose steps are counted: the same engine, and a log of how much work it did.

Every step is known, also those of runs; only the short way, which adds up what it does, is not
taken. The results are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.delivery import Delivery
from blis_sim.engine.instance import Instance
from blis_sim.engine.observed import ObservedInstance
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.metrics.work import WorkLog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from blis_sim.engine.batch import ScheduledBatch
    from blis_sim.engine.decode_run import DecodeRun
    from blis_sim.engine.request import Request
    from blis_sim.latency.base import LatencyModel


def work_log(latency: LatencyModel) -> WorkLog:
    """Return an empty log for an instance with this latency model."""
    return WorkLog(latency.launch_us if isinstance(latency, RooflineV2Model) else None)


class CountedDelivery(Delivery):
    """Counts ordinary steps at their end.

    Parameters
    ----------
    work : WorkLog
        Receives them.
    delivery : Delivery
        Does the rest.
    """

    def __init__(self, work: WorkLog, delivery: Delivery) -> None:
        self._work = work
        self._delivery = delivery

    def deliver(self, batch: ScheduledBatch, now_us: int, gone: Sequence[Request]) -> None:
        """Count the step that ends now, and record its tokens."""
        self._work.add_step(batch, now_us - batch.start_us)
        self._delivery.deliver(batch, now_us, gone)


class CountedInstance(Instance):
    """An instance whose steps are counted.

    Parameters
    ----------
    work : WorkLog
        Receives them.
    arguments
        As for `Instance`.
    """

    def __init__(self, *, work: WorkLog, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._work = work
        self._runs_ahead = False
        self._delivery = CountedDelivery(work, self._delivery)

    def _advance_run(
        self, run: DecodeRun, num_ended: int, ended_us: int, num_scheduled: int
    ) -> None:
        if num_ended > run.num_ended:
            decodes = self.scheduler.decodes
            step = run.first_step + run.num_ended
            self._work.add_run(run, num_ended, decodes.sum_offset + decodes.count * step)
        super()._advance_run(run, num_ended, ended_us, num_scheduled)


class CountedObservedInstance(CountedInstance, ObservedInstance):
    """An instance whose steps are counted, and logged for a timeline.

    Parameters
    ----------
    work : WorkLog
        Receives what is counted.
    arguments
        As for `ObservedInstance`, by name.
    """
