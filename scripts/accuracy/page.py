"""``docs/accuracy.md``: every figure of it comes from the condensed document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from accuracy.condense import IN_FLIGHT, MOST, NO_CONFIG, NOT_KNOWN
from accuracy.statistics import summaries
from accuracy.words import ENGINES, KNOWN, OPENING, REPRODUCE, SILICON, SOURCES, UNSIMULATED

Document = Mapping[str, Any]
Row = Mapping[str, Any]

FIGURES = {
    "ttft_mean_ms": "TTFT",
    "ttft_p99_ms": "TTFT p99",
    "tpot_mean_ms": "TPOT",
    "e2e_mean_ms": "E2E",
    "e2e_p99_ms": "E2E p99",
    "request_throughput": "requests/s",
}
AT_FIXED_LOAD = {
    "ttft_mean_ms": "TTFT",
    "tpot_mean_ms": "TPOT",
    "e2e_mean_ms": "E2E",
    "throughput": "throughput",
}
TIMES = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "e2e_ms": "E2E"}
GROUPINGS: Mapping[str, Callable[[Row], str]] = {
    "Model": lambda row: row["model"],
    "GPU": lambda row: row["gpu"],
    "Load": lambda row: row["load"] or "unnamed",
    "Requests in flight": lambda row: row["in_flight"],
}
ROLES = {
    "dev": "no figure was fitted to them",
    "calib": "the host model was fitted to them: their errors are no test",
}
NUM_WORST = 3
ABSENT = "-"


def page(document: Document) -> str:
    """Return the page."""
    lines = [
        "# Accuracy",
        "",
        *OPENING.format(version=document["blis_sim_version"]).strip().splitlines(),
        "",
        *_what(document),
        *_servers(document),
        *_each(document),
        *_requests(document),
        *_silicon(document),
        *_limits(document),
        *REPRODUCE.strip().splitlines(),
    ]
    return "\n".join(lines) + "\n"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _signed(value: float | None) -> str:
    return ABSENT if value is None else f"{value:+.1f}"


def _plain(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _size_and_bias(summary: Mapping[str, float] | None, *, has_median: bool = False) -> str:
    if summary is None:
        return ABSENT
    median = f" ({summary['median']:.1f})" if has_median else ""
    return f"{summary['mape']:.1f}{median}, {summary['bias']:+.1f}"


# -- what was compared ----------------------------------------------------


def _rows(document: Document) -> list[Row]:
    return [*document["shipped"], *document["others"]]


def _what(document: Document) -> Iterator[str]:
    yield "## What was compared"
    yield ""
    datasets: dict[str, list[Row]] = {}
    for row in _rows(document):
        datasets.setdefault(row["dataset"], []).append(row)
    table = []
    for name, rows in datasets.items():
        source, licence = SOURCES.get(name, ("a table that is not shipped", "not known"))
        done = sum("reason" not in row for row in rows)
        table.append([f"`{name}`", source, licence, str(len(rows)), str(done)])
    for engine, each in document["silicon"].items():
        source, licence = SOURCES["silicon_sample"]
        counts = [f"{each[name]:,}" for name in ("num_rows", "num_simulated")]
        table.append([f"silicon sample, {ENGINES[engine]}", source, licence, *counts])
    yield from _table(("rows of", "source", "licence", "published", "simulated"), table)


# -- servers under a rate of requests -------------------------------------


def _servers(document: Document) -> Iterator[str]:
    for role, words in ROLES.items():
        rows = [row for row in _rows(document) if row["role"] == role and "reason" not in row]
        if not rows:
            continue
        yield f"## Servers under a given rate: `{role}` rows"
        yield ""
        yield f"{len(rows)} rows, {words}. Each cell: mean of the errors without sign, bias; in %."
        yield ""
        names = [name for name in FIGURES if any(name in row["errors"] for row in rows)]
        table = [["**all**", str(len(rows)), *_cells(summaries(rows), names)]]
        for grouping, group_of in GROUPINGS.items():
            groups: dict[str, list[Row]] = {}
            for row in rows:
                groups.setdefault(group_of(row), []).append(row)
            table.append([f"*{grouping}*", *[""] * (len(names) + 1)])
            table += [
                [name, str(len(groups[name])), *_cells(summaries(groups[name]), names)]
                for name in sorted(groups, key=_order)
            ]
        yield from _table(("", "rows", *(FIGURES[name] for name in names)), table)


def _order(name: str) -> tuple[int, str]:
    """Return what sorts numbers of requests by size, and other groups by name."""
    sizes = [*(size for _, size in IN_FLIGHT), MOST, NOT_KNOWN]
    return (sizes.index(name) if name in sizes else 0, name)


def _cells(found: Mapping[str, Mapping[str, float]], names: Iterable[str]) -> list[str]:
    return [_size_and_bias(found.get(name)) for name in names]


def _each(document: Document) -> Iterator[str]:
    yield "## Every row"
    yield ""
    yield "Error in %, predicted over measured less 1. Figures of rows that may not be shipped are"
    yield "not shown; those of the others follow."
    yield ""
    rows = _rows(document)
    names = [name for name in FIGURES if any(name in row["errors"] for row in rows)]
    heading = ("row", "role", "server", "load", *(FIGURES[name] for name in names))
    yield from _table(heading, ([*_of_row(row), *_errors(row, names)] for row in rows))
    yield "Measured → predicted, ms and requests/s:"
    yield ""
    shown = document["shipped"]
    names = [name for name in FIGURES if any(name in row["measured_predicted"] for row in shown)]
    yield from _table(
        ("row", *(FIGURES[name] for name in names)),
        (
            [_of_row(row)[0], *(_pair(row["measured_predicted"].get(name)) for name in names)]
            for row in shown
        ),
    )


def _of_row(row: Row) -> list[str]:
    stage = "" if row["stage"] < 0 else f", stage {row['stage']}"
    server = f"{row['model']} on {row['gpu']} TP{row['tp']}"
    return [f"{row['dataset']} {row['exp_id']}{stage}", row["role"], server, row["load"]]


def _errors(row: Row, names: Iterable[str]) -> list[str]:
    if "reason" in row:
        return [f"not simulated: {row['reason']}", *[""] * (len(list(names)) - 1)]
    return [_signed(row["errors"].get(name)) for name in names]


def _pair(pair: Sequence[float | None] | None) -> str:
    return ABSENT if pair is None else f"{_plain(pair[0])} → {_plain(pair[1])}"


def _requests(document: Document) -> Iterator[str]:
    for each in document["requests"]:
        yield f"Requests one by one, `{each['file']}`:"
        yield f"{each['num_completed']} of {each['model']} on {each['gpu']}."
        yield ""
        yield from _table(
            (
                *("", "measured mean, ms", "predicted", "error %"),
                *("median error of a request, %", "Wasserstein distance, ms"),
            ),
            (
                [
                    TIMES[name],
                    _plain(times["measured"]),
                    _plain(times["predicted"]),
                    _signed(times["error_pct"]),
                    f"{times['median_abs_error_pct']:.1f}",
                    _plain(times["wasserstein_ms"]),
                ]
                for name, times in each["times"].items()
            ),
        )


# -- servers at fixed concurrency -----------------------------------------


def _silicon(document: Document) -> Iterator[str]:
    yield "## Servers at fixed concurrency: the silicon sample"
    yield ""
    yield from SILICON.strip().splitlines()
    yield ""
    for engine, each in document["silicon"].items():
        yield f"### {ENGINES[engine]}"
        yield ""
        if engine != "vllm":
            yield f"What is simulated is vLLM: {ENGINES[engine]} has other kernels and schedules"
            yield "otherwise. These errors say how far the two are apart, too."
            yield ""
        yield f"{each['num_simulated']:,} of {each['num_rows']:,} published rows are simulated."
        yield "Each cell: mean of the errors without sign (median), bias; in %."
        yield ""
        named = [("**all**", each["all"])]
        named += [(f"{g['model']} on {g['gpu']}", g["summary"]) for g in each["by_deployment"]]
        named += [(f"TP {g['tp']}", g["summary"]) for g in each["by_tp"]]
        named += [(f"{g['in_flight']} users", g["summary"]) for g in each["by_in_flight"]]
        table = ([name, *_fixed(found)] for name, found in named)
        yield from _table(("", "rows", *AT_FIXED_LOAD.values()), table)
        yield "Not simulated:"
        yield ""
        reasons = [
            [_reason(why, each), f"{count:,}"] for why, count in each["not_simulated"].items()
        ]
        yield from _table(("reason", "rows"), reasons)


def _reason(why: str, each: Mapping[str, Any]) -> str:
    if why != NO_CONFIG or not each["without_config"]:
        return why
    models = (f"{model} ({count:,})" for model, count in each["without_config"].items())
    return f"{why}: {', '.join(models)}"


def _fixed(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    num = max((each["n"] for each in found.values()), default=0)
    cells = (_size_and_bias(found.get(name), has_median=True) for name in AT_FIXED_LOAD)
    return [str(num), *cells]


# -- limits ---------------------------------------------------------------


def _limits(document: Document) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield from UNSIMULATED.strip().splitlines()
    yield ""
    yield "Where errors are largest:"
    yield ""
    groups = [
        (f"silicon sample, vLLM: {each['model']} on {each['gpu']}", each["summary"])
        for each in document["silicon"].get("vllm", {}).get("by_deployment", ())
    ]
    datasets: dict[str, list[Row]] = {}
    for row in _rows(document):
        if "reason" not in row and row["role"] != "calib":
            datasets.setdefault(row["dataset"], []).append(row)
    groups += [(f"`{name}`, dev rows", summaries(rows)) for name, rows in datasets.items()]
    table = []
    for figure in ("tpot_mean_ms", "ttft_mean_ms"):
        found = [(name, each[figure]) for name, each in groups if figure in each]
        for name, each in sorted(found, key=lambda pair: -pair[1]["mape"])[:NUM_WORST]:
            why = next((why for part, why in KNOWN.items() if part in name), "not known")
            table.append([FIGURES[figure], name, _size_and_bias(each, has_median=True), why])
    yield from _table(("", "rows", "mean without sign (median), bias; %", "why"), table)
