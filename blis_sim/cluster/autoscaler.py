"""Autoscaling: how many instances a pool should have."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from blis_sim.units import seconds_to_us

if TYPE_CHECKING:
    from blis_sim.config.cluster import AutoscalingSettings

_PLACES = 9
"""Decimal places to which quotients of measurements count: a mean of whole numbers multiplied
back is off by the last bit of a float, and must not start another instance."""


class Autoscaler:
    """The rule of Kubernetes' HorizontalPodAutoscaler, with cooldowns.

    ``wanted = ceil(ready instances * measured / target)``; nothing changes while
    ``|measured / target - 1| <= tolerance``. Instances that are starting count as if they took
    their share already: a measure above the target starts no more than are needed beside them,
    and stops none of them. Kubernetes' bounds on the speed of growth are not part of it.

    It takes its own answers as carried out at once: the cooldowns run from the last answer that
    differed from the number of instances.

    Parameters
    ----------
    settings : AutoscalingSettings
        Of one pool, as :func:`~blis_sim.config.cluster_checks.check_cluster` accepts them.

    References
    ----------
    Kubernetes documentation, Horizontal Pod Autoscaling, "Algorithm details";
    ``calcPlainMetricReplicas`` in pkg/controller/podautoscaler/replica_calculator.go.
    """

    def __init__(self, settings: AutoscalingSettings) -> None:
        self._settings = settings
        self._up_cooldown_us = seconds_to_us(settings.scale_up_cooldown_s)
        self._down_cooldown_us = seconds_to_us(settings.scale_down_cooldown_s)
        self._grown_us: int | None = None
        self._changed_us: int | None = None

    def decide(
        self, now_us: int, num_ready: int, num_starting: int, measured: float | None
    ) -> int:
        """Return how many instances there should be, ready and starting.

        Parameters
        ----------
        now_us : int
            The time, never before that of an earlier call.
        num_ready, num_starting : int
            Instances that take requests, and those that will.
        measured : float or None
            Mean of the metric over the ready instances; None = no data, which changes nothing
            but a number outside the limits.

        Returns
        -------
        int
            Between ``min_instances`` and ``max_instances``. A number outside them is corrected
            at once, within a cooldown too.
        """
        current = num_ready + num_starting
        allowed = self._within_limits(current)
        wanted = allowed
        if measured is not None and num_ready:
            wanted = self._within_limits(self._desired(num_ready, current, measured))
        if wanted > allowed and _is_within(now_us, self._grown_us, self._up_cooldown_us):
            wanted = allowed
        if wanted < allowed and _is_within(now_us, self._changed_us, self._down_cooldown_us):
            wanted = allowed
        if wanted != current:
            self._changed_us = now_us
        if wanted > current:
            self._grown_us = now_us
        return wanted

    def _desired(self, num_ready: int, current: int, measured: float) -> int:
        """Return what the measure alone asks for."""
        settings = self._settings
        excess = round(measured / settings.target - 1, _PLACES)
        if abs(excess) <= settings.tolerance:
            return current
        exact = round(num_ready * measured / settings.target, _PLACES)
        desired = ceil(min(exact, settings.max_instances))  # it may be infinite
        return max(desired, current) if excess > 0 else desired

    def _within_limits(self, count: int) -> int:
        settings = self._settings
        return min(max(count, settings.min_instances), settings.max_instances)


def _is_within(now_us: int, since_us: int | None, cooldown_us: int) -> bool:
    return since_us is not None and now_us - since_us < cooldown_us
