"""From the errors of a validation to the file of error bands that results carry."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from blis_sim.atomic import atomic_write
from blis_sim.catalog.error_bands import (
    ALL_GPUS,
    FIGURES,
    RANGES,
    ErrorBand,
    FigureErrors,
    Range,
    read_error_bands,
)
from blis_sim.metrics.accuracy import facts_of
from blis_sim.validation.compare import ServedPart, ValidatedRow

_DIGITS = 3
"""Significant digits of the ends of ranges."""
_HEADER = """\
# How far latency models were off where they were compared with measured servers, by kind of
# deployment. Results say so below their tables; docs/validation.md explains it.
# Written by: blis validate --bands-out configs/error_bands.yaml --runs RUNS --role dev
# It replaces the entries of the latency models that answered, and keeps the others.
#
# errors   predicted over measured, less 1, in %: mape_pct = mean without the signs, bias_pct =
#          mean with them, worst_pct = the largest; num_rows = measured figures
# ranges   lowest and highest of what was measured: tokens are means of a run, requests_in_flight
#          the mean per instance
# gpu all  every GPU of the entries of this architecture together
# num_deployments counts models, GPUs and tensor parallel sizes that differ.
"""


def error_bands(rows: Sequence[ValidatedRow], source: str = "") -> tuple[ErrorBand, ...]:
    """Return the error bands of each latency model, GPU and architecture among the rows.

    Rows of which nothing was predicted have no place in them: no result carries their error.

    Parameters
    ----------
    rows : sequence of ValidatedRow
        From `validate`.
    source : str
        What was measured, in words.

    Returns
    -------
    tuple of ErrorBand
        By latency model and architecture: all GPUs together, then each.
    """
    groups: dict[tuple[str, str, str], list[_Row]] = {}
    for row in rows:
        if row.served is None or row.reason or not set(row.metrics) & set(_COLUMNS):
            continue
        kind = row.served.kind
        for gpu in (ALL_GPUS, kind.gpu):
            key = (kind.latency_model, kind.architecture, gpu)
            groups.setdefault(key, []).append(_Row(row, row.served))
    return tuple(_band(key, groups[key], source) for key in sorted(groups, key=_place))


@dataclass(frozen=True, slots=True)
class _Row:
    """A row and what was simulated for it."""

    of: ValidatedRow
    served: ServedPart


_COLUMNS = {f"{name}_ms": name for name in FIGURES}


def _place(key: tuple[str, str, str]) -> tuple[str, str, bool, str]:
    latency_model, architecture, gpu = key
    return latency_model, architecture, gpu != ALL_GPUS, gpu


def _band(key: tuple[str, str, str], rows: Sequence[_Row], source: str) -> ErrorBand:
    latency_model, architecture, gpu = key
    kinds = [row.served.kind for row in rows]
    deployments = {
        (row.served.model, kind.gpu, kind.tensor_parallel_size)
        for row, kind in zip(rows, kinds, strict=True)
    }
    errors = {name: _errors(rows, column) for column, name in _COLUMNS.items()}
    return ErrorBand(
        latency_model=latency_model,
        gpu=gpu,
        architecture=architecture,
        num_deployments=len(deployments),
        num_experiments=len({(row.of.dataset, row.of.exp_id) for row in rows}),
        source=source,
        quantizations=tuple(sorted({kind.quantization for kind in kinds})),
        kv_cache_dtypes=tuple(sorted({kind.kv_cache_dtype for kind in kinds})),
        errors={name: each for name, each in errors.items() if each is not None},
        ranges=_ranges(rows),
    )


def _errors(rows: Sequence[_Row], column: str) -> FigureErrors | None:
    """Return the errors of a figure, to a tenth of a percent; None = it was not measured."""
    found = [row.of.metrics[column].error_pct for row in rows if column in row.of.metrics]
    if not found:
        return None
    worst = max(found, key=lambda error: (abs(error), error))
    return FigureErrors(
        mape_pct=round(statistics.fmean(map(abs, found)), 1),
        # + 0.0: no minus before a zero.
        bias_pct=round(statistics.fmean(found), 1) + 0.0,
        worst_pct=round(worst, 1) + 0.0,
        num_rows=len(found),
    )


def _ranges(rows: Sequence[_Row]) -> dict[str, Range]:
    facts = [facts_of(row.served.kind, row.served.load) for row in rows]
    ranges = {}
    for name in RANGES:
        values = [each[name] for each in facts]
        ranges[name] = Range(_rounded(min(values), math.floor), _rounded(max(values), math.ceil))
    return ranges


def _rounded(value: float, to: Callable[[float], int]) -> float:
    """Return a value >= 0 with three digits: ``to`` is up or down, ranges hold their ends."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - _DIGITS + 1)
    # The second rounding takes away what a binary fraction adds to a decimal one.
    return float(f"{to(round(value / unit, 6)) * unit:.{_DIGITS}g}")


# -- the file -------------------------------------------------------------


def write_error_bands(path: str | Path, bands: Sequence[ErrorBand]) -> tuple[ErrorBand, ...]:
    """Write entries to a file, whole or not at all, and return all it then holds.

    Entries of the same latency models that it held are replaced, others are kept.

    Raises
    ------
    CatalogError
        There is a file that holds something else.
    ConfigError
        The file cannot be written.
    """
    target = Path(path)
    new = {band.latency_model for band in bands}
    kept = read_error_bands(target) if target.is_file() else ()
    entries = [*bands, *(band for band in kept if band.latency_model not in new)]
    entries.sort(key=lambda band: _place((band.latency_model, band.architecture, band.gpu)))
    with atomic_write(target) as temporary:
        temporary.write_text(render_error_bands(entries), encoding="utf-8", newline="")
    return tuple(entries)


def render_error_bands(bands: Sequence[ErrorBand]) -> str:
    """Return the text of a file of error bands."""
    lines = ["entries:" if bands else "entries: []"]
    for band in bands:
        lines += _lines(band)
    return _HEADER + "\n".join([*lines, ""])


def _lines(band: ErrorBand) -> Iterator[str]:
    yield f"- latency_model: {band.latency_model}"
    yield f"  gpu: {json.dumps(band.gpu)}"
    yield f"  architecture: {band.architecture}"
    yield f"  num_deployments: {band.num_deployments}"
    yield f"  num_experiments: {band.num_experiments}"
    yield f"  source: {json.dumps(band.source, ensure_ascii=False)}"
    yield f"  quantizations: [{', '.join(map(json.dumps, band.quantizations))}]"
    yield f"  kv_cache_dtypes: [{', '.join(map(json.dumps, band.kv_cache_dtypes))}]"
    yield "  errors:"
    for name, errors in band.errors.items():
        cells = ", ".join(f"{key}: {value}" for key, value in asdict(errors).items())
        yield f"    {name}: {{{cells}}}"
    yield "  ranges:"
    for name, each in band.ranges.items():
        yield f"    {name}: [{each.lowest:.12g}, {each.highest:.12g}]"
