"""Reading a table of measured serving runs: every cell is checked, nothing is passed over."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blis_sim.catalog.csv_table import CsvRow, read_csv
from blis_sim.validation.figures import FIGURES
from blis_sim.validation.records import WHOLE_RUN, MeasuredRow, RunRecord

PRECISIONS = (
    *("FP32", "FP16", "BF16", "FP8", "INT8", "W8A8", "INT4", "W4A16", "AWQ", "GPTQ"),
    *("MXFP4", "NVFP4"),
)
"""What a cell of ``precision`` may be."""

_DECIMAL = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[0-9]{1,9}(\.0*)?")
_STAGE = re.compile(r"-1|[0-9]{1,6}")
_NAME_ALONE = re.compile(r"[A-Za-z]+(-[A-Za-z]+)*")
_BETWEEN_PARTS = re.compile(r"[|;,\s]+")

Cell = Callable[[CsvRow, str], Any]


def read_runs(path: Path) -> tuple[RunRecord, ...]:
    """Return the experiments of a table, in the order in which they begin.

    Parameters
    ----------
    path : Path
        CSV with the columns ``dataset``, ``exp_id``, ``stage``, ``model``, ``gpu``, ``tp`` and
        any others of `RunRecord` and `FIGURES`. Rows with the same ``dataset`` and ``exp_id``
        are one experiment and agree in all settings.

    Raises
    ------
    CatalogError
        The file cannot be read, a column is unknown, or a cell is not what it must be or
        contradicts another; names file, line and column.
    """
    rows = read_csv(path, _REQUIRED, (*_SETTINGS, *_MEASURED, *_COUNTED, "note"))
    begun: dict[tuple[str, str], tuple[CsvRow, RunRecord]] = {}
    for row in rows:
        record = _record(row)
        key = (record.dataset, record.exp_id)
        if key not in begun:
            _check(row, record)
            begun[key] = (row, record)
            continue
        first, before = begun[key]
        _check_same(row, record, first, before)
        begun[key] = (first, replace(before, rows=(*before.rows, *record.rows)))
    return tuple(record for _, record in begun.values())


def _record(row: CsvRow) -> RunRecord:
    """Return the experiment of a row with that row alone."""
    given = {
        name: parse(row, name)
        for name, parse in (_NAMES | _SETTINGS).items()
        if row.values.get(name)
    }
    for name in _REQUIRED:
        row.text(name)
    measured = {
        name: _positive(row, name, _MEASURED[name]) for name in _MEASURED if row.values.get(name)
    }
    counted, lasted = (
        None if not row.values.get(name) else parse(row, name) for name, parse in _COUNTED.items()
    )
    if counted is not None and lasted is not None:
        measured["request_throughput"] = counted / lasted
    stage = _stage(row, "stage")
    return RunRecord(
        **given,
        rows=(MeasuredRow(stage, measured, row.line),),
        source=f"{row.path}:{row.line}",
    )


# -- cells ----------------------------------------------------------------


def _text(row: CsvRow, column: str) -> str:
    value = row.text(column)
    if not value.isprintable():
        raise row.error(column, "printable text")
    return value


def _stage(row: CsvRow, column: str) -> int:
    if not _STAGE.fullmatch(row.values[column]):
        raise row.error(column, "a whole number >= 0, or -1 for the whole run")
    return int(row.values[column])


def _decimal(text: str) -> float | None:
    """Return a finite number >= 0, None when it is something else."""
    if not _DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if value < float("inf") else None


def _positive(row: CsvRow, column: str, unit: str) -> float:
    value = _decimal(row.values[column])
    if not value:
        raise row.error(column, f"a finite number > 0 ({unit})")
    return value


def _number(unit: str) -> Cell:
    return lambda row, column: _positive(row, column, unit)


def _from_0(unit: str) -> Cell:
    def parse(row: CsvRow, column: str) -> float:
        value = _decimal(row.values[column])
        if value is None:
            raise row.error(column, f"a finite number >= 0 ({unit})")
        return value

    return parse


def _whole(least: int, what: str) -> Cell:
    def parse(row: CsvRow, column: str) -> int:
        text = row.values[column]
        # Tools that know no empty whole numbers write 100.0.
        if not _WHOLE.fullmatch(text) or int(float(text)) < least:
            raise row.error(column, f"a whole number of {what} >= {least}")
        return int(float(text))

    return parse


def _switch(row: CsvRow, column: str) -> bool:
    if row.values[column] not in {"0", "1"}:
        raise row.error(column, "0 or 1")
    return row.values[column] == "1"


def _share(row: CsvRow, column: str) -> float:
    value = _decimal(row.values[column])
    if not value or value > 1:
        raise row.error(column, "a share of the memory > 0 and <= 1")
    return value


def _ratio(row: CsvRow, column: str) -> float:
    value = _decimal(row.values[column])
    if not value or value > 1:
        raise row.error(column, "a share of the lengths > 0 and <= 1")
    return value


def _kv_cache_dtype(row: CsvRow, column: str) -> str:
    word = row.values[column].lower()
    if word not in {"auto", "fp8"}:
        raise row.error(column, "auto or fp8")
    return word


def _precision(row: CsvRow, column: str) -> str:
    word = row.values[column].upper()
    if word not in PRECISIONS:
        raise row.error(column, f"one of {', '.join(PRECISIONS)}")
    return word


def _engine(row: CsvRow, column: str) -> str:
    text = row.values[column]
    is_other = _NAME_ALONE.fullmatch(text) and text.lower() != "vllm"  # of which none matters
    if not is_other and not re.search(r"[0-9]+\.[0-9]+", text):
        raise row.error(column, "an engine with its version, such as vLLM v0.15.1")
    return row.values[column]


def _list(unit: str) -> Cell:
    def parse(row: CsvRow, column: str) -> tuple[float, ...]:
        values = [_decimal(part.strip()) for part in row.values[column].split("|")]
        if not all(values):
            raise row.error(column, f"finite numbers > 0 ({unit}) with | between them")
        return tuple(value for value in values if value)

    return parse


def _mix(row: CsvRow, column: str) -> tuple[tuple[int, float], ...]:
    """Return lengths and shares of ``256:0.9|4096:0.1`` or of ``256|4096:0.9|0.1``."""
    text = row.values[column]
    pairs = [part.split(":") for part in _BETWEEN_PARTS.split(text)]
    if text.count(":") == 1 and len(pairs) > 1:
        lists = [_BETWEEN_PARTS.split(part.strip()) for part in text.split(":")]
        if len(lists[0]) == len(lists[1]):
            pairs = [list(pair) for pair in zip(*lists, strict=True)]
    read: list[tuple[int, float]] = []
    for pair in pairs:
        length = pair[0] if len(pair) == 2 and _WHOLE.fullmatch(pair[0]) else "0"
        share = _decimal(pair[1]) if len(pair) == 2 else None
        if not float(length) or not share:
            raise row.error(
                column, "lengths in tokens >= 1 with their shares > 0, such as 256:0.9|4096:0.1"
            )
        read.append((int(float(length)), share))
    return tuple(read)


def _file(row: CsvRow, column: str) -> Path:
    return row.path.parent / Path(_text(row, column)).expanduser()


_NAMES: dict[str, Cell] = {"dataset": _text, "exp_id": _text}
_SETTINGS: dict[str, Cell] = {
    "role": _text,
    "model": _text,
    "gpu": _text,
    "tp": _whole(1, "GPUs"),
    "dp": _whole(1, "ranks"),
    "precision": _precision,
    "engine": _engine,
    "max_model_len": _whole(1, "tokens"),
    "max_num_seqs": _whole(1, "requests"),
    "max_num_batched_tokens": _whole(1, "tokens"),
    "gpu_memory_utilization": _share,
    "num_kv_blocks": _whole(1, "blocks"),
    "kv_offload": _whole(0, "blocks"),
    "prefix_caching": _switch,
    "workload": _text,
    "prompt_pool": _whole(0, "prompts"),
    "prefix_groups": _whole(0, "system prompts"),
    "system_prompt_tokens": _whole(0, "tokens"),
    "prompt_tokens": _number("tokens"),
    "output_tokens": _number("tokens"),
    "stage_rates": _list("requests/s"),
    "stage_durations_s": _list("s"),
    "client_cap": _whole(1, "requests"),
    "measure_from_s": _from_0("s"),
    "stage_gap_s": _from_0("s"),
    "prompt_mix": _mix,
    "requests_file": _file,
    "concurrency": _whole(1, "users"),
    "requests_per_user": _whole(1, "requests"),
    "range_ratio": _ratio,
    "kv_cache_dtype": _kv_cache_dtype,
    "async_scheduling": _switch,
}
_REQUIRED = ("dataset", "exp_id", "stage", "model", "gpu", "tp")
_MEASURED: Mapping[str, str] = {
    figure.name: figure.unit for figure in FIGURES if figure.unit == "ms"
}
_COUNTED: dict[str, Cell] = {"n_requests": _whole(1, "requests"), "makespan_s": _number("s")}
"""Requests per second are their quotient."""


# -- cells that depend on others ------------------------------------------


def _check(row: CsvRow, record: RunRecord) -> None:
    """Check what the cells of an experiment demand of one another."""
    if record.requests_file is None:
        if not record.stage_rates and record.concurrency is None:
            raise row.error("stage_rates", "given, or concurrency or requests_file")
        if record.prompt_tokens is None and not record.prompt_mix:
            raise row.error("prompt_tokens", "given, or prompt_mix or requests_file")
        if record.output_tokens is None:
            raise row.error("output_tokens", "given, or requests_file")
    elif record.stage_rates:
        raise row.error("stage_rates", "empty with requests_file, which has the arrivals")
    if len(record.stage_rates) != len(record.stage_durations_s):
        raise row.error("stage_durations_s", f"{len(record.stage_rates)} numbers, one a rate")
    _check_users(row, record)
    _check_stage(row, record, record)
    _check_prompts(row, record)


def _check_users(row: CsvRow, record: RunRecord) -> None:
    if record.concurrency is None:
        if row.values.get("requests_per_user"):
            raise row.error("requests_per_user", "empty without concurrency")
    else:
        for name in ("stage_rates", "stage_gap_s", "client_cap", "requests_file"):
            if row.values.get(name):
                raise row.error(name, "empty with concurrency: answers decide when users send")
    if record.range_ratio is not None:
        for name in ("prompt_mix", "prompt_pool", "system_prompt_tokens", "requests_file"):
            if getattr(record, name):
                raise row.error("range_ratio", f"empty with {name}")


def _check_prompts(row: CsvRow, record: RunRecord) -> None:
    if record.prompt_pool:
        if record.requests_file is not None or record.prompt_mix:
            raise row.error("prompt_pool", "empty or 0 with requests_file or prompt_mix")
        if record.prompt_pool % max(record.prefix_groups, 1):
            raise row.error("prompt_pool", f"a multiple of prefix_groups ({record.prefix_groups})")
    shortest = min((length for length, _ in record.prompt_mix), default=record.prompt_tokens)
    if shortest is not None and record.system_prompt_tokens >= round(shortest):
        raise row.error("system_prompt_tokens", f"fewer than the prompt's {shortest:g} tokens")
    if record.prefix_groups and not record.system_prompt_tokens:
        raise row.error("system_prompt_tokens", ">= 1 with prefix_groups")


def _check_stage(row: CsvRow, added: RunRecord, record: RunRecord) -> None:
    """Check that the stage of an added row is one of the experiment.

    A single stage may have any number: it may be one of a longer run, measured alone.
    """
    stage, count = added.rows[0].stage, len(record.stage_rates)
    if stage == WHOLE_RUN or (count == 1 and len({r.stage for r in record.rows} - {-1}) <= 1):
        return
    if stage >= count:
        raise row.error("stage", f"-1, or less than the {count} stages of stage_rates")


def _check_same(row: CsvRow, added: RunRecord, first: CsvRow, before: RunRecord) -> None:
    """Check that a row has the settings of its experiment, and a stage of its own."""
    for name in _SETTINGS:
        if getattr(added, name) != getattr(before, name):
            written = first.values.get(name, "")
            raise row.error(
                name,
                f"{written!r} as in line {first.line}, which is of the same experiment "
                f"({before.dataset}, {before.exp_id})",
            )
    taken = [other.line for other in before.rows if other.stage == added.rows[0].stage]
    if taken:
        raise row.error("stage", f"another than that of line {taken[0]}, of the same experiment")
    _check_stage(row, added, replace(before, rows=(*before.rows, *added.rows)))
