"""What the figures of a report are called, and how each is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from blis_sim.metrics.definitions import LATENCIES, METRICS
from blis_sim.report.number_words import Writer, bare_percent, milliseconds, number, usd

TOKENS_PER_S_PER_USER = "tokens_per_s_per_user"
USD_PER_HOUR = "usd_per_hour"
TOKENS_PER_S_PER_GPU = "output_throughput_per_gpu"
USD_PER_MILLION = "usd_per_million_output_tokens"
GOODPUT_FRAC = "goodput_frac"

_STATISTIC = re.compile(r"(?P<what>mean|median|std|p\d+(?:\.\d+)?)_(?P<tag>\w+)_ms")
_LATENCIES = {latency.tag: latency for latency in LATENCIES}
_SHORT_TAGS = {"e2el": "E2E", "scheduling_delay": "scheduling delay", "queue": "queue time"}
_METRICS = {metric.tag: metric for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Named:
    """A figure, its unit and its definition.

    Attributes
    ----------
    key : str
        Of `Result.summary`, or one of the derived figures of this module.
    header : str
        What it is called in a table or on an axis.
    unit : str
        Unit, empty for a plain number.
    formula : str
        Definition, for people; empty = it is well known.
    write : callable
        Gives the number as text, without the unit where the header has it.
    """

    key: str
    header: str
    unit: str
    formula: str = ""
    write: Writer = number

    @property
    def title(self) -> str:
        """Header with the unit: ``p99 TTFT (ms)``."""
        return f"{self.header} ({self.unit})" if self.unit else self.header


_OWN = (
    Named("output_throughput", "output", "tok/s"),
    Named(TOKENS_PER_S_PER_GPU, "per GPU", "tok/s"),
    Named("request_throughput", "served", "req/s"),
    Named("request_goodput", "goodput", "req/s"),
    Named(USD_PER_MILLION, "cost", "$/M output tok"),
    Named(
        TOKENS_PER_S_PER_USER,
        "per user",
        "tok/s",
        "1000 / mean TPOT in ms: how fast one answer is written",
    ),
    Named(USD_PER_HOUR, "cost", "$/h", "cost_usd / duration"),
    Named(
        GOODPUT_FRAC,
        "goodput",
        "%",
        "request_goodput / request_throughput",
        bare_percent,
    ),
    Named("request_goodput_per_gpu", "goodput per GPU", "req/s", "request_goodput / mean_gpus"),
    Named("request_rate_per_gpu", "highest rate per GPU", "req/s", "highest rate / GPUs"),
    Named("requests_per_usd", "requests", "per USD", "highest rate / price of all GPUs"),
    Named(
        "gpu_hours_per_million_output_tokens",
        "GPU-hours",
        "per M output tok",
        "gpu_hours / tokens generated * 1e6",
    ),
    Named("mean_gpus", "GPUs", ""),
    Named("kv_usage_mean_frac", "KV use, mean", "%", write=bare_percent),
    Named("kv_usage_peak_frac", "KV use, peak", "%", write=bare_percent),
    Named("prefix_hit_rate", "prefix hits", "%", write=bare_percent),
    Named("gpu_busy_frac", "GPU busy", "%", write=bare_percent),
    Named("num_preemptions", "preemptions", ""),
    Named("mean_waiting_requests", "waiting, mean", "requests"),
    Named("num_prompts", "requests", ""),
)
_BY_KEY = {named.key: named for named in _OWN}


def named(key: str) -> Named:
    """Return how a figure is called; one that is not known is called by its key."""
    own = _BY_KEY.get(key)
    metric = _METRICS.get(key)
    if own is not None:
        formula = own.formula or (metric.formula if metric is not None else "")
        return Named(key, own.header, own.unit, formula, own.write)
    found = _STATISTIC.fullmatch(key)
    if found is not None and found["tag"] in _LATENCIES:
        tag = found["tag"]
        short = _SHORT_TAGS.get(tag, tag.upper() if len(tag) <= 4 else tag)
        formula = f"{found['what']} of: {_LATENCIES[tag].formula}"
        return Named(key, f"{found['what']} {short}", "ms", formula)
    if metric is not None:
        is_fraction = metric.unit == "fraction"
        header = metric.header.partition(" (")[0]
        unit = "%" if is_fraction else metric.unit
        write = bare_percent if is_fraction else number
        return Named(key, header, unit, metric.formula, write)
    return Named(key, key.replace("_", " "), "")


def declared(key: str) -> Named:
    """Return a figure with the name of its declaration, where nothing beside it explains it."""
    short, metric = named(key), _METRICS.get(key)
    if metric is None or not short.unit:
        return short
    header = metric.header.rpartition(" (")[0] or metric.header
    return Named(key, header, short.unit, short.formula, short.write)


def figure(key: str, value: float | None) -> str:
    """Return a figure with its name and unit as in a sentence: ``p99 TTFT 56.6 ms``."""
    known = named(key)
    if key.endswith("_ms"):
        return f"{known.header} {milliseconds(value)}"
    if key == USD_PER_MILLION:
        return f"{usd(value)} per million output tokens"
    if key == USD_PER_HOUR:
        return f"{usd(value)} per hour"
    unit = f" {known.unit}" if known.unit else ""
    return f"{known.header} {known.write(value)}{unit}"
