"""Length distributions of inference-perf (inference_perf/config/common.py: Distribution)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from blis_sim.workload.importing.source import Source, plain

_KINDS = ("normal", "skew_normal", "lognormal", "uniform", "poisson", "fixed")
_DEFAULTS = {"min": 10, "max": 1024, "mean": 512, "std_dev": 200}


def convert_lengths(
    parent: Source, key: str, notices: list[str], *, default: int | None = None
) -> int | dict[str, Any]:
    """Return a length setting for a number of tokens or a distribution at ``key``.

    Raises
    ------
    ConfigError
        The distribution is unknown, contradicts itself or cannot be expressed.
    """
    if not isinstance(parent.values.get(key), Mapping):
        number = parent.whole(key, default)
        if number is None:
            raise parent.error(key, "be a number of tokens or a distribution")
        return number
    dist = parent.section(key)
    if dist is None:  # a mapping: it is there
        raise AssertionError(key)
    name = "distribution" if dist.has("distribution") else "type"
    kind = dist.choice(name, _KINDS, "normal")
    low = dist.whole("min", _DEFAULTS["min"]) or 0
    high = dist.whole("max", _DEFAULTS["max"]) or 0
    mean = dist.number("mean", _DEFAULTS["mean"], at_least=0, unit="tokens") or 0.0
    stdev = _stdev(dist, notices)
    if dist.has("total_count"):
        dist.whole("total_count", at_least=1)
    skew = dist.number("skew", 0.0)
    dist.finish()
    if low > high:
        raise dist.error("min", f"be <= max ({high} tokens)")
    if kind == "skew_normal" and skew:
        raise dist.error(
            name, "be normal, lognormal, uniform, poisson or fixed", "a skew cannot be expressed"
        )
    bounds = {"min": max(low, 1), "max": max(high, 1)}
    return _length(dist, kind, mean, stdev, bounds, notices)


def _length(
    dist: Source,
    kind: str,
    mean: float,
    stdev: float,
    bounds: dict[str, int],
    notices: list[str],
) -> int | dict[str, Any]:
    if bounds["min"] == bounds["max"]:
        return bounds["min"]
    if kind == "fixed" or (stdev == 0 and kind in {"normal", "skew_normal", "lognormal"}):
        return min(max(round(mean), bounds["min"]), bounds["max"])
    if kind == "uniform":
        return {"kind": "uniform", **bounds}
    if not bounds["min"] <= mean <= bounds["max"]:
        raise dist.error("mean", f"be between {bounds['min']} and {bounds['max']} tokens")
    if kind == "poisson":
        notices.append(f"{dist.name()}: a normal distribution in place of the Poisson one")
        stdev = math.sqrt(mean)
    if kind == "lognormal":
        return {"kind": "lognormal", "mean": plain(mean), "stdev": plain(stdev), **bounds}
    return {"kind": "normal", "mean": plain(mean), "stdev": plain(stdev), **bounds}


def _stdev(dist: Source, notices: list[str]) -> float:
    variance = dist.number("variance", at_least=0)
    spread = dist.number("std_dev", at_least=0, unit="tokens")
    short = dist.number("std", at_least=0, unit="tokens")
    if short is not None:
        # Its documentation says std, its schema std_dev; the unknown name was once ignored.
        if spread is not None and spread != short:
            raise dist.error("std", "agree with std_dev, which means the same", "leave one out")
        notices.append(f"{dist.name('std')}: read as std_dev, which is its name in the schema")
        spread = short
    if variance is not None:
        if spread:
            raise dist.error("variance", "not be given beside std_dev", "leave one out")
        return math.sqrt(variance)
    return float(_DEFAULTS["std_dev"] if spread is None else spread)
