"""How well the latencies of a run are known: its kind of deployment among those measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from blis_sim.catalog.error_bands import ALL_GPUS, ErrorBand, Range
from blis_sim.metrics.context import DeployedKind
from blis_sim.metrics.records import RequestColumns, Status

SLACK_FRAC = 0.25
"""Tokens, parameters and requests in flight so far beyond the ends still count as inside."""
_SHOWN = (("ttft_mean", "TTFT"), ("tpot_mean", "TPOT"), ("e2e_mean", "E2E"))
_FEW_SERVERS = 3


class AccuracyStatus(StrEnum):
    """What the error of the latencies rests on."""

    VALIDATED = "validated"
    """Deployments and loads like this one were measured."""
    EXTRAPOLATED = "extrapolated"
    """Others were; what lies outside is named."""
    NOT_VALIDATED = "not validated"
    """The latency model was not compared with measured servers."""


@dataclass(frozen=True, slots=True)
class ServedLoad:
    """What the instances of a run had to do.

    Attributes
    ----------
    prompt_tokens, output_tokens : float
        Means over the completed requests.
    requests_in_flight : float
        Mean per instance, by Little's law: their E2E summed up, over the time from the first
        arrival to the last token.
    num_instances : float
        Mean over the run.
    """

    prompt_tokens: float
    output_tokens: float
    requests_in_flight: float
    num_instances: float


def served_load(
    columns: RequestColumns, chosen: npt.NDArray[np.bool_] | None, num_instances: float
) -> ServedLoad | None:
    """Return what the instances had to do for the chosen requests; None = none was completed.

    Parameters
    ----------
    columns : RequestColumns
        All requests.
    chosen : bool array or None
        Which of them count; None = all.
    num_instances : float
        Instances that shared the load, > 0.
    """
    done = (columns.status == Status.COMPLETED) & (columns.output_tokens >= 1)
    if chosen is not None:
        done &= chosen
    if not done.any():
        return None
    arrival_us, last_us = columns.arrival_us[done], columns.last_token_us[done]
    span_us = max(int(last_us.max() - arrival_us.min()), 1)
    return ServedLoad(
        prompt_tokens=float(columns.prompt_tokens[done].mean()),
        output_tokens=float(columns.output_tokens[done].mean()),
        requests_in_flight=float((last_us - arrival_us).sum()) / span_us / num_instances,
        num_instances=num_instances,
    )


def facts_of(kind: DeployedKind, load: ServedLoad) -> dict[str, float]:
    """Return the numbers that are compared with `ErrorBand.ranges`, by the same names."""
    return {
        "tensor_parallel_size": kind.tensor_parallel_size,
        "num_instances": round(load.num_instances, 2),
        "billion_parameters": kind.num_parameters / 1e9,
        "prompt_tokens": load.prompt_tokens,
        "output_tokens": load.output_tokens,
        "requests_in_flight": load.requests_in_flight,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What is known of the errors of a run's latencies.

    Attributes
    ----------
    status : AccuracyStatus
        What it rests on.
    kind : DeployedKind
        The deployment; of several kinds of instances, the one with the largest errors.
    outside : tuple of str
        What lies outside of what was measured, in words; empty when nothing does.
    band : ErrorBand or None
        The errors; None = nothing like it was measured.
    facts : mapping of str to float
        The run's own numbers, by the names of the ranges.
    """

    status: AccuracyStatus
    kind: DeployedKind
    outside: tuple[str, ...] = ()
    band: ErrorBand | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All of it in a sentence, with mean errors without their signs."""
        if self.band is None:
            return (
                f"{self.status}: {self.kind.latency_model} was not compared with measured servers"
            )
        errors = ", ".join(
            f"{word} ±{self.band.errors[name].mape_pct:.0f} %"
            for name, word in _SHOWN
            if name in self.band.errors
        )
        known = f"{errors} (mean errors; {_servers(self.band)})"
        if self.status is AccuracyStatus.VALIDATED:
            return f"{self.status}: {known}"
        return f"{self.status}: {'; '.join(self.outside)}; where measured: {known}"

    def to_json_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        band = self.band
        return {
            "status": self.status.value,
            "text": self.text,
            "outside": list(self.outside),
            "latency_model": self.kind.latency_model,
            "facts": dict(self.facts),
            "band": None
            if band is None
            else {
                "gpu": band.gpu,
                "architecture": band.architecture,
                "num_deployments": band.num_deployments,
                "num_experiments": band.num_experiments,
                "source": band.source,
                "quantizations": list(band.quantizations),
                "kv_cache_dtypes": list(band.kv_cache_dtypes),
                "errors": {name: asdict(each) for name, each in band.errors.items()},
                "ranges": {name: asdict(each) for name, each in band.ranges.items()},
            },
        }


def _servers(band: ErrorBand) -> str:
    """Return ``7 H100 servers, dense``: distinct by model, GPU and tensor parallel size."""
    number = band.num_deployments
    gpu = "" if band.gpu == ALL_GPUS else f"{band.gpu} "
    only = " only" if number < _FEW_SERVERS else ""
    of_all = ", all GPUs" if band.gpu == ALL_GPUS else ""
    plural = "" if number == 1 else "s"
    return f"{number} {gpu}server{plural}{only}{of_all}, {_WORDS[band.architecture]}"


_WORDS = {"dense": "dense", "moe": "MoE"}


def accuracy_of(
    kinds: Sequence[DeployedKind], load: ServedLoad | None, bands: Sequence[ErrorBand]
) -> Accuracy | None:
    """Return what is known of the latencies of a run; None = it served nothing.

    Parameters
    ----------
    kinds : sequence of DeployedKind
        The distinct kinds of its instances.
    load : ServedLoad or None
        What they had to do.
    bands : sequence of ErrorBand
        What was measured.
    """
    if load is None or not kinds:
        return None
    each = [_accuracy(kind, load, bands) for kind in kinds]
    worst = max(each, key=_weight)
    others = tuple(words for one in each for words in one.outside)
    if len(kinds) > 1:
        others = (*others, "no instances of several kinds measured together")
    if worst.band is None or not others:
        return worst
    return Accuracy(
        status=AccuracyStatus.EXTRAPOLATED,
        kind=worst.kind,
        outside=tuple(dict.fromkeys(others)),
        band=worst.band,
        facts=worst.facts,
    )


def _weight(one: Accuracy) -> float:
    """Return how bad it is: nothing known comes first, then the largest error."""
    if one.band is None:
        return np.inf
    return max((errors.mape_pct for errors in one.band.errors.values()), default=0.0)


def _accuracy(kind: DeployedKind, load: ServedLoad, bands: Sequence[ErrorBand]) -> Accuracy:
    facts = facts_of(kind, load)
    own = [band for band in bands if band.latency_model == kind.latency_model]
    band = _nearest(kind, own)
    if band is None:
        return Accuracy(status=AccuracyStatus.NOT_VALIDATED, kind=kind, facts=facts)
    outside = tuple(_outside(kind, facts, band, own))
    return Accuracy(
        status=AccuracyStatus.EXTRAPOLATED if outside else AccuracyStatus.VALIDATED,
        kind=kind,
        outside=outside,
        band=band,
        facts=facts,
    )


def _nearest(kind: DeployedKind, own: Sequence[ErrorBand]) -> ErrorBand | None:
    """Return the entry of a kind; else of all GPUs; else of the other architecture."""
    by_key = {(band.architecture, band.gpu): band for band in own}
    other = "moe" if kind.architecture == "dense" else "dense"
    wanted = [(arch, gpu) for arch in (kind.architecture, other) for gpu in (kind.gpu, ALL_GPUS)]
    return next((by_key[key] for key in wanted if key in by_key), None)


def _outside(
    kind: DeployedKind,
    facts: Mapping[str, float],
    band: ErrorBand,
    own: Sequence[ErrorBand],
) -> Iterator[str]:
    """Yield what of a run lies outside of what was measured for an entry, in words."""
    architecture = _WORDS[kind.architecture]
    if not any(each.gpu == kind.gpu for each in own):
        yield f"no {kind.gpu} server measured"
    elif band.gpu != kind.gpu or band.architecture != kind.architecture:
        yield f"no {architecture} model measured on {kind.gpu}"
    if band.architecture != kind.architecture and not any(
        each.architecture == kind.architecture for each in own
    ):
        yield f"no {architecture} model measured"
    if kind.quantization not in band.quantizations:
        yield f"no {kind.quantization} weights measured"
    if kind.kv_cache_dtype not in band.kv_cache_dtypes:
        yield f"no {kind.kv_cache_dtype} KV cache measured"
    for setting in kind.own_settings:
        yield f"latency.{setting} of your own"
    for name, words in _BEYOND.items():
        found = _beyond(facts[name], band.ranges[name], 0.0 if name in _EXACT else SLACK_FRAC)
        if found is not None:
            yield words.format(_number(facts[name])) + f" {found}"


_EXACT = {"tensor_parallel_size", "num_instances"}
_BEYOND = {
    "tensor_parallel_size": "TP {}",
    "num_instances": "{} instances",
    "billion_parameters": "{} billion parameters",
    "prompt_tokens": "prompts of {} tokens",
    "output_tokens": "answers of {} tokens",
    "requests_in_flight": "{} requests in flight",
}


def _beyond(value: float, measured: Range, slack_frac: float) -> str | None:
    if value > measured.highest * (1 + slack_frac):
        return f"above {_number(measured.highest)}"
    if value < measured.lowest / (1 + slack_frac):
        return f"below {_number(measured.lowest)}"
    return None


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
