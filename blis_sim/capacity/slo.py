"""Service-level objectives: limits on the figures of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from blis_sim.errors import ConfigError, unknown_name

_LATENCIES = ("ttft", "tpot", "itl", "e2el")
_STATISTIC = re.compile(r"(?P<what>mean|median|p(?P<rank>\d+(\.\d+)?))_(?P<tag>\w+)_ms")
GOODPUT = "goodput_frac"
EXAMPLE = "p99_ttft_ms:500,p95_itl_ms:50"


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a service-level objective.

    Attributes
    ----------
    metric : str
        ``mean_ttft_ms``, ``p99_itl_ms``, ... of ttft, tpot, itl or e2el; or ``goodput_frac``,
        the share of requests within the limits of ``--goodput``.
    value : float
        At most so many milliseconds; of ``goodput_frac`` at least this share, in 0..1.
    """

    metric: str
    value: float

    @property
    def tag(self) -> str:
        """Which time is limited: ``ttft``, ...; empty for goodput."""
        found = _STATISTIC.fullmatch(self.metric)
        return found["tag"] if found else ""

    @property
    def rank(self) -> float | None:
        """Which percentile is limited, 0..100; None = the mean, or goodput."""
        found = _STATISTIC.fullmatch(self.metric)
        if found is None or found["what"] == "mean":
            return None
        return 50.0 if found["what"] == "median" else float(found["rank"])

    @property
    def is_goodput(self) -> bool:
        """Whether it limits the share of good requests."""
        return self.metric == GOODPUT

    def words(self) -> str:
        """Return the limit as people say it: ``p99 TTFT <= 500 ms``."""
        if self.is_goodput:
            return f"goodput >= {self.value:.4g} of requests"
        return f"{self.short()} <= {self.value:g} ms"

    def short(self) -> str:
        """Return what is limited: ``p99 TTFT``."""
        if self.is_goodput:
            return "goodput"
        what = self.metric.partition("_")[0]
        return f"{what} {'E2E' if self.tag == 'e2el' else self.tag.upper()}"

    def reached(self, value: float) -> str:
        """Return a figure beside its limit: ``p99 TTFT 120 of 500 ms``."""
        if self.is_goodput:
            return f"goodput {100 * value:.4g} % (at least {100 * self.value:.4g} %)"
        return f"{self.short()} {value:,.4g} of {self.value:g} ms"


def parse_slo(text: str, where: str = "--slo") -> tuple[Limit, ...]:
    """Return the limits that ``p99_ttft_ms:500,p95_itl_ms:50`` sets.

    ``e2e`` is understood as ``e2el``, ``goodput:99%`` and ``goodput_frac:0.99`` mean the same.

    Raises
    ------
    ConfigError
        It has another form, a metric is unknown or given twice, or a value is out of range.
    """
    limits: list[Limit] = []
    for part in text.split(","):
        metric, colon, value = (piece.strip() for piece in part.partition(":"))
        if not metric or not colon or not value:
            raise ConfigError(
                f"{where} must be metrics and limits with commas between them, such as "
                f"{EXAMPLE}; got {part.strip()!r}"
            )
        limit = _goodput(value, where) if "goodput" in metric else _time(metric, value, where)
        if any(limit.metric == other.metric for other in limits):
            raise ConfigError(f"{where} must limit a metric once; got {metric} twice")
        limits.append(limit)
    return tuple(limits)


def _goodput(value: str, where: str) -> Limit:
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ConfigError(
            f"{where} goodput must be a share of the requests above 0 and at most 1, or in "
            f"percent; got {value}; write goodput:99% or goodput:0.99"
        )
    return Limit(GOODPUT, share)


def _time(metric: str, value: str, where: str) -> Limit:
    name = metric.lower().replace("-", "_").replace("_e2e_", "_e2el_")
    found = _STATISTIC.fullmatch(name)
    if found is None or found["tag"] not in _LATENCIES:
        known = [f"{what}_{tag}_ms" for tag in _LATENCIES for what in ("mean", "p50", "p99")]
        raise ConfigError(unknown_name(f"{where} metric", metric, [*known, GOODPUT]))
    if found["rank"] is not None and not 0 < float(found["rank"]) < 100:
        example = f"p99_{found['tag']}_ms"
        raise ConfigError(
            f"{where} percentile must lie between 0 and 100; got {metric}; write {example}"
        )
    try:
        limit_ms = float(value)
    except ValueError:
        limit_ms = -1.0
    if not 0 < limit_ms < float("inf"):
        raise ConfigError(f"{where} {metric} must be above 0 ms; got {value}")
    return Limit(name, limit_ms)


def slo_words(limits: Sequence[Limit]) -> str:
    """Return all limits in words."""
    return ", ".join(limit.words() for limit in limits)
