"""What a metric is: facts about it, and one pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np

from blis_sim.metrics.measured import Measured
from blis_sim.metrics.percentiles import Distribution, rank_word
from blis_sim.units import US_PER_MS

STANDARD_PERCENTILES = (50.0, 90.0, 95.0, 99.0)


class Group(StrEnum):
    """Where a metric stands in the JSON report."""

    SERVING = "serving"
    """At the top level, under vLLM's key where vLLM has one."""
    KV_CACHE = "kv_cache"
    ENGINE = "engine"
    CLUSTER = "cluster"


class Scope(IntEnum):
    """The smallest part of a run of which a metric can be told."""

    RUN = 0
    POOL = 1
    INSTANCE = 2
    REQUESTS = 3
    """Any of the requests: those of a class, of a tenant, of an instance."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a run.

    Attributes
    ----------
    tag : str
        Key in the summary and in JSON.
    header : str
        Label in tables.
    unit : str
        Unit of the value; a ``fraction`` lies in 0..1 and is shown in percent.
    formula : str
        Definition, for people.
    compute : callable
        Pure function of a :class:`Measured`; None = no data.
    group : Group
        Where it stands in JSON.
    scope : Scope
        Of which parts of a run it can be told.
    """

    tag: str
    header: str
    unit: str
    formula: str
    compute: Callable[[Measured], float | None]
    group: Group = Group.SERVING
    scope: Scope = Scope.RUN

    def value(self, measured: Measured) -> int | float | None:
        """Return the number as a plain Python one, None without data."""
        raw = self.compute(measured)
        return raw.item() if isinstance(raw, np.generic) else raw


@dataclass(frozen=True, slots=True)
class LatencyMetric:
    """A time of which mean, median, standard deviation and percentiles are reported.

    Attributes
    ----------
    tag : str
        Part of the keys: ``mean_<tag>_ms``, ``p99_<tag>_ms``.
    header : str
        Short label in tables.
    title : str
        Heading of its section in tables.
    formula : str
        Definition, for people.
    compute : callable
        Pure function of a :class:`Measured` giving microseconds; None = no data.
    group : Group
        Where it stands in JSON.
    scope : Scope
        Of which parts of a run it can be told.
    """

    tag: str
    header: str
    title: str
    formula: str
    compute: Callable[[Measured], Distribution | None]
    group: Group = Group.SERVING
    scope: Scope = Scope.REQUESTS

    def statistics(self, measured: Measured, ranks: tuple[float, ...]) -> dict[str, float | None]:
        """Return mean, median, std and the percentiles at ``ranks``, in ms, by their keys.

        Every key is present; all are None when there is no data.
        """
        sample = self.compute(measured)
        keys = [f"{name}_{self.tag}_ms" for name in ("mean", "median", "std")]
        keys += [f"p{rank_word(rank)}_{self.tag}_ms" for rank in ranks]
        if sample is None:
            return dict.fromkeys(keys)
        median, *rest = sample.percentiles((50.0, *ranks))
        values = [sample.mean(), median, sample.std(), *rest]
        return {key: value / US_PER_MS for key, value in zip(keys, values, strict=True)}
