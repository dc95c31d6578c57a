"""BLIS's ``combined_ground_truth.json``: servers under loads of a constant rate.

Its layout is that of inference-sim's aggregation of GuideLLM sweeps: ``experiments``, each with
``vllm_config``, ``workload_config`` and one entry in ``qps_sweeps`` for each rate. It names
neither GPU nor version: BLIS's own evaluation takes an H100 and vLLM 0.8.4, and so does this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blis_sim.errors import CatalogError
from blis_sim.validation.experiment import Case, CaseRow
from blis_sim.validation.figures import FIGURES
from blis_sim.validation.records import MeasuredRow
from blis_sim.workload.json_file import BadValueError, shown_json, whole_number

GPU = "H100"
ENGINE_VERSION = "0.8.4"
DATASET = "blis_ground_truth"

_LENGTH = {"": "mean", "_stdev": "stdev", "_min": "min", "_max": "max"}
"""Ends of the keys of a length, and the settings they are."""
_KEYS = {
    "experiment": (
        *("experiment_name", "model", "vllm_config", "workload_config", "total_kv_blocks"),
        "qps_sweeps",
    ),
    "vllm_config": (
        *("tensor_parallelism", "max_model_len", "max_num_batched_tokens", "max_num_seqs"),
        "app",
    ),
    "workload_config": ("rate_type", "max_requests", "rate", "data"),
    "data": (
        "prefix_tokens",
        *(f"{part}_tokens{end}" for part in ("prompt", "output") for end in _LENGTH),
    ),
    "qps_sweep": ("qps", *(figure.name for figure in FIGURES if figure.unit == "ms")),
}
_LIMITS = {
    "tensor_parallelism": ("tensor_parallel_size", "GPUs"),
    "max_model_len": ("max_model_len", "tokens"),
    "max_num_batched_tokens": ("max_num_batched_tokens", "tokens"),
    "max_num_seqs": ("max_num_seqs", "requests"),
}


def read_ground_truth(path: Path, gpu: str = GPU) -> tuple[Case, ...]:
    """Return a case for each rate of each experiment; ``stage`` numbers the rates.

    Raises
    ------
    CatalogError
        The file cannot be read, or a value is not what it must be; names its place.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CatalogError(
            f"{path}:{error.lineno}:{error.colno} must be valid JSON; {error.msg}"
        ) from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogError(f"{path} must be a readable UTF-8 JSON file; {error}") from None
    try:
        listed = _list(_object(document, "file"), "experiments", "")
        cases = [
            case
            for number, item in enumerate(listed)
            for case in _cases(item, f"experiments[{number}]", gpu)
        ]
    except BadValueError as error:
        raise CatalogError(f"{path}: {error}") from None
    if not cases:
        raise CatalogError(f"{path} must hold at least one experiment; got none")
    return tuple(cases)


def _cases(item: object, place: str, gpu: str) -> list[Case]:
    experiment = _object(item, place, "experiment")
    config = _object(experiment.get("vllm_config"), f"{place}.vllm_config", "vllm_config")
    workload_place = f"{place}.workload_config"
    workload = _object(experiment.get("workload_config"), workload_place, "workload_config")
    contents = _contents(workload.get("data"), f"{workload_place}.data")
    num_requests = whole_number(
        workload.get("max_requests"), f"{workload_place}.max_requests", 1, unit="requests"
    )
    name, model = (_text(experiment, key, place) for key in ("experiment_name", "model"))
    engine = {"version": ENGINE_VERSION} | _limits(config, f"{place}.vllm_config")
    blocks = whole_number(
        experiment.get("total_kv_blocks", 0), f"{place}.total_kv_blocks", 0, unit="blocks"
    )
    if blocks:  # 0 = the server's log did not say
        engine["num_gpu_blocks_override"] = blocks
    cases = []
    for number, sweep in enumerate(_list(experiment, "qps_sweeps", place)):
        where = f"{place}.qps_sweeps[{number}]"
        values = _object(sweep, where, "qps_sweep")
        figures = {key: _positive(values[key], f"{where}.{key}") for key in values}
        if "qps" not in figures:
            raise BadValueError(f"{where}.qps must be a number > 0; got nothing")
        rate = figures.pop("qps")
        load = {
            "request_rate": rate,
            "num_requests": num_requests,
            "arrivals": {"process": "constant"},
            **contents,
        }
        case = Case(
            dataset=DATASET,
            exp_id=name,
            model=model,
            gpu=gpu,
            tp=int(engine.get("tensor_parallel_size", 1)),
            load=str(config.get("app", "")),
            settings={"model": model, "hardware": gpu, "engine": engine, "workload": load},
            rows=(CaseRow(MeasuredRow(number, figures), None, rate),),
        )
        cases.append(case)
    return cases


def _limits(config: Mapping[str, Any], place: str) -> dict[str, Any]:
    return {
        setting: whole_number(config[key], f"{place}.{key}", 1, unit=unit)
        for key, (setting, unit) in _LIMITS.items()
        if config.get(key) is not None
    }


def _contents(value: object, place: str) -> dict[str, Any]:
    data = _object(value, place, "data")
    contents: dict[str, Any] = {}
    for part in ("prompt", "output"):
        given = {
            setting: whole_number(data[f"{part}_tokens{end}"], f"{place}.{part}_tokens{end}", 0)
            for end, setting in _LENGTH.items()
            if data.get(f"{part}_tokens{end}") is not None
        }
        if "mean" not in given:
            raise BadValueError(f"{place}.{part}_tokens must be a number of tokens; got nothing")
        contents[part] = given
    prefix = whole_number(data.get("prefix_tokens") or 0, f"{place}.prefix_tokens", 0)
    return contents | ({"prefix_tokens": prefix} if prefix else {})


def _object(value: object, place: str, kind: str = "") -> Mapping[str, Any]:
    """Return an object, whose keys are known where there is a list of them."""
    if not isinstance(value, dict):
        raise BadValueError(f"{place} must be an object; got {shown_json(value)}")
    known = _KEYS.get(kind)
    for key in value if known else ():
        if key not in (known or ()):
            raise BadValueError(f"{place} must have known keys; got {key!r}")
    return value


def _list(parent: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = parent.get(key)
    if not isinstance(value, list):
        where = f"{place}.{key}" if place else key
        raise BadValueError(f"{where} must be a list; got {shown_json(value)}")
    return value


def _text(parent: Mapping[str, Any], key: str, place: str) -> str:
    value = parent.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadValueError(f"{place}.{key} must be text; got {shown_json(value)}")
    return value


def _positive(value: object, place: str) -> float:
    if type(value) not in {int, float} or not 0 < value < float("inf"):  # type: ignore[operator]
        raise BadValueError(f"{place} must be a finite number > 0; got {shown_json(value)}")
    return float(value)  # type: ignore[arg-type]
