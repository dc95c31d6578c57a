"""``blis sweep`` as a table: a line per combination of settings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from blis_sim.capacity.sweep import sweep_answer
from blis_sim.errors import ConfigError, unknown_name
from blis_sim.metrics.definitions import LATENCIES, metric_definitions
from blis_sim.report.text_columns import text_columns

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Label
    from blis_sim.capacity.sweep import SweepRow

DEFAULT_METRICS = (
    *("mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p95_itl_ms", "mean_e2el_ms"),
    *("output_throughput", "output_throughput_per_gpu", "usd_per_million_output_tokens"),
)
_SHORT = {
    "output_throughput": "tok/s",
    "output_throughput_per_gpu": "tok/s/GPU",
    "usd_per_million_output_tokens": "$/M tok",
    "request_throughput": "req/s",
    "request_goodput": "good/s",
}
_WIDTH = 110
_MOST_ROWS = 200


def check_metrics(text: str) -> tuple[str, ...]:
    """Return the metrics of ``--metrics``, the usual ones when it is empty.

    Raises
    ------
    ConfigError
        A metric is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    statistics = ("mean", "median", "std", "p50", "p90", "p95", "p99")
    times = [f"{what}_{each.tag}_ms" for each in LATENCIES for what in statistics]
    known = [*times, *metric_definitions()]
    for name in names:
        if name not in known:
            raise ConfigError(unknown_name("--metrics", name, known))
    return tuple(dict.fromkeys(names)) or DEFAULT_METRICS


def render_sweep(
    rows: Sequence[SweepRow],
    limits: Sequence[Limit] = (),
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> str:
    """Return the table, the reasons of what could not be simulated, and the answer.

    With replications a figure is the mean, and below the table stands how wide the 95 %
    intervals are at most.
    """
    shown = [each for each in metrics if any(row.values(each) for row in rows)] or list(metrics)
    paths = list(dict.fromkeys(path for row in rows for path in row.labels))
    header = [_column(path, paths) for path in paths]
    header += [_SHORT.get(each, _words(each)) for each in shown]
    if limits:
        header.append("SLO")
    body = [
        [*(_label(row.labels.get(path)) for path in paths)]
        + [_number(row.mean(each)) for each in shown]
        + ([("yes" if row.meets(limits) else "no") if row.is_done else "-"] if limits else [])
        for row in rows[:_MOST_ROWS]
    ]
    lines = text_columns([header, *body], left=range(len(paths)))
    rule = "-" * max(map(len, lines))
    lines = [rule, lines[0], rule, *lines[1:], rule]
    if len(rows) > _MOST_ROWS:
        lines.append(f"{len(rows) - _MOST_ROWS} more rows: --csv FILE has all")
    lines += _intervals(rows, shown)
    lines += _reasons(rows)
    lines += textwrap.wrap(sweep_answer(rows, limits)["sentence"], _WIDTH)
    return "\n".join(lines)


def _column(path: str, paths: Sequence[str]) -> str:
    """Return the last part of a path, the whole where another one ends so, too."""
    last = path.rpartition(".")[2]
    is_alone = sum(other.rpartition(".")[2] == last for other in paths) == 1
    return last if is_alone else path


def _words(metric: str) -> str:
    return metric.removesuffix("_ms").replace("_", " ").replace("e2el", "e2e")


def _label(value: Label) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def _intervals(rows: Sequence[SweepRow], shown: Sequence[str]) -> Iterator[str]:
    widest: dict[str, float] = {}
    for row in rows:
        for metric in shown:
            half, mean = row.half_width(metric), row.mean(metric)
            if half is not None and mean:
                widest[metric] = max(widest.get(metric, 0.0), half / mean)
    if widest:
        number = max(len(row.outcomes) for row in rows)
        parts = (f"{_SHORT.get(m, _words(m))} {100 * share:.1f} %" for m, share in widest.items())
        text = f"means of {number} runs; 95 % intervals are at most +- {', '.join(parts)}"
        yield from textwrap.wrap(text, _WIDTH)


def _reasons(rows: Sequence[SweepRow]) -> Iterator[str]:
    """Yield why rows have no figures, each reason once."""
    from blis_sim.capacity.sweep import words_of

    places: dict[str, list[str]] = {}
    for row in rows:
        if row.reason:
            places.setdefault(row.reason, []).append(words_of(row.labels))
    for reason, names in places.items():
        where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        yield from textwrap.wrap(f"not simulated: {where}: {reason}", _WIDTH)
