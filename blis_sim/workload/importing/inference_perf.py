"""Configurations of inference-perf.

Its arrivals (inference_perf/loadgen/load_timer.py): a ``constant`` stage draws
``int(rate * duration)`` exponential gaps and rescales them to the duration of the stage; a
``poisson`` stage draws a Poisson number for each second. A stage ends when all its requests
have been answered; the next begins ``interval`` seconds later, plus one second in which its
requests are queued (load_generator.py). Each of ``num_workers`` processes has at most
``worker_max_concurrency`` requests open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from blis_sim.workload.importing.inference_perf_lengths import convert_lengths
from blis_sim.workload.importing.source import Imported, Source, plain

_NOT_LOAD = (
    "api",
    "circuit_breakers",
    "metrics",
    "report",
    "server",
    "storage",
    "tokenizer",
)
_QUEUEING_S = 1.0
"""Between the interval and the begin of a stage (load_generator.py: start_time)."""
_DEFAULT_WORKER_CONCURRENCY = 100
_DEFAULT_TCP_CONNECTIONS = 2500
_LOAD_TYPES = ("constant", "poisson", "trace_replay", "concurrent", "trace_session_replay")
_POOL_TYPES = ("shared_prefix", "sharedPrefix")
_DATA_TYPES = ("random", "synthetic", *_POOL_TYPES)
_LENGTHS = ("input_distribution", "output_distribution")
_POOL_DEFAULTS = {
    "num_groups": 10,
    "num_prompts_per_group": 10,
    "system_prompt_len": 100,
    "question_len": 50,
    "output_len": 50,
}


def is_inference_perf(values: Mapping[str, Any]) -> bool:
    """Return whether a YAML file's content looks like a configuration of inference-perf."""
    load, data = values.get("load"), values.get("data")
    of_load = isinstance(load, Mapping) and bool({"stages", "type", "sweep"} & set(load))
    of_data = isinstance(data, Mapping) and "type" in data
    return of_load or of_data


def import_inference_perf(source: Source) -> Imported:
    """Return the load of a configuration of inference-perf.

    Raises
    ------
    ConfigError
        It says something that cannot be expressed, or has an unknown setting.
    """
    notices: list[str] = []
    load = source.section("load") or Source({}, source.file, {}, ("load",))
    data = source.section("data") or Source({}, source.file, {}, ("data",))
    settings = _arrivals(load, data, notices)
    if "trace" not in settings:
        settings |= _contents(data, notices)
    settings |= _limits(load, settings, notices)
    for part in (load, data):
        part.finish()
    _name_what_is_no_load(source, notices)
    source.finish()
    title = f"inference-perf configuration {source.file}"
    return Imported(settings, tuple(notices), "inference-perf", title)


def shared_prefix_prompts(pool: Source, notices: list[str]) -> dict[str, Any]:
    """Return the ``prompts`` setting for a ``shared_prefix`` section."""
    pool.refuse(
        "enable_multi_turn_chat",
        "its rounds come at the rate of the stage and wait for the answer before",
        "set it to false, or write the conversations as sessions: {rounds, think_time_s}",
    )
    pool.refuse("multimodal", "only text is simulated")
    if pool.has("seed"):
        notices.append("shared_prefix.seed: left out; --seed of the run decides all draws")
    groups = _either(pool, "num_groups", "num_unique_system_prompts", notices)
    prompts = _either(pool, "num_prompts_per_group", "num_users_per_system_prompt", notices)
    system = convert_lengths(
        pool, "system_prompt_len", notices, default=_POOL_DEFAULTS["system_prompt_len"]
    )
    if not isinstance(system, int):
        raise pool.error("system_prompt_len", "be one number of tokens for all groups")
    lengths = {}
    for key, legacy in (("question_len", "question"), ("output_len", "output")):
        name = f"{legacy}_distribution" if pool.has(f"{legacy}_distribution") else key
        if pool.has(key) and name != key and isinstance(pool.values[key], Mapping):
            raise pool.error(key, f"be a number beside {name}")
        lengths[key] = convert_lengths(pool, name, notices, default=_POOL_DEFAULTS[key])
    if isinstance(lengths["output_len"], dict):
        notices.append(
            "shared_prefix.output_len: drawn for each request; in inference-perf each prompt of "
            "the pool keeps its length"
        )
    notices.append(
        "shared_prefix: the prompts come in turn, one of each group after the other; "
        "inference-perf shuffles them once"
    )
    pool.finish()
    return {
        "kind": "shared_prefix",
        "num_groups": groups,
        "num_prompts_per_group": prompts,
        "system_prompt_len": system,
        **lengths,
        "order": "round_robin",
    }


def standard_stages(load: Source, notices: list[str]) -> list[dict[str, Any]]:
    """Return the stages of rates in ``load``."""
    stages = []
    for stage in load.sections("stages"):
        rate = stage.need_number("rate", above=0, unit="requests/s")
        duration_s = stage.need_number("duration", above=0, unit="s")
        for key in ("num_requests", "concurrency_level"):
            stage.refuse(key, "it is only for the load type concurrent")
        stage.finish()
        product = rate * duration_s
        if math.floor(product) != round(product):
            notices.append(
                f"{stage.name()}: {round(product)} requests (rate x duration, rounded); "
                f"inference-perf cuts to {math.floor(product)}"
            )
        stages.append({"rate": plain(rate), "duration_s": plain(duration_s)})
    if not stages:
        raise load.error("stages", "have at least one stage")
    return stages


def _either(pool: Source, key: str, alias: str, notices: list[str]) -> int:
    one, other = pool.whole(key, at_least=1), pool.whole(alias, at_least=1)
    if one is not None and other is not None and one != other:
        raise pool.error(key, f"agree with {alias}, which means the same", "leave one out")
    value = other if one is None else one
    return _POOL_DEFAULTS[key] if value is None else value


def _arrivals(load: Source, data: Source, notices: list[str]) -> dict[str, Any]:
    kind = load.choice("type", _LOAD_TYPES, "constant")
    load.refuse(
        "sweep",
        "its rates depend on what the server can do",
        "write the rates as load.stages",
    )
    load.refuse("lora_traffic_split", "adapters are not simulated")
    load.refuse("request_retries", "retries are not simulated")
    if kind == "trace_session_replay":
        raise load.error("type", "be constant, poisson, concurrent or trace_replay")
    if kind == "trace_replay":
        return _trace(load, data, notices)
    if kind == "concurrent":
        return _concurrent(load)
    stages = standard_stages(load, notices)
    settings: dict[str, Any] = {"stages": stages, "arrivals": {"process": "poisson"}}
    if kind == "constant":
        settings["arrivals"]["normalize_span"] = True
    else:
        notices.append(
            "load.type poisson: the number of requests of a stage is random; inference-perf "
            "stops each stage after rate x duration requests"
        )
    interval_s = load.number("interval", 1.0, at_least=0, unit="s") or 0.0
    if len(stages) > 1:
        settings["stage_gap_s"] = plain(interval_s + _QUEUEING_S)
        notices.append(
            f"load.interval {interval_s:g}: a stage starts {interval_s + _QUEUEING_S:g} s after "
            "the one before has drained (the interval, and 1 s in which inference-perf queues "
            "its requests; its check for the end adds up to 1 s more)"
        )
    return settings


def _concurrent(load: Source) -> dict[str, Any]:
    load.has("interval")
    stages = load.sections("stages")
    if len(stages) != 1:
        raise load.error(
            "stages",
            "be exactly one stage with load type concurrent",
            "make a file of each stage and run them one after the other",
        )
    users = stages[0].whole("concurrency_level", at_least=1)
    count = stages[0].whole("num_requests", at_least=1)
    for key in ("rate", "duration"):
        stages[0].refuse(key, "it is not for the load type concurrent")
    stages[0].finish()
    for key, value in (("concurrency_level", users), ("num_requests", count)):
        if value is None:
            raise stages[0].error(key, "be given with load type concurrent")
    return {
        "arrivals": {"process": "closed_loop", "num_users": users, "think_time_s": 0},
        "num_requests": count,
    }


def _trace(load: Source, data: Source, notices: list[str]) -> dict[str, Any]:
    """Return the settings for times and lengths that come from one trace."""
    times, lengths = load.section("trace"), data.section("trace")
    if times is None or lengths is None:
        raise load.error("trace", "be given in load and data with load type trace_replay")
    for trace in (times, lengths):
        trace.choice("format", ("AzurePublicDataset",), "AzurePublicDataset")
        if not trace.text("file"):
            raise trace.error("file", "be given")
        trace.finish()
    if times.values["file"] != lengths.values["file"]:
        raise lengths.error("file", "be the same file as load.trace.file")
    data.choice("type", ("random",))
    notices += _left_out(data, _LENGTHS, "; the lengths are those of the trace")
    stages = standard_stages(load, notices)
    load.has("interval")
    if len(stages) > 1:
        raise load.error("stages", "be one stage with load type trace_replay")
    return {
        "trace": str(load.file.parent / str(times.values["file"])),
        "trace_format": "azure",
        "num_requests": math.floor(stages[0]["rate"] * stages[0]["duration_s"]) or 1,
    }


def _contents(data: Source, notices: list[str]) -> dict[str, Any]:
    known = data.values.get("type")
    if known not in _DATA_TYPES:
        data.has("type")
        raise data.error(
            "type",
            f"be one of {', '.join(_DATA_TYPES[:3])}",
            "other data give no lengths without their texts; write prompt and output lengths",
        )
    kind = data.choice("type", _DATA_TYPES)
    data.refuse("multimodal", "only text is simulated")
    data.refuse("trace", "it is only used with load type trace_replay here")
    notices += _left_out(data, ("path", "use_chat_template"))
    if kind in _POOL_TYPES:
        notices += _left_out(data, _LENGTHS, "; inference-perf ignores it too")
        pool = data.section("shared_prefix")
        pool = pool or Source({}, data.file, {}, (*data.path, "shared_prefix"))
        return {"prompts": shared_prefix_prompts(pool, notices)}
    data.refuse("shared_prefix", f"the data type is {kind}", "set data.type: shared_prefix")
    lengths = {}
    for ours, key in (("prompt", "input_distribution"), ("output", "output_distribution")):
        if not data.has(key):
            raise data.error(key, f"be given with data type {kind}")
        lengths[ours] = convert_lengths(data, key, notices)
    return lengths


def _left_out(part: Source, keys: tuple[str, ...], why: str = "") -> list[str]:
    """Return a notice for each of ``keys`` that is given."""
    return [f"{part.name(key)}: left out{why}" for key in keys if part.has(key)]


def _limits(load: Source, settings: Mapping[str, Any], notices: list[str]) -> dict[str, Any]:
    """Return the client's cap and its patience."""
    limits: dict[str, Any] = {}
    timeout_s = load.number("request_timeout", above=0, unit="s")
    if timeout_s is not None:
        limits["timeout_s"] = plain(timeout_s)
    workers = load.whole("num_workers")
    default = _DEFAULT_WORKER_CONCURRENCY
    per_worker = load.whole("worker_max_concurrency", default, at_least=1) or default
    connections = load.whole("worker_max_tcp_connections", at_least=1)
    per_worker = min(per_worker, connections or _DEFAULT_TCP_CONNECTIONS)
    if settings.get("arrivals", {}).get("process") != "closed_loop":
        if workers:
            limits["max_outstanding"] = workers * per_worker
        elif workers is None:
            notices.append(
                "load.num_workers: not given; inference-perf starts one worker per CPU core, "
                f"each with at most {per_worker} open requests; no cap is assumed here, set "
                "max_outstanding for one"
            )
    notices += _left_out(load, ("circuit_breakers", "base_seed", "request_retry_backoff_sec"))
    load.has("stage_teardown_grace_seconds")
    load.has("trace")
    return limits


def _name_what_is_no_load(source: Source, notices: list[str]) -> None:
    given = [key for key in _NOT_LOAD if source.has(key)]
    if given:
        notices.append(f"left out, not part of the load: {', '.join(given)}")
    server = source.values.get("server")
    if isinstance(server, Mapping) and server.get("ignore_eos") is False:
        notices.append(
            "server.ignore_eos false: answers have their full length here; on a server they "
            "may end earlier"
        )
