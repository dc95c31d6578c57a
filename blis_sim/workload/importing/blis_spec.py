"""Workload specs of BLIS, versions 1 and 2 (its ``--workload-spec``).

Its rates (sim/workload/client.go): a client has aggregate_rate x rate_fraction / the sum of the
fractions of all clients whose windows overlap with its own; with aggregate_rate 0 each window
has its own rate. Times are in microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blis_sim.errors import ConfigError
from blis_sim.workload.importing.blis_clients import Member, read_clients
from blis_sim.workload.importing.blis_cohorts import read_cohorts
from blis_sim.workload.importing.inference_perf import shared_prefix_prompts, standard_stages
from blis_sim.workload.importing.servegen import import_servegen
from blis_sim.workload.importing.source import Imported, Source, plain

_US_PER_S = 1e6
_OWN_SECTIONS = ("inference_perf", "servegen_data", "cohorts", "aggregate_rate")
_OWN_CLIENT_KEYS = {"input_distribution", "output_distribution", "arrival", "tenant_id"}
_VERSIONS = ("1", "2")
_CATEGORIES = ("language", "reasoning", "multimodal")


def is_blis_spec(values: Mapping[str, Any]) -> bool:
    """Return whether a YAML file's content looks like a workload spec of BLIS."""
    if any(key in values for key in _OWN_SECTIONS):
        return True
    clients = values.get("clients")
    return isinstance(clients, list) and any(
        isinstance(client, Mapping) and bool(_OWN_CLIENT_KEYS & set(client)) for client in clients
    )


def import_blis_spec(source: Source) -> Imported:
    """Return the load of a workload spec of BLIS.

    Raises
    ------
    ConfigError
        It says something that cannot be expressed, or has an unknown setting.
    """
    notices: list[str] = []
    version = source.choice("version", _VERSIONS, "1")
    source.choice("category", _CATEGORIES, "language")
    if source.has("seed"):
        notices.append(
            f"seed {source.values['seed']}: left out, pass --seed; the draws differ from BLIS's "
            "with any seed"
        )
    if source.has("goodput_slo_targets"):
        notices.append("goodput_slo_targets: left out, they are no load; pass --goodput")
    rate = source.number("aggregate_rate", 0.0, at_least=0, unit="requests/s") or 0.0
    num_requests = source.whole("num_requests") or None
    horizon_us = source.number("horizon", at_least=0, unit="microseconds")
    given = [key for key in ("inference_perf", "servegen_data") if source.has(key)]
    members = [*read_clients(source, version, notices), *read_cohorts(source, version, notices)]
    if len(given) + bool(members) != 1:
        raise ConfigError(
            f"{source.file}: a workload spec must have clients and cohorts, inference_perf or "
            f"servegen_data; got {' and '.join(given) or 'none of them'}"
        )
    if given == ["inference_perf"]:
        settings = _inference_perf(source, rate, notices)
    elif given == ["servegen_data"]:
        settings = _servegen(source, rate, notices)
    else:
        settings = _clients(source, members, rate)
    if num_requests is not None:
        settings["num_requests"] = num_requests
    if horizon_us:
        settings["duration_s"] = plain(horizon_us / _US_PER_S)
        notices.append(
            f"horizon: the last arrival is at {horizon_us / _US_PER_S:g} s at the latest; the "
            "run goes on until all are answered unless --horizon ends it"
        )
    source.finish()
    title = f"BLIS workload spec {source.file}"
    return Imported(settings, tuple(dict.fromkeys(notices)), "blis", title)


def _inference_perf(source: Source, rate: float, notices: list[str]) -> dict[str, Any]:
    spec = source.section("inference_perf")
    pool = None if spec is None else spec.section("shared_prefix")
    if spec is None or pool is None:
        raise (spec or source).error("shared_prefix", "be given")
    stages = standard_stages(spec, notices)
    prompts = shared_prefix_prompts(pool, notices)
    spec.finish()
    if rate:
        notices.append("aggregate_rate: left out; the stages have their rates")
    notices.append(
        "inference_perf: each prompt of the pool is sent again and again, as inference-perf "
        "does it; BLIS draws a new question each time"
    )
    return {
        "stages": stages,
        "arrivals": {"process": "poisson", "normalize_span": True},
        "prompts": prompts,
    }


def _servegen(source: Source, rate: float, notices: list[str]) -> dict[str, Any]:
    data = source.section("servegen_data")
    folder = None if data is None else data.text("path")
    if data is None or folder is None:
        raise (data or source).error("path", "be given")
    for key in ("time_window", "window_duration_secs", "drain_timeout_secs"):
        data.refuse(key, "its periods are drawn at random", "give span_start and span_end")
    start_s = data.number("span_start", 0, at_least=0, unit="s") or 0
    end_s = data.number("span_end", at_least=0, unit="s") or None
    data.finish()
    if end_s is not None and end_s <= start_s:
        raise data.error("span_end", f"be > span_start ({start_s:g} s)")
    imported = import_servegen(
        source.file.parent / Path(folder).expanduser(),
        start_s=start_s,
        duration_s=None if end_s is None else end_s - start_s,
    )
    notices.extend(imported.notices)
    if rate:
        _scale_to(imported.settings["clients"], rate)
        notices.append(f"aggregate_rate: all rates scaled to a mean of {rate:g} requests/s")
    return imported.settings


def _scale_to(clients: list[dict[str, Any]], rate: float) -> None:
    """Scale the stages of all clients so that their mean rate together is ``rate``."""
    span_s = max(sum(s["duration_s"] for s in client["stages"]) for client in clients)
    count = sum(s["rate"] * s["duration_s"] for client in clients for s in client["stages"])
    for client in clients:
        for stage in client["stages"]:
            stage["rate"] = plain(stage["rate"] * rate * span_s / count)


def _clients(source: Source, members: list[Member], rate: float) -> dict[str, Any]:
    """Return the settings for clients with their rates."""
    if not rate:
        for member in members:
            member.check_own_rate()
    if all(member.is_always_on and member.fraction for member in members):
        total = sum(member.fraction for member in members)
        for member in members:
            member.settings["rate_fraction"] = plain(member.fraction / total)
        return {"request_rate": plain(rate), "clients": [member.settings for member in members]}
    clients = []
    for member in members:
        others = sum(other.fraction for other in members if other.overlaps(member))
        own = rate * member.fraction / others if member.fraction else 0.0
        if rate:
            member.refuse_own_rates()
        clients.extend(member.at_rate(own))
    if not clients:
        raise source.error("clients", "have at least one client")
    return {"clients": clients}
