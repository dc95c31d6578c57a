"""Builders for the tests of traces; they need nothing but the room's readers and replay."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blis_sim.config.workload import LoadSettings
from blis_sim.workload.columns import ReadOptions, TraceColumns
from blis_sim.workload.replay import TraceWorkload, open_trace
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.trace import read_trace
from blis_sim.workload.trace_rows import ArrivalTimes

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SHARED_TRACES = SHARED_DATA / "traces"


def make_workload(arrival_times: ArrivalTimes | None = None, **settings: Any) -> TraceWorkload:
    return open_trace(LoadSettings(**settings), arrival_times)


def make_requests(arrival_times: ArrivalTimes | None = None, **settings: Any) -> list[RequestSpec]:
    return list(make_workload(arrival_times, **settings))


def write_trace(folder: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def write_json(folder: Path, document: object, name: str = "trace.json") -> Path:
    return write_trace(folder, json.dumps(document), name)


def write_lines(folder: Path, items: Iterable[object], name: str = "trace.jsonl") -> Path:
    return write_trace(folder, "".join(json.dumps(item) + "\n" for item in items), name)


def replay(folder: Path, text: str | bytes, **settings: Any) -> list[RequestSpec]:
    return make_requests(trace=write_trace(folder, text), **settings)


def read(path: Path, format_name: str = "auto", skip: bool = False) -> TraceColumns:
    columns, _ = read_trace(path, format_name, ReadOptions(skip_bad_rows=skip))
    return columns
