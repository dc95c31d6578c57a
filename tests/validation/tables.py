"""Tables of measured runs, written with defaults."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blis_sim.validation.experiment import Case, case_of
from blis_sim.validation.read_runs import read_runs
from blis_sim.validation.records import RunRecord

HEADER = (
    "dataset,exp_id,stage,role,model,gpu,tp,dp,precision,engine,max_model_len,max_num_seqs,"
    "max_num_batched_tokens,gpu_memory_utilization,num_kv_blocks,kv_offload,prefix_caching,"
    "workload,prompt_pool,prefix_groups,system_prompt_tokens,prompt_tokens,output_tokens,"
    "stage_rates,stage_durations_s,ttft_mean_ms,ttft_p99_ms,tpot_mean_ms,e2e_mean_ms,"
    "e2e_p99_ms,note,client_cap,n_requests,makespan_s,measure_from_s,stage_gap_s,prompt_mix,"
    "requests_file,concurrency,requests_per_user,range_ratio,kv_cache_dtype,async_scheduling"
)
COLUMNS = HEADER.split(",")
"""Of the published table, in its order."""

MEASURED = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "e2e_mean_ms", "e2e_p99_ms")

ROW = {
    "dataset": "made",
    "exp_id": "a",
    "stage": "-1",
    "role": "dev",
    "model": "Qwen/Qwen3-14B",
    "gpu": "H100",
    "tp": "1",
    "engine": "vLLM v0.15.1",
    "num_kv_blocks": "5000",
    "prompt_tokens": "100",
    "output_tokens": "8",
    "stage_rates": "5",
    "stage_durations_s": "4",
}
FAST = ("latency.alpha=[1000,0,0]", "latency.beta=[5000,10,100]")
"""Blackbox coefficients: step times that need no tables."""


def row(**cells: object) -> dict[str, str]:
    """Return a row; what is given replaces the default, and an empty text takes it away."""
    return ROW | {name: str(cell) for name, cell in cells.items()}


def write_table(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write a table with all columns."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def records(folder: Path, *rows: Mapping[str, str]) -> tuple[RunRecord, ...]:
    """Return the experiments of a table with these rows."""
    return read_runs(write_table(folder / "runs.csv", rows))


def cases(folder: Path, *rows: Mapping[str, str]) -> list[Case]:
    """Return what is simulated for a table with these rows."""
    return [case_of(record) for record in records(folder, *rows)]


def write_requests(path: Path, items: Iterable[Mapping[str, Any]]) -> Path:
    """Write served requests, one JSON object per line."""
    path.write_text("".join(f"{json.dumps(item)}\n" for item in items), encoding="utf-8")
    return path


def served(number: int, **values: float) -> dict[str, float]:
    """Return a served request: sent every 0.2 s, answered 0.1 s and 1 s later."""
    queued = 1000 + 0.2 * number
    return {
        "request_id": f"bench-{number}",
        "input_toks": 100 + number,
        "output_toks": 10,
        "arrival_time": 1.7e9 + 0.2 * number,
        "queued_ts": queued,
        "scheduled_ts": queued + 0.001,
        "first_token_ts": queued + 0.1,
        "last_token_ts": queued + 1.0,
    } | values
