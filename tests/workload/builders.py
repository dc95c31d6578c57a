"""Builders shared by the tests of the workload room."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from blis_sim.config.workload import WorkloadSettings
from blis_sim.workload.base import Workload
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.stream import open_workload

SHARED_TRACES = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"


def make_workload(seed: int = 42, horizon_us: int | None = None, **settings: Any) -> Workload:
    return open_workload(WorkloadSettings(**settings), seed, horizon_us)


def make_requests(
    seed: int = 42, horizon_us: int | None = None, **settings: Any
) -> list[RequestSpec]:
    return list(make_workload(seed, horizon_us, **settings))


def write_trace(folder: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def replay(folder: Path, text: str | bytes, **settings: Any) -> list[RequestSpec]:
    return make_requests(trace=write_trace(folder, text), **settings)
