"""The figures of several simulations that differ in their seeds alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blis_sim.metrics.intervals import half_width_95

NOT_FIGURES = frozenset(
    {"date", "backend", "model_id", "request_rate", "burstiness", "max_concurrency"}
)
"""Of `Result.summary`: what was asked for, not measured."""
NOTE = (
    "figures outside of this object are those of the first seed; percentiles are means of each "
    "replication's own, never of their pooled requests"
)

Number = int | float | None


@dataclass(frozen=True, slots=True)
class Replicated:
    """One figure of all replications.

    Attributes
    ----------
    values : tuple of number or None
        One for each replication, in the order of the seeds; None = it has no data.
    """

    values: tuple[Number, ...]

    @property
    def known(self) -> list[int | float]:
        """The values with data."""
        return [value for value in self.values if value is not None]

    @property
    def mean(self) -> float | None:
        """Mean of the values with data, None without any."""
        return statistics.fmean(self.known) if self.known else None

    @property
    def half_width_95(self) -> float | None:
        """Half the 95 % confidence interval of the mean (Student's t), None below two values."""
        return half_width_95(self.known)

    @property
    def is_constant(self) -> bool:
        """Whether all replications have the same value, or all have none."""
        return len(set(self.values)) == 1

    def scaled(self, factor: float) -> Replicated:
        """Return the figure in another unit."""
        return Replicated(tuple(None if v is None else factor * v for v in self.values))


@dataclass(frozen=True, slots=True)
class Replications:
    """The figures of all replications of a scenario.

    Attributes
    ----------
    seeds : tuple of int
        One for each, ascending.
    metrics : mapping of str to Replicated
        The numbers of `Result.summary`, by its keys.
    conservation : mapping of str to Replicated
        Those of `Result.conservation`.
    """

    seeds: tuple[int, ...]
    metrics: Mapping[str, Replicated]
    conservation: Mapping[str, Replicated]

    @property
    def is_random(self) -> bool:
        """Whether the seed matters: False = all replications have the same figures."""
        figures = (*self.metrics.values(), *self.conservation.values())
        return not all(each.is_constant for each in figures)

    def to_json_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "num": len(self.seeds),
            "seeds": list(self.seeds),
            "is_random": self.is_random,
            "note": NOTE,
            "metrics": {
                name: {
                    "mean": each.mean,
                    "half_width_95": each.half_width_95,
                    "values": list(each.values),
                }
                for name, each in self.metrics.items()
            },
        }


@dataclass(frozen=True, slots=True)
class SeedFigures:
    """The figures of one replication.

    Attributes
    ----------
    seed : int
        Its seed.
    summary, conservation : mapping of str to number or None
        As in `Result`.
    """

    seed: int
    summary: Mapping[str, Any]
    conservation: Mapping[str, int]


def combined(each: Sequence[SeedFigures]) -> Replications:
    """Return the figures of all replications together; there is at least one."""
    names = [name for name in each[0].summary if name not in NOT_FIGURES]
    return Replications(
        seeds=tuple(one.seed for one in each),
        metrics={name: Replicated(tuple(one.summary[name] for one in each)) for name in names},
        conservation={
            name: Replicated(tuple(one.conservation[name] for one in each))
            for name in each[0].conservation
        },
    )
