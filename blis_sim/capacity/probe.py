"""One step of a search: what is asked, and what it showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SURE = 2.3
"""Standard errors between a figure and its limit from which on a verdict counts as sure."""
MOST_MARGIN = 12.0
"""Margins beyond this are so large that their size says nothing about the distance."""


class Verdict(StrEnum):
    """What a probe showed."""

    KEPT = "kept"
    """All limits are kept, each by more than `SURE` standard errors."""
    MISSED = "missed"
    """A limit is missed by more than that, or the queue grows without end."""
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Probe:
    """What the search wants to know.

    Attributes
    ----------
    rate : float
        Requests per second, > 0.
    num_requests : int
        Requests to simulate, >= 1.
    """

    rate: float
    num_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a probe showed.

    Attributes
    ----------
    probe : Probe
        Where.
    margins : mapping of str to float
        Of each limited metric: how far on the right side, in standard errors.
    ratios : mapping of str to float
        Of each limited metric: value / limit, above 1 = missed; of a share, what is beyond /
        what may be.
    values : mapping of str to float or None
        Of each limited metric: the figure itself.
    is_saturated : bool
        Whether the queue grew without end.
    """

    probe: Probe
    margins: Mapping[str, float] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float | None] = field(default_factory=dict)
    is_saturated: bool = False

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        if self.is_saturated or any(margin <= -SURE for margin in self.margins.values()):
            return Verdict.MISSED
        if all(margin >= SURE for margin in self.margins.values()):
            return Verdict.KEPT
        return Verdict.UNCLEAR

    @property
    def worst(self) -> str:
        """The limit with the least margin; empty without limits."""
        return min(self.margins, key=lambda name: self.margins[name], default="")

    @property
    def ratio(self) -> float:
        """The largest value / limit, 0 without limits."""
        return max(self.ratios.values(), default=0.0)

    @property
    def margin(self) -> float:
        """The least margin, within what says something about the distance."""
        least = min(self.margins.values(), default=MOST_MARGIN)
        least = -MOST_MARGIN if self.is_saturated else least
        return min(max(least, -MOST_MARGIN), MOST_MARGIN)

    def clipped(self, metric: str) -> float:
        """Return a metric's margin within what says something about the distance."""
        return min(max(self.margins[metric], -MOST_MARGIN), MOST_MARGIN)

    @property
    def seems_kept(self) -> bool:
        """Whether the figures themselves keep the limits, sure or not."""
        return not self.is_saturated and all(margin >= 0 for margin in self.margins.values())
