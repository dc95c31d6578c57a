"""Autoscaling: how many instances a pool should have."""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import TYPE_CHECKING

from blis_sim.units import seconds_to_us

if TYPE_CHECKING:
    from blis_sim.config.cluster import AutoscalingSettings

_PLACES = 9
"""Decimal places to which quotients of measurements count: a mean of whole numbers multiplied
back is off by the last bit of a float, and must not start another instance."""


class Autoscaler:
    """The rule of Kubernetes' HorizontalPodAutoscaler, with its stabilisation and cooldowns.

    ``wanted = ceil(ready instances * measured / target)``; nothing changes while
    ``|measured / target - 1| <= tolerance``. Instances that are starting count as if they took
    their share already: a measure above the target starts no more than are needed beside them,
    and stops none of them.

    A pool shrinks to the highest number wanted in the last ``scale_down_stabilization_s``, so
    that a short lull stops nothing. As in Kubernetes the number found at the first decision
    counts as wanted then. Kubernetes' bounds on the speed of growth are not part of it, and its
    autoscaler has no cooldowns (they are 0 unless set).

    It takes its own answers as carried out at once: the cooldowns run from the last answer that
    differed from the number of instances.

    Parameters
    ----------
    settings : AutoscalingSettings
        Of one pool, as :func:`~blis_sim.config.cluster_checks.check_cluster` accepts them.

    References
    ----------
    Kubernetes documentation, Horizontal Pod Autoscaling, "Algorithm details" and "Stabilization
    window"; in pkg/controller/podautoscaler ``calcPlainMetricReplicas`` of replica_calculator.go
    and ``stabilizeRecommendationWithBehaviors`` of horizontal.go.
    """

    def __init__(self, settings: AutoscalingSettings) -> None:
        self._settings = settings
        self._up_cooldown_us = seconds_to_us(settings.scale_up_cooldown_s)
        self._down_cooldown_us = seconds_to_us(settings.scale_down_cooldown_s)
        self._wishes = _RecentMost(seconds_to_us(settings.scale_down_stabilization_s))
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
            but a number outside the limits, and is no wish.

        Returns
        -------
        int
            Between ``min_instances`` and ``max_instances``. A number outside them is corrected
            at once, within a cooldown too.
        """
        current = num_ready + num_starting
        allowed = self._within_limits(current)
        wanted = allowed
        if self._wishes.is_new:
            self._wishes.add(now_us, allowed)
        if measured is not None and num_ready:
            wanted = self._within_limits(self._desired(num_ready, current, measured))
            self._wishes.add(now_us, wanted)
        if wanted < allowed:
            wanted = min(allowed, max(wanted, self._wishes.most(now_us)))
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


class _RecentMost:
    """The largest of the numbers added within a time.

    Only those count that no later number reaches: they fall from the oldest to the newest.
    """

    def __init__(self, window_us: int) -> None:
        self.is_new = True
        self._window_us = window_us
        self._falling: deque[tuple[int, int]] = deque()

    def add(self, now_us: int, number: int) -> None:
        """Take note of a number; ``now_us`` is never before that of an earlier call."""
        self.is_new = False
        while self._falling and self._falling[-1][1] <= number:
            self._falling.pop()
        self._falling.append((now_us, number))

    def most(self, now_us: int) -> int:
        """Return the largest number added less than the window ago, 0 without any."""
        while self._falling and not _is_within(now_us, self._falling[0][0], self._window_us):
            self._falling.popleft()
        return self._falling[0][1] if self._falling else 0


def _is_within(now_us: int, since_us: int | None, length_us: int) -> bool:
    return since_us is not None and now_us - since_us < length_us
