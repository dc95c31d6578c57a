"""Length distributions and arrival processes of BLIS workload specs.

The formulas are those of sim/workload/distribution.go and arrival.go: lengths are rounded and
at least 1; a gamma process of shape k has the coefficient of variation 1 / sqrt(k).
"""

from __future__ import annotations

import math
from typing import Any

from blis_sim.errors import ConfigError
from blis_sim.workload.importing.source import Source, plain

_TYPES = ("gaussian", "exponential", "pareto_lognormal", "lognormal", "constant", "empirical")
_PROCESSES = ("poisson", "constant", "gamma", "weibull")


def convert_distribution(parent: Source, key: str) -> dict[str, Any]:
    """Return the length setting for the distribution at ``key``.

    Raises
    ------
    ConfigError
        It is missing, of an unknown type, or its parameters are not those of its type.
    """
    dist = parent.section(key)
    if dist is None:
        raise parent.error(key, "be given")
    kind = dist.choice("type", _TYPES)
    dist.refuse("file", "BLIS does not read it either", "write the lengths under params")
    params = dist.section("params") or Source({}, dist.file, {}, (*dist.path, "params"))
    dist.finish()
    if kind == "empirical":
        return _empirical(params)
    length = _parametric(kind, params)
    params.finish()
    return length


def _parametric(kind: str, params: Source) -> dict[str, Any]:
    if kind == "constant":
        return {"kind": "constant", "mean": max(1, int(params.number("value", 0) or 0))}
    if kind == "exponential":
        return {"kind": "exponential", "mean": plain(params.need_number("mean", above=0))}
    if kind == "gaussian":
        return _gaussian(params)
    length: dict[str, Any] = {
        "kind": kind,
        "mu": plain(params.need_number("mu")),
        "sigma": plain(_at_least_0(params, "sigma")),
    }
    if kind == "pareto_lognormal":
        share = params.need_number("mix_weight")
        length["pareto_alpha"] = plain(params.need_number("alpha", above=0))
        length["pareto_min"] = plain(params.need_number("xm", above=0))
        length["pareto_share"] = plain(min(max(share, 0.0), 1.0))
    for bound in ("min", "max"):
        value = params.whole(bound)
        if value is not None:
            length[bound] = max(1, value)
    return length


def _gaussian(params: Source) -> dict[str, Any]:
    mean, stdev = params.need_number("mean"), _at_least_0(params, "std_dev")
    low, high = (max(1, int(params.need_number(bound))) for bound in ("min", "max"))
    if low > high:
        raise params.error("min", f"be <= max ({high} tokens)")
    if low == high:
        return {"kind": "constant", "mean": low}
    if not low <= mean <= high:
        raise params.error("mean", f"be between min and max ({low} and {high} tokens)")
    return {"kind": "normal", "mean": plain(mean), "stdev": plain(stdev), "min": low, "max": high}


def _empirical(params: Source) -> dict[str, Any]:
    shares: dict[int, float] = {}
    for key in params.values:
        try:
            tokens = int(str(key))
        except ValueError:
            raise ConfigError(
                f"{params.where()} must have numbers of tokens as keys; got {key!r}"
            ) from None
        share = Source({str(key): params.values[key]}, params.file, {}, params.path).number(
            str(key), at_least=0
        )
        if share:
            shares[max(1, tokens)] = shares.get(max(1, tokens), 0.0) + share
    if not shares:
        raise ConfigError(
            f"{params.where()} must have at least one length with a share > 0; got none"
        )
    values = sorted(shares)
    return {"kind": "empirical", "values": values, "weights": [shares[v] for v in values]}


def _at_least_0(params: Source, key: str) -> float:
    if not params.has(key):
        raise params.error(key, "be given")
    return params.number(key, at_least=0) or 0.0


def convert_arrival(parent: Source, key: str, notices: list[str]) -> dict[str, Any]:
    """Return the arrivals setting for the arrival section at ``key``.

    Raises
    ------
    ConfigError
        It is missing, or its process or figures are out of range.
    """
    arrival = parent.section(key)
    if arrival is None:
        raise parent.error(key, "be given")
    process = arrival.choice("process", _PROCESSES)
    cv = arrival.number("cv", above=0)
    shape = arrival.number("shape", above=0)
    scale = arrival.number("scale", above=0)
    arrival.finish()
    if process in {"poisson", "constant"}:
        if cv is not None or shape is not None:
            notices.append(f"{arrival.name()}: cv and shape left out; {process} has none")
        return {"process": process}
    if shape is not None:
        cv = 1 / math.sqrt(shape) if process == "gamma" else weibull_cv(shape)
        text = "" if scale is None else "; scale left out, the mean gap is 1 / rate"
        notices.append(f"{arrival.name()}: shape {shape:g} is the cv {cv:.4g}{text}")
    return {"process": process, "cv": plain(1.0 if cv is None else round(cv, 9))}


def weibull_cv(shape: float) -> float:
    """Return the coefficient of variation of a Weibull distribution.

    CV^2 = Gamma(1 + 2/k) / Gamma(1 + 1/k)^2 - 1 for shape k > 0.
    """
    log_ratio = math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)
    return math.sqrt(math.expm1(log_ratio))
