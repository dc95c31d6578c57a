"""``blis compare``: deployments side by side, as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blis_sim.capacity.compare import LATENCY_TAGS, METRICS, ComparedRun, comparability
from blis_sim.metrics.definitions import metric_definitions
from blis_sim.metrics.plain import to_plain
from blis_sim.report.text_columns import text_columns
from blis_sim.version import package_version

WIDTH = 100
_MAX_NOTICES = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """A column of the table.

    Attributes
    ----------
    key : str
        Of `ComparedRun.metrics`.
    header, unit : str
        Two lines above the numbers.
    decimals : int
        Digits after the point.
    """

    key: str
    header: str
    unit: str
    decimals: int


SHOWN = (
    Shown("mean_ttft_ms", "TTFT", "mean ms", 1),
    Shown("p99_ttft_ms", "TTFT", "p99 ms", 1),
    Shown("mean_tpot_ms", "TPOT", "mean ms", 2),
    Shown("p99_itl_ms", "ITL", "p99 ms", 2),
    Shown("mean_e2el_ms", "E2E", "mean ms", 0),
    Shown("output_throughput", "output", "tok/s", 1),
    Shown("output_throughput_per_gpu", "per GPU", "tok/s", 1),
)
_GOODPUT = Shown("request_goodput", "goodput", "req/s", 2)


def notes_of(rows: Sequence[ComparedRun]) -> list[str]:
    """Return what the reader should know, each thing once.

    Whether rows are comparable; what was not simulated, and why; and the notices of the runs.
    Those that only some rows have name them.
    """
    several = len({row.model for row in rows}) > 1
    places: dict[str, dict[str, None]] = {}
    for row in rows:
        said = row.notices if row.is_simulated else [f"not simulated: {row.reason}"]
        for text in said:
            places.setdefault(text, {})[_deployment(row, with_model=several)] = None
    everywhere = {_deployment(row, with_model=several) for row in rows if row.is_simulated}
    notes = list(filter(None, [comparability(rows)]))
    # What could not be simulated comes first.
    for text in sorted(places, key=lambda text: not text.startswith("not simulated: ")):
        names = places[text]
        notes.append(text if set(names) == everywhere else f"{', '.join(names)}: {text}")
    return notes


def _deployment(row: ComparedRun, *, with_model: bool) -> str:
    place = f"{row.gpu} TP {row.tensor_parallel_size}"
    return f"{_short(row.model)} on {place}" if with_model else place


def render_comparison(rows: Sequence[ComparedRun], seed: int) -> str:
    """Return the comparison as text, without a final newline.

    What all rows have in common stands above the table.

    Parameters
    ----------
    rows : sequence of ComparedRun
        At least one.
    seed : int
        That of the load.
    """
    lines = [*_title(rows, seed)]
    table = _table(rows)
    rule = "-" * max(map(len, table))
    lines += [rule, *table[:2], rule, *table[2:], rule]
    notes = notes_of(rows)
    for note in notes[:_MAX_NOTICES]:
        lines += _wrapped(f"note: {note}")
    if len(notes) > _MAX_NOTICES:
        lines.append(f"and {len(notes) - _MAX_NOTICES} more notes (--json has them all)")
    return "\n".join(lines)


def _title(rows: Sequence[ComparedRun], seed: int) -> Iterator[str]:
    models = dict.fromkeys(row.model for row in rows)
    if len(models) == 1:
        yield f"model: {next(iter(models))}"
    for load in dict.fromkeys(row.load for row in rows if row.load):
        yield from _wrapped(f"load: {load}, seed {seed}")


def _table(rows: Sequence[ComparedRun]) -> list[str]:
    has_models = len({row.model for row in rows}) > 1
    # A row that was not simulated has no rate unless one was given.
    has_rates = len({row.request_rate for row in rows} - {None}) > 1
    shown = list(SHOWN)
    if any(row.metrics.get(_GOODPUT.key) is not None for row in rows):
        shown.append(_GOODPUT)
    header, units = ["model"] * has_models, [""] * has_models
    header += ["GPU", "TP", *["rate"] * has_rates, *(column.header for column in shown)]
    units += ["", "", *["req/s"] * has_rates, *(column.unit for column in shown)]
    header += ["KV", "latency model"]
    units += ["blocks", ""]
    table = [header, units]
    for row in rows:
        cells = [_short(row.model)] * has_models
        cells += [row.gpu, str(row.tensor_parallel_size)]
        cells += [_rate(row.request_rate)] * has_rates
        cells += [_number(row.metrics.get(column.key), column.decimals) for column in shown]
        cells += [_number(row.num_kv_blocks, 0), row.latency_model or "not simulated"]
        table.append(cells)
    last = len(header) - 1
    return text_columns(table, (0, 1, last) if has_models else (0, last))


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:g}"


def _short(model: str) -> str:
    return model.rpartition("/")[2]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _record(row: ComparedRun) -> dict[str, Any]:
    """Return a row with its fixed columns."""
    return {
        "model": row.model,
        "gpu": row.gpu,
        "tensor_parallel_size": row.tensor_parallel_size,
        "request_rate": row.request_rate,
        "latency_model": row.latency_model or None,
        "latency_model_reason": row.latency_reason or None,
        "latency_model_source": row.latency_source or None,
        "num_kv_blocks": row.num_kv_blocks,
        **{key: row.metrics.get(key) for key in METRICS},
        "not_simulated": row.reason or None,
    }


def comparison_json(rows: Sequence[ComparedRun], seed: int) -> str:
    """Return the comparison as strict JSON text, ending in a newline."""
    definitions = metric_definitions()
    kept = [tag for tag in definitions if tag in METRICS or tag in LATENCY_TAGS]
    document = {
        "blis_sim_version": package_version(),
        "seed": seed,
        "rows": [
            _record(row) | {"load": row.load or None, "notices": list(row.notices)} for row in rows
        ],
        "notes": notes_of(rows),
        "metric_definitions": {tag: definitions[tag] for tag in kept},
    }
    return json.dumps(to_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def comparison_csv(rows: Sequence[ComparedRun]) -> str:
    """Return one line per deployment below a header; an absent value is an empty cell."""
    stream = io.StringIO()
    records = [to_plain(_record(row)) for row in rows]
    writer = csv.DictWriter(stream, list(_record(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()
