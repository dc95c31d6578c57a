"""A file of served requests and, beside it, the server's own words about how it was started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blis_sim.errors import CatalogError, ConfigError
from blis_sim.validation.experiment import Case, engine_version
from blis_sim.validation.requests_file import read_requests

_REQUESTS, _META = "_requests.jsonl", "_meta.json"
_SAME = (
    *("tensor_parallel_size", "data_parallel_size", "max_model_len", "max_num_seqs"),
    *("max_num_batched_tokens", "gpu_memory_utilization", "kv_cache_dtype", "dtype"),
    *("quantization", "block_size", "enable_prefix_caching", "enable_chunked_prefill"),
)
"""Arguments of vLLM that are settings of the same name here."""
_OF_NO_MATTER = ("model", "seed")


def read_served_run(path: Path, gpu: str) -> Case:
    """Return what is simulated for a file of served requests.

    Parameters
    ----------
    path : Path
        ``NAME_requests.jsonl``; ``NAME_meta.json`` beside it has ``model``, ``vllm_version``
        and ``engine_kwargs``, the arguments of vLLM.
    gpu : str
        What it ran on: the files do not say.

    Raises
    ------
    TraceError
        The requests are not what they must be.
    CatalogError
        The file beside them is absent, or not what it must be.
    ConfigError
        The requests have no measured times.
    """
    requests = read_requests(path)
    if requests.ttft_us is None:
        raise ConfigError(
            f"--requests must have first_token_ts and last_token_ts of each request; got {path} "
            "with arrivals alone"
        )
    beside = meta_path(path)
    meta = _read(beside)
    model, engine = meta.get("model"), meta.get("engine_kwargs", {})
    if not isinstance(model, str) or not isinstance(engine, dict):
        raise CatalogError(f"{beside} must have a model and engine_kwargs; got {sorted(meta)}")
    tp = engine.get("tensor_parallel_size")
    case = Case(
        dataset=path.name,
        exp_id="",
        model=model,
        gpu=gpu,
        tp=tp if isinstance(tp, int) else 1,
        settings={},
        requests=requests,
    )
    try:
        settings = {
            "model": model,
            "hardware": gpu,
            "engine": _engine(engine, beside) | _version(meta),
            "workload": {},
        }
    except ConfigError as error:
        return replace(case, problem=str(error))
    return replace(case, settings=settings)


def meta_path(path: Path) -> Path:
    """Return where the server's own words lie."""
    name = path.name
    stem = name.removesuffix(_REQUESTS) if name.endswith(_REQUESTS) else path.stem
    return path.with_name(f"{stem}{_META}")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CatalogError(
            f"{path} must say how the server was started; there is no such file; give a table "
            "that names the requests in requests_file with --runs instead"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CatalogError(f"{path} must be a readable JSON file; got: {error}") from None
    if not isinstance(document, dict):
        raise CatalogError(f"{path} must hold a JSON object; got {type(document).__name__}")
    return document


def _version(meta: Mapping[str, Any]) -> dict[str, Any]:
    version = meta.get("vllm_version")
    return {} if version is None else {"version": engine_version(f"vLLM {version}")}


def _engine(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or name in _OF_NO_MATTER:
            continue
        if name in _SAME:
            settings[name] = value
        elif value is not False:  # what was off is no setting
            raise ConfigError(
                f"{path}: engine_kwargs.{name} must not be {value!r}: it is not simulated"
            )
    return settings
