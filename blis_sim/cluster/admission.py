"""Admission: which requests the gateway turns away at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import lcm
from typing import TYPE_CHECKING, Protocol

from blis_sim.cluster.exact import as_written
from blis_sim.config.cluster import AdmissionPolicy
from blis_sim.units import US_PER_S

if TYPE_CHECKING:
    from blis_sim.cluster.asked import Asked
    from blis_sim.config.cluster import AdmissionSettings

Loads = Callable[[], Sequence[int]]
"""Returns the number of requests waiting and running on each instance."""

TOO_FEW_TOKENS = "token bucket: not enough tokens"
TOO_LARGE = "token bucket: the prompt is larger than the bucket, it can never be admitted"
SHED = "tier-shed: the class is shed while an instance is busy"
REJECTED = "reject-all: nothing is admitted"

STANDARD = "standard"
SLO_PRIORITIES = {"critical": 4, STANDARD: 3, "batch": -1, "sheddable": -2, "background": -3}
"""Priority of SLO classes, the higher the more important."""

_CAPACITY_TOKENS = 10_000.0
_REFILL_TOKENS_PER_S = 1_000.0
_SHED_MIN_PRIORITY = 3


class Admission(Protocol):
    """Decides on each request when it arrives, in the order of arrivals."""

    def refusal(self, asked: Asked, now_us: int, loads: Loads) -> str | None:
        """Return why the request is turned away, None when it is admitted.

        The reason has no numbers of this request, so that equal reasons can be counted.

        Parameters
        ----------
        asked : Asked
            The request.
        now_us : int
            The time, never before that of an earlier call.
        loads : Loads
            Called only where the answer depends on it.
        """


class AlwaysAdmit:
    """Admits every request."""

    def refusal(self, asked: Asked, now_us: int, loads: Loads) -> str | None:
        """Return None."""
        return None


class RejectAll:
    """Admits no request."""

    def refusal(self, asked: Asked, now_us: int, loads: Loads) -> str | None:
        """Return the one reason there is."""
        return REJECTED


class TokenBucket:
    """Admits a request while the bucket holds as many tokens as its prompt, and takes them.

    The bucket is full at the start and is refilled continuously. Levels are integers of the
    largest part of a token in which the capacity and the refill of a microsecond are whole.

    Parameters
    ----------
    capacity_tokens : float
        Prompt tokens the bucket holds, > 0.
    refill_tokens_per_s : float
        Prompt tokens added per second, >= 0.
    """

    def __init__(self, capacity_tokens: float, refill_tokens_per_s: float) -> None:
        capacity = as_written(capacity_tokens)
        refill_per_us = as_written(refill_tokens_per_s) / US_PER_S
        self._parts_per_token = lcm(capacity.denominator, refill_per_us.denominator)
        self._capacity = int(capacity * self._parts_per_token)
        self._refill_per_us = int(refill_per_us * self._parts_per_token)
        self._level = self._capacity
        self._filled_us = 0

    def refusal(self, asked: Asked, now_us: int, loads: Loads) -> str | None:
        """Take the prompt's tokens from the bucket, or say why that cannot be."""
        cost = asked.prompt_tokens * self._parts_per_token
        if cost > self._capacity:
            return TOO_LARGE
        added = (now_us - self._filled_us) * self._refill_per_us
        self._level = min(self._capacity, self._level + added)
        self._filled_us = now_us
        if cost > self._level:
            return TOO_FEW_TOKENS
        self._level -= cost
        return None


class TierShed:
    """Turns unimportant classes away while an instance has many requests.

    Parameters
    ----------
    threshold : int
        Classes are shed while an instance has more requests than this, >= 0.
    min_priority : int
        The lowest priority of a class that is admitted nevertheless.
    priorities : mapping
        Priority by SLO class; it has ``standard``, which other classes, and none, count as.
    """

    def __init__(self, threshold: int, min_priority: int, priorities: Mapping[str, int]) -> None:
        self._threshold = threshold
        self._min_priority = min_priority
        self._priorities = dict(priorities)
        self._standard = self._priorities[STANDARD]

    def refusal(self, asked: Asked, now_us: int, loads: Loads) -> str | None:
        """Return a reason for a class that is shed now."""
        priority = self._standard
        if asked.slo_class is not None:
            priority = self._priorities.get(asked.slo_class, self._standard)
        if priority >= self._min_priority:
            return None
        return SHED if max(loads(), default=0) > self._threshold else None


def make_admission(settings: AdmissionSettings) -> Admission:
    """Return the policy that the settings describe, in its first state.

    Parameters
    ----------
    settings : AdmissionSettings
        As :func:`~blis_sim.config.cluster_checks.check_cluster` accepts them: what the policy
        cannot use is not looked at. Defaults: a bucket of 10000 tokens refilled with 1000
        tokens/s; classes below priority 3 are shed while an instance has any request.
    """
    match settings.policy:
        case AdmissionPolicy.ALWAYS_ADMIT:
            return AlwaysAdmit()
        case AdmissionPolicy.REJECT_ALL:
            return RejectAll()
        case AdmissionPolicy.TOKEN_BUCKET:
            capacity = settings.token_bucket_capacity
            refill = settings.token_bucket_refill_rate
            return TokenBucket(
                _CAPACITY_TOKENS if capacity is None else capacity,
                _REFILL_TOKENS_PER_S if refill is None else refill,
            )
        case AdmissionPolicy.TIER_SHED:
            least = settings.tier_shed_min_priority
            return TierShed(
                threshold=settings.tier_shed_threshold or 0,
                min_priority=_SHED_MIN_PRIORITY if least is None else least,
                priorities=SLO_PRIORITIES | (settings.slo_priorities or {}),
            )
