"""TraceV2 of the BLIS simulator: a YAML header and a CSV file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from blis_sim.errors import TraceError
from blis_sim.units import US_PER_S
from blis_sim.workload.base import MAX_TIME_US, Int64Array
from blis_sim.workload.cells import ABSENT, CellParser, Labels, OptionalCells, WholeNumbers
from blis_sim.workload.columns import (
    LabelColumn,
    ReadOptions,
    TraceColumns,
    check_header,
    refuse,
)
from blis_sim.workload.formats.csv_format import CsvFormat
from blis_sim.workload.table import TraceTable
from blis_sim.workload.trace_file import open_data
from blis_sim.workload.trace_sample import FileSample, look_at

_MAX_STAMP_US = 2**62
_MAX_PRIORITY = 2**31 - 1
_MAX_HEADER_BYTES = 2**20
_REQUIRED = ("input_tokens", "output_tokens", "arrival_time_us")


class BlisTraceV2(CsvFormat):
    """BLIS TraceV2: either file of the pair ``NAME.yaml`` and ``NAME.csv``.

    (Or ``NAME_header.yaml`` and ``NAME_data.csv``.)

    Read as the BLIS simulator replays it (``sim/workload/tracev2.go`` and ``replay.go``):
    the arrival is ``send_time_us`` where it is above 0, else ``arrival_time_us``;
    ``input_tokens`` leaves the shared prefix out, so the prompt is ``prefix_length`` plus
    ``input_tokens`` in a ``prefix_group``, and otherwise ``server_input_tokens`` where the
    server reported it; ``deadline_us`` is a point in time, 0 = none. Requests with the status
    ``error`` are left out and counted, since nobody knows how long their answers were.
    Stamps since 1970 are counted from the first.
    """

    name = "tracev2"
    title = "BLIS TraceV2"
    signature = _REQUIRED

    def recognises(self, sample: FileSample) -> bool:
        """Return whether it is the YAML header, or CSV with all the columns that count."""
        return sample.kind == "yaml" or (sample.kind == "csv" and sample.has(*_REQUIRED))

    def read(self, path: Path, options: ReadOptions) -> TraceColumns:
        """Read the requests; of a YAML header those of the CSV file of the same name."""
        if look_at(path).kind != "yaml":
            return super().read(path, options)
        notices = _header_notices(path)
        stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
        stems = dict.fromkeys((stem, stem.replace("header", "data")))
        beside = [path.with_name(name + end) for name in stems for end in (".csv", ".csv.gz")]
        data = next((file for file in beside if file.exists()), None)
        if data is None:
            raise TraceError(
                f"{path}: trace must have its data beside its header, in {beside[0].name}; got "
                "no such file; name the CSV file itself"
            )
        columns = super().read(data, options)
        columns.notices += notices
        return columns

    def read_table(self, table: TraceTable) -> TraceColumns:
        """Read the rows, leaving those with an error out."""
        check_header(table, _REQUIRED)
        parsers = {name: p for name, p in _parsers().items() if name in table.header}
        values = table.columns(parsers, check=_check_rows)
        status = parsers.get("status")
        error = status.names.get("error") if isinstance(status, Labels) else None
        used = np.arange(len(values["input_tokens"]))
        if error is not None:
            used = np.flatnonzero(values["status"] != error)
        num_failed = len(values["input_tokens"]) - len(used)
        if not len(used):
            raise TraceError(
                f"{table.path}: trace must have at least one request; got {num_failed:,} with "
                "the status error"
            )
        columns = _columns(table, parsers, {name: array[used] for name, array in values.items()})
        if num_failed:
            columns.notices.append(
                f"{table.path}: {num_failed:,} requests with the status error left out"
            )
        return columns


def _header_notices(path: Path) -> list[str]:
    """Check the YAML header; return what it says that is not done here."""
    with open_data(path) as data:
        text = data.read(_MAX_HEADER_BYTES)
    try:
        header: Any = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise TraceError(f"{path}:{line}: trace header must be well-formed YAML") from error
    if not isinstance(header, dict) or "trace_version" not in header:
        raise TraceError(f"{path}: trace header must have trace_version; got none")
    unit = header.get("time_unit", "microseconds")
    if unit not in {"us", "microseconds"}:
        raise TraceError(f"{path}: time_unit must be microseconds; got {str(unit)[:60]!r}")
    warmup = header.get("warm_up_requests")
    if type(warmup) is int and warmup > 0:
        return [f"{path}: the first {warmup:,} requests are its warm-up; they are replayed too"]
    return []


def _parsers() -> dict[str, CellParser]:
    stamps = OptionalCells(WholeNumbers(0, _MAX_STAMP_US, "microseconds"), empty=0)
    counts = OptionalCells(WholeNumbers(0), empty=0)
    return {
        "input_tokens": WholeNumbers(0),
        "output_tokens": WholeNumbers(0),
        "arrival_time_us": WholeNumbers(0, _MAX_STAMP_US, "microseconds"),
        "send_time_us": stamps,
        "first_chunk_time_us": stamps,
        "last_chunk_time_us": stamps,
        "deadline_us": stamps,
        "server_input_tokens": counts,
        "prefix_group": Labels(),
        "prefix_length": counts,
        "session_id": Labels(),
        "round_index": OptionalCells(WholeNumbers(0, unit=""), empty=0),
        "slo_class": Labels(),
        "tenant_id": Labels(),
        "vllm_priority": OptionalCells(WholeNumbers(0, _MAX_PRIORITY, unit=""), empty=0),
        "status": Labels(),
    }


def _check_rows(values: Mapping[str, Int64Array]) -> None:
    refuse(_prompt_tokens(values) < 1, "input_tokens", ">= 1 where there is no prefix")
    deadline = values.get("deadline_us")
    if deadline is not None:
        late = (deadline > 0) & (deadline <= _sent_us(values))
        refuse(late, "deadline_us", "after the row's arrival, or 0 for none")


def _sent_us(values: Mapping[str, Int64Array]) -> Int64Array:
    arrival = values["arrival_time_us"]
    sent = values.get("send_time_us", arrival)
    return np.where(sent > 0, sent, arrival)


def _prefix_tokens(values: Mapping[str, Int64Array]) -> Int64Array:
    """Return the shared tokens in front of each prompt; a prefix without a group is none."""
    if "prefix_group" not in values or "prefix_length" not in values:
        return np.zeros_like(values["input_tokens"])
    return np.where(values["prefix_group"] != ABSENT, values["prefix_length"], 0)


def _prompt_tokens(values: Mapping[str, Int64Array]) -> Int64Array:
    suffix = values["input_tokens"]
    reported = values.get("server_input_tokens")
    if reported is not None:
        private = (reported > 0) & (values.get("prefix_group", np.full_like(suffix, -1)) == ABSENT)
        suffix = np.where(private, reported, suffix)
    return _prefix_tokens(values) + suffix


def _columns(
    table: TraceTable, parsers: Mapping[str, CellParser], values: Mapping[str, Int64Array]
) -> TraceColumns:
    sent_us = _sent_us(values)
    prefix = _prefix_tokens(values)

    def label(name: str) -> LabelColumn | None:
        parser = parsers.get(name)
        if not isinstance(parser, Labels):
            return None
        return LabelColumn(values[name], tuple(parser.names))

    def since_sent(name: str) -> Int64Array | None:
        stamps = values.get(name)
        if stamps is None or not (stamps > 0).any():
            return None
        return np.where(stamps >= np.maximum(sent_us, 1), stamps - sent_us, ABSENT)

    group = label("prefix_group")
    if group is not None:
        group = LabelColumn(np.where(prefix > 0, group.codes, ABSENT), group.names)
    session = label("session_id")
    return TraceColumns(
        arrival_us=_from_start(table, sent_us),
        prompt_tokens=_prompt_tokens(values),
        output_tokens=values["output_tokens"],
        prefix_group=group,
        prefix_tokens=None if group is None else prefix,
        session_id=session,
        round=None if session is None else values.get("round_index"),
        slo_class=label("slo_class"),
        tenant=label("tenant_id"),
        priority=values.get("vllm_priority"),
        timeout_us=since_sent("deadline_us"),
        measured_ttft_us=since_sent("first_chunk_time_us"),
        measured_e2e_us=since_sent("last_chunk_time_us"),
    )


def _from_start(table: TraceTable, sent_us: Int64Array) -> Int64Array:
    """Return the arrivals as they are, or from the first where they count from 1970."""
    if sent_us.max() > MAX_TIME_US:
        sent_us = sent_us - sent_us.min()
    if sent_us.max() > MAX_TIME_US:
        raise TraceError(
            f"{table.path}: the requests must arrive within {MAX_TIME_US // US_PER_S} s; got "
            f"{int(sent_us.max()) // US_PER_S} s from the first to the last"
        )
    return sent_us
