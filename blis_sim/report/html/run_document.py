"""A result as its page needs it: from memory, or from a file that ``blis run`` wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blis_sim.errors import ConfigError
from blis_sim.report.html.answer import mapping, records
from blis_sim.report.number_words import as_float
from blis_sim.report.plots.distributions import RANKS, result_quantiles
from blis_sim.report.plots.over_time import OverTimePlot, over_time_plot

if TYPE_CHECKING:
    from blis_sim.metrics.result import Result

_BLOCKS = ("kv_cache", "engine", "cluster")
_BLIS = {
    "completed_requests": "completed",
    "injected_requests": "num_prompts",
    "total_input_tokens": "total_input_tokens",
    "total_output_tokens": "total_output_tokens",
    "vllm_estimated_duration_s": "duration",
    "responses_per_sec": "request_throughput",
    "tokens_per_sec": "output_throughput",
    "preemption_count": "num_preemptions",
}
_BLIS_LATENCIES = {
    "e2e": "e2el",
    "ttft": "ttft",
    "itl": "itl",
    "scheduling_delay": "scheduling_delay",
}
_BLIS_REQUEST = {"ttft": "ttft_ms", "tpot": "itl_ms", "e2el": "e2e_ms"}
_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDocument:
    """A result, whatever it was read from.

    Attributes
    ----------
    place : str
        What it was read from.
    summary : mapping
        All figures, flat: the keys of `Result.summary`.
    manifest, run_info, conservation : mapping
        As in `Result`; empty where the file has none.
    per_class, per_tenant, per_pool, per_instance : mapping of str to mapping
        Figures of the parts of a run by their names.
    quantiles : mapping of str to list of float
        As in `Outcome`.
    over_time : OverTimePlot or None
    roofline : mapping
        As in the JSON; empty where steps were not counted.
    load : str
        The load in words, where it is known.
    notices : tuple of str
        What the layout of the file cannot hold.
    """

    place: str
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    run_info: Mapping[str, Any] = field(default_factory=dict)
    conservation: Mapping[str, Any] = field(default_factory=dict)
    per_class: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    per_tenant: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    per_pool: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    per_instance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    quantiles: Mapping[str, Sequence[float]] = field(default_factory=dict)
    over_time: OverTimePlot | None = None
    roofline: Mapping[str, Any] = field(default_factory=dict)
    load: str = ""
    notices: tuple[str, ...] = ()

    def figure(self, key: str) -> float | None:
        """Return a figure, None without data."""
        return as_float(self.summary.get(key))


def document_of(result: Result, place: str, load: str = "") -> RunDocument:
    """Return a result that is in memory.

    Parameters
    ----------
    result : Result
    place : str
        What to call it.
    load : str
        The load in words.
    """
    return _ours(
        result.to_json_dict(),
        place,
        quantiles=result_quantiles(result),
        over_time=over_time_plot(result.run),
        load=load,
    )


def read_document(path: Path) -> RunDocument:
    """Return the result in a JSON file of ``blis run``.

    Raises
    ------
    ConfigError
        The file cannot be read, is damaged, or is something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"SOURCE must be a readable file; got {path}: {reason}") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"SOURCE must be a result store or the JSON of blis run; got {path}: {reason}; "
            "write it again with --json"
        ) from None
    try:
        if isinstance(values, Mapping) and "manifest" in values and "completed" in values:
            return _ours(values, path.name, quantiles=_detailed(values))
        if isinstance(values, Mapping) and "completed_requests" in values:
            return _of_blis(values, path.name)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"SOURCE must be a whole result; got {path}, damaged: {error}; write it again with "
            "blis run --json"
        ) from error
    raise ConfigError(
        f"SOURCE must be a result of blis run, or a result store; got {path}, which has no "
        "manifest; files of --json, --save-result and --results-path can be read"
    )


def _ours(
    values: Mapping[str, Any],
    place: str,
    *,
    quantiles: Mapping[str, Sequence[float]],
    over_time: OverTimePlot | None = None,
    load: str = "",
) -> RunDocument:
    figures = {key: value for key, value in values.items() if _is_plain(value)}
    for block in _BLOCKS:
        inner = mapping(values.get(block))
        figures |= {key: value for key, value in inner.items() if _is_plain(value)}
    instances = records(values.get("per_instance"))
    return RunDocument(
        place=place,
        summary=figures,
        manifest=mapping(values.get("manifest")),
        run_info=mapping(values.get("run_info")),
        conservation=mapping(values.get("conservation")),
        per_class=_parts(values.get("per_class")),
        per_tenant=_parts(values.get("per_tenant")),
        per_pool=_parts(values.get("per_pool")),
        per_instance={str(each.get("instance", n)): each for n, each in enumerate(instances)},
        quantiles=quantiles,
        over_time=over_time,
        roofline=mapping(values.get("roofline")),
        load=load,
        notices=tuple(_notices(values)),
    )


def _notices(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield how well the figures are known."""
    several = mapping(values.get("replications"))
    if several.get("is_random"):
        yield (
            f"the figures are those of seed {several['seeds'][0]}, the first of {several['num']}; "
            "their means and intervals are in the table and the JSON of blis run"
        )
    yield from map(str, mapping(values.get("roofline")).get("notes") or ())
    text = mapping(values.get("accuracy")).get("text")
    if text:
        yield f"accuracy, {text}"


def _parts(value: Any) -> dict[str, Mapping[str, Any]]:
    return {name: mapping(each) for name, each in mapping(value).items()}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _detailed(values: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the distribution that per-request arrays tell: that of TTFT."""
    ttfts, errors = values.get("ttfts"), values.get("errors")
    if not isinstance(ttfts, list) or not isinstance(errors, list):
        return {}
    done = [ttft for ttft, error in zip(ttfts, errors, strict=True) if not error]
    return _percentiles({"ttft": [_MS_PER_S * ttft for ttft in done if ttft is not None]})


def _percentiles(samples: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {
        tag: np.percentile(np.array(sample, dtype=np.float64), RANKS).tolist()
        for tag, sample in samples.items()
        if len(sample)
    }


def _of_blis(values: Mapping[str, Any], place: str) -> RunDocument:
    """Return a file in the layout of BLIS."""
    figures = {ours: values.get(theirs) for theirs, ours in _BLIS.items()}
    for theirs, ours in _BLIS_LATENCIES.items():
        for statistic in ("mean", "p90", "p95", "p99"):
            figures[f"{statistic}_{ours}_ms"] = values.get(f"{theirs}_{statistic}_ms")
    requests = records(values.get("requests"))
    samples = {
        tag: [v for each in requests if (v := as_float(each.get(key))) is not None]
        for tag, key in _BLIS_REQUEST.items()
    }
    tpots = samples["tpot"]
    if tpots:
        figures["mean_tpot_ms"] = math.fsum(tpots) / len(tpots)
        figures["p99_tpot_ms"] = float(np.percentile(tpots, 99))
    return RunDocument(
        place=place,
        summary=figures,
        quantiles=_percentiles(samples),
        notices=(
            "the layout of BLIS does not say what was simulated, nor with which data and at what "
            "cost; blis run --json does",
        ),
    )
