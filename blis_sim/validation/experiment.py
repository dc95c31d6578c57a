"""From what was measured to what is simulated: a scenario for each experiment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from blis_sim.catalog.models import load_model
from blis_sim.errors import CatalogError, ConfigError
from blis_sim.validation.records import MeasuredRow, RunRecord
from blis_sim.validation.requests_file import ServedRequests, read_requests

SPREAD_TOKENS = 10
"""Lengths of prompts lie so far around their mean: texts are drawn by words, not by tokens."""

_SIXTEEN_BITS = {"FP16": "float16", "BF16": "bfloat16"}
_QUANTIZED = {
    "FP8": "fp8",
    "INT8": "int8",
    "W8A8": "int8",
    "INT4": "int4",
    "W4A16": "int4",
    "AWQ": "awq",
    "GPTQ": "gptq",
}


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A measured row, and which part of the simulation it is about.

    Attributes
    ----------
    row : MeasuredRow
        What was measured.
    scope : int or None
        Number of the stage, from 0; None = the whole run.
    rate_per_s : float or None
        Requests per second in that part; None = not known.
    in_flight : float or None
        Requests in flight where the load itself says so; None = it does not.
    """

    row: MeasuredRow
    scope: int | None = None
    rate_per_s: float | None = None
    in_flight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One simulation and the rows it is compared with.

    Attributes
    ----------
    dataset, exp_id, role, model, gpu, tp, load
        As they were written.
    settings : mapping
        The scenario, as `load_scenario` takes it.
    rows : tuple of CaseRow
        What was measured.
    measure_from_s : float
        Only requests sent from then on count.
    requests : ServedRequests or None
        Arrivals that no setting describes.
    notices : tuple of str
        What of the real server is not simulated.
    problem : str
        Why there is no scenario; empty when there is one.
    """

    dataset: str
    exp_id: str
    role: str = ""
    model: str
    gpu: str
    tp: int
    load: str = ""
    settings: Mapping[str, Any]
    rows: tuple[CaseRow, ...] = ()
    measure_from_s: float = 0.0
    requests: ServedRequests | None = None
    notices: tuple[str, ...] = ()
    problem: str = ""


def case_of(record: RunRecord) -> Case:
    """Return what is simulated for an experiment.

    What cannot be simulated as it was measured has a ``problem``.

    Raises
    ------
    TraceError
        A line of its file of requests is not what it must be.
    """
    case = Case(
        dataset=record.dataset,
        exp_id=record.exp_id,
        role=record.role,
        model=record.model,
        gpu=record.gpu,
        tp=record.tp,
        load=record.workload,
        settings={},
        rows=tuple(_case_row(record, row) for row in record.rows),
        measure_from_s=record.measure_from_s,
        notices=tuple(_notices(record)),
    )
    try:
        requests = _requests(record)
        settings = {
            "model": record.model,
            "hardware": record.gpu,
            "engine": engine_settings(record),
            "workload": {"max_outstanding": record.client_cap}
            if requests is not None
            else load_settings(record),
        }
    except (ConfigError, CatalogError) as error:
        return replace(case, problem=" ".join(str(error).split()))
    return replace(case, settings=settings, requests=requests)


def _case_row(record: RunRecord, row: MeasuredRow) -> CaseRow:
    rates, durations_s = record.stage_rates, record.stage_durations_s
    if record.concurrency is not None:
        return CaseRow(row, in_flight=float(record.concurrency))
    if not rates:
        return CaseRow(row)
    if row.is_whole_run:
        due = sum(rate * s for rate, s in zip(rates, durations_s, strict=True))
        return CaseRow(row, None, due / sum(durations_s))
    if len(rates) == 1:  # whatever its number: it may be one of a longer run, measured alone
        return CaseRow(row, 0, rates[0])
    return CaseRow(row, row.stage, rates[row.stage])


def _notices(record: RunRecord) -> list[str]:
    if not record.kv_offload:
        return []
    return ["KV offload to CPU memory is not simulated (measured: up to 2 % of E2E)"]


def _requests(record: RunRecord) -> ServedRequests | None:
    path = record.requests_file
    if path is None:
        return None
    if not path.is_file():
        raise ConfigError(
            f"requests_file must be a file beside the table; got {path}, which is not there"
        )
    return read_requests(path)


# -- the deployment -------------------------------------------------------


def engine_settings(record: RunRecord) -> dict[str, Any]:
    """Return the settings of the engine; what the table leaves open has its default.

    Raises
    ------
    ConfigError
        The server was something else than vLLM, or its precision cannot be simulated.
    """
    given: dict[str, Any] = {
        "version": engine_version(record.engine),
        "tensor_parallel_size": record.tp,
        "data_parallel_size": record.dp if record.dp > 1 else None,
        "max_model_len": record.max_model_len,
        "max_num_seqs": record.max_num_seqs,
        "max_num_batched_tokens": record.max_num_batched_tokens,
        "enable_prefix_caching": record.prefix_caching,
        "num_gpu_blocks_override": record.num_kv_blocks,
        "kv_cache_dtype": record.kv_cache_dtype,
        "async_scheduling": _switch(record.async_scheduling),
        **weight_settings(record.model, record.precision),
    }
    if record.num_kv_blocks is None:  # with so many blocks the memory decides nothing
        given["gpu_memory_utilization"] = record.gpu_memory_utilization
    return {name: value for name, value in given.items() if value is not None}


def _switch(is_on: bool | None) -> str | None:
    return None if is_on is None else "on" if is_on else "off"


def engine_version(engine: str | None) -> str | None:
    """Return the version in ``vLLM (a fork, v0.15.1)``: it decides how batches are formed.

    Raises
    ------
    ConfigError
        It is another engine.
    """
    if engine is None:
        return None
    found = re.search(r"[0-9]+(\.[0-9]+)+", engine)
    if found is None or "vllm" not in engine.lower():
        raise ConfigError(f"engine must be vLLM and its version; got {engine!r}")
    return found[0]


def weight_settings(model: str, precision: str | None) -> dict[str, Any]:
    """Return the settings that give a model's weights a precision.

    Nothing is set where the checkpoint has it already. FP16 and BF16 serve each other: tables
    write one for the other, and they take the same time.

    Raises
    ------
    ConfigError
        Only a checkpoint that comes in this precision can have it, and this one does not.
    """
    try:
        published = load_model(model)
    except CatalogError:  # the simulation will say so, with what is known
        return {}
    if precision is None:
        return {}
    if precision in _SIXTEEN_BITS:
        is_there = published.dtype in _SIXTEEN_BITS.values()
        return {} if is_there else {"dtype": _SIXTEEN_BITS[precision]}
    if precision == "FP32":
        return {} if published.dtype == "float32" else {"dtype": "float32"}
    if published.quantization is not None:
        return {}
    if precision not in _QUANTIZED:
        raise ConfigError(
            f"precision must not be {precision} where the checkpoint is in {published.dtype}; "
            f"got {model}: give the name of a checkpoint in {precision}"
        )
    return {"quantization": _QUANTIZED[precision]}


# -- the load -------------------------------------------------------------


def load_settings(record: RunRecord) -> dict[str, Any]:
    """Return the load: stages with exactly rate x time requests, or users, and what they say."""
    if record.concurrency is not None:
        return {
            "arrivals": {"process": "closed_loop", "num_users": record.concurrency},
            "num_requests": record.concurrency * record.requests_per_user,
            **_contents(record),
        }
    stages = [
        {"rate": rate, "duration_s": duration_s}
        for rate, duration_s in zip(record.stage_rates, record.stage_durations_s, strict=True)
    ]
    given: dict[str, Any] = {
        "stages": stages,
        "arrivals": {"process": "poisson", "normalize_span": True},
        "max_outstanding": record.client_cap,
        # Before a single stage nothing has to drain.
        "stage_gap_s": record.stage_gap_s if len(stages) > 1 else None,
        **_contents(record),
    }
    return {name: value for name, value in given.items() if value is not None}


def _contents(record: RunRecord) -> dict[str, Any]:
    output = round(record.output_tokens or 0)
    if record.range_ratio is not None:
        lengths = {"prompt": round(record.prompt_tokens or 0), "output": output}
        return {name: _up_to(length, record.range_ratio) for name, length in lengths.items()}
    prompt = _prompt(record)
    if record.prompt_pool:
        groups = max(record.prefix_groups, 1)
        pool = {
            "kind": "shared_prefix",
            "num_groups": groups,
            "num_prompts_per_group": record.prompt_pool // groups,
            "system_prompt_len": record.system_prompt_tokens,
            "question_len": prompt,
            "output_len": output,
            "order": "round_robin",
        }
        return {"prompts": pool}
    shared: dict[str, Any] = {}
    if record.system_prompt_tokens:
        shared = {
            "prefix_tokens": record.system_prompt_tokens,
            "num_prefix_groups": max(record.prefix_groups, 1),
        }
    return {"prompt": prompt, "output": output, **shared}


def _up_to(longest: int, ratio: float) -> dict[str, Any]:
    return {"kind": "uniform", "min": max(int(longest * ratio), 1), "max": longest}


def _prompt(record: RunRecord) -> dict[str, Any]:
    """Return the lengths of prompts without what they share."""
    shared = record.system_prompt_tokens
    if record.prompt_mix:
        parts = [
            {"kind": "constant", "mean": length - shared, "weight": share}
            for length, share in record.prompt_mix
        ]
        return {"kind": "mixture", "parts": parts}
    mean = round(record.prompt_tokens or 0) - shared
    spread = min(SPREAD_TOKENS, mean - 1)
    return {"kind": "uniform", "min": mean - spread, "max": mean + spread}
