"""From the settings of a workload to its stream of requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blis_sim.config.workload import ClientSettings, LoadSettings, WorkloadSettings
from blis_sim.errors import ConfigError
from blis_sim.units import seconds_to_us
from blis_sim.workload.base import Workload
from blis_sim.workload.clients import FAR_US, Capped, Merged, Source, Stage, Stages
from blis_sim.workload.generator import GeneratedWorkload
from blis_sim.workload.load import DEFAULT_NUM_REQUESTS, Load, open_load
from blis_sim.workload.mixed import ClientWorkload, MixedWorkload

_OWN = ("request_rate", "stages", "trace")
"""Settings of the whole that are no defaults of a client: its shares of them differ."""
_WHOLE = ("clients", "stage_gap_s", "num_requests", "max_outstanding", *_OWN)
_LEAST_SUM, _LARGEST_SUM = 0.999, 1.001


def open_workload(
    settings: WorkloadSettings, seed: int, horizon_us: int | None = None
) -> Workload:
    """Return the workload that ``settings`` describe.

    A trace is read and checked here; a generated load is drawn as it is walked. The first
    generated arrival comes one gap after the begin, as in ``vllm bench serve``; with
    ``request_rate: inf`` all arrive at the begin (on a trace: at its first arrival).

    Parameters
    ----------
    settings : WorkloadSettings
        What the user wrote. A setting that was given and that the load cannot use is an
        error; what was left out has the defaults 100 requests at 1 request/s.
    seed : int
        Seed of the run, >= 0. The same seed gives the same requests whatever else changes:
        another rate stretches the same arrivals and leaves the lengths alone, and so does
        another client.
    horizon_us : int, optional
        End of the run, microseconds. A generated load that nothing else bounds then has no
        count and ends with the last arrival at or before the horizon. Otherwise the stream
        is the same with and without a horizon, and the consumer stops.

    Raises
    ------
    ConfigError
        If settings contradict each other, are out of range or cannot be used.
    TraceError
        If the trace is not acceptable.
    """
    loads = _loads(settings, seed, horizon_us)
    if settings.stage_gap_s is not None:
        return _staged(settings, loads)
    limit = settings.num_requests if settings.clients else None
    if settings.clients and limit is None and horizon_us is None and not _all_end(loads):
        _check_none_ends(loads)
        limit = DEFAULT_NUM_REQUESTS
    cap = settings.max_outstanding if settings.clients else None
    if cap is None and all(load.is_open for load in loads):
        return loads[0].stream if settings.clients is None else _mixed(loads, limit)

    def open_source() -> Source:
        return _capped(_together([load.source() for load in loads]), cap)

    return _waiting(loads, open_source, limit, cap, horizon_us)


def _loads(settings: WorkloadSettings, seed: int, horizon_us: int | None) -> list[Load]:
    """Return the load of each client, or the one load."""
    clients = settings.clients
    if clients is None:
        return [open_load("workload", settings, seed, last_arrival_us=horizon_us)]
    if not clients:
        raise ConfigError("workload.clients must have at least one client; got an empty list")
    if settings.trace is not None:
        raise ConfigError(
            f"workload.trace must not be set with workload.clients; got {settings.trace}; give "
            "it to a client"
        )
    _check_shares(settings, clients)
    _check_common(settings, clients)
    return [
        open_load(
            f"workload.clients[{number}]",
            _with_common(f"workload.clients[{number}]", settings, client),
            seed,
            name=name,
            share=client.rate_fraction,
            last_arrival_us=FAR_US if horizon_us is None else horizon_us,
        )
        for number, (name, client) in enumerate(zip(_names(clients), clients, strict=True))
    ]


def _all_end(loads: Sequence[Load]) -> bool:
    """Return whether each load ends by itself."""
    return all(
        not isinstance(load.stream, GeneratedWorkload) or load.stream.last_arrival_us is None
        for load in loads
    )


def _check_none_ends(loads: Sequence[Load]) -> None:
    """Check that no client has an end of its own where others have none.

    The default number of requests would cut what that client was said to send.
    """
    endless = [load for load in loads if not _all_end([load])]
    if len(endless) < len(loads):
        raise ConfigError(
            f"workload must have an end for {endless[0].name}, as other clients have one; got "
            "none; give it num_requests or duration_s, or give the whole a num_requests or a "
            "horizon"
        )


def _names(clients: Sequence[ClientSettings]) -> list[str]:
    names = [
        client.name if client.name is not None else f"client-{number}"
        for number, client in enumerate(clients, start=1)
    ]
    for number, name in enumerate(names):
        where = f"workload.clients[{number}].name"
        if not (name.strip() and name.isprintable()):
            raise ConfigError(f"{where} must be printable text; got {name!r}")
        if name in names[:number]:
            raise ConfigError(f"{where} must differ from the other clients' names; got {name!r}")
    return names


def _check_shares(settings: WorkloadSettings, clients: Sequence[ClientSettings]) -> None:
    """Check that the shares of a common rate are there, and add up to 1."""
    shares = [c.rate_fraction for c in clients if c.rate_fraction is not None]
    common = [name for name in ("request_rate", "stages") if getattr(settings, name) is not None]
    if not shares:
        if common:
            raise ConfigError(
                f"workload.{common[0]} must not be set without a client that has a "
                "rate_fraction of it; leave it out or give the clients their fractions"
            )
        return
    if len(common) != 1:
        given = "both" if common else "neither"
        raise ConfigError(
            "workload must have exactly one of request_rate and stages for the clients' "
            f"rate_fraction to be a share of; got {given}"
        )
    total = sum(shares)
    if not _LEAST_SUM <= total <= _LARGEST_SUM:
        raise ConfigError(
            f"workload.clients must have rate_fractions that add up to 1; got {total:g}"
        )


def _check_common(settings: WorkloadSettings, clients: Sequence[ClientSettings]) -> None:
    """Check that every common setting is some client's."""
    for name in LoadSettings.model_fields:
        is_given = name in settings.model_fields_set and getattr(settings, name) is not None
        is_common = is_given and name not in _WHOLE
        if is_common and all(name in client.model_fields_set for client in clients):
            raise ConfigError(
                f"workload.{name} must not be set where each client has its own; got "
                f"{name} with all {len(clients)}; leave it out, or change theirs"
            )


def _with_common(where: str, settings: WorkloadSettings, client: ClientSettings) -> LoadSettings:
    """Return a client's settings; those it does not have are the common ones.

    With a rate_fraction its rate or stages are those of the whole, to be scaled.
    """
    given = {
        name: getattr(settings, name)
        for name in LoadSettings.model_fields
        if name in settings.model_fields_set
        and name not in _WHOLE
        and name not in client.model_fields_set
    }
    if client.rate_fraction is not None:
        for name in _OWN:
            if getattr(client, name) is not None:
                raise ConfigError(
                    f"{where}.rate_fraction must not be set together with {where}.{name}; got "
                    f"{client.rate_fraction:g}; leave one of them out"
                )
        given |= {name: getattr(settings, name) for name in ("request_rate", "stages")}
        given = {name: value for name, value in given.items() if value is not None}
    return client.model_copy(update=given)


def _together(sources: list[Source]) -> Source:
    return sources[0] if len(sources) == 1 else Merged(sources)


def _capped(source: Source, cap: int | None) -> Source:
    return source if cap is None else Capped(source, cap)


def _num_requests(loads: Sequence[Load], limit: int | None) -> int | None:
    """Return how many requests there will be, None where that cannot be told."""
    if limit is not None and not _all_end(loads):
        return limit
    known = [load.num_requests for load in loads if load.num_requests is not None]
    if len(known) < len(loads):
        return None
    return sum(known) if limit is None else min(sum(known), limit)


def _facts(
    loads: Sequence[Load], num_requests: int | None, limit: int | None, more: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what every workload says of itself."""
    texts = [
        f"{load.name}: {load.description}" if load.name else load.description for load in loads
    ]
    if loads[0].name:
        first = "" if limit is None else f", the first {limit:,} requests"
        texts.insert(0, f"{len(loads)} clients{first}")
    return {
        "num_requests": num_requests,
        "description": "; ".join([*texts, *more]),
        "source": loads[0].stream.source if len(loads) == 1 else None,
        "notices": [notice for load in loads for notice in load.stream.notices],
        "slo_classes": tuple(dict.fromkeys(x for one in loads for x in one.stream.slo_classes)),
        "tenants": tuple(dict.fromkeys(x for one in loads for x in one.stream.tenants)),
    }


def _mixed(loads: Sequence[Load], limit: int | None) -> MixedWorkload:
    """Return several loads at once, none of which waits for answers."""
    return MixedWorkload(
        **_facts(loads, _num_requests(loads, limit), limit),
        parts=tuple(load.stream for load in loads),
        limit=limit,
    )


def _waiting(
    loads: Sequence[Load],
    open_source: Callable[[], Source],
    limit: int | None,
    cap: int | None,
    last_arrival_us: int | None = None,
) -> ClientWorkload:
    """Return clients who wait for answers."""
    more = [] if cap is None else [f"at most {cap} open"]
    return ClientWorkload(
        **_facts(loads, _num_requests(loads, limit), limit, more),
        open_source=open_source,
        limit=limit,
        last_arrival_us=last_arrival_us,
    )


def _staged(settings: WorkloadSettings, loads: Sequence[Load]) -> ClientWorkload:
    """Return loads whose stages wait until the one before has drained."""
    gap_s, cap = settings.stage_gap_s or 0.0, settings.max_outstanding
    if settings.stages is None:
        raise ConfigError(
            f"workload.stage_gap_s must be used with workload.stages; got {gap_s:g} s alone"
        )
    for number, (load, client) in enumerate(zip(loads, settings.clients or (None,), strict=True)):
        if client is not None and client.start_s is not None:
            raise ConfigError(
                f"workload.clients[{number}].start_s must not be set with workload.stage_gap_s, "
                f"which decides when a stage begins; got {client.start_s:g} s; leave it out or "
                "set workload.start_s"
            )
        is_drawn = isinstance(load.stream, GeneratedWorkload)
        if not is_drawn or (client is not None and client.rate_fraction is None):
            raise ConfigError(
                "workload.stage_gap_s must be used where all requests are drawn at the rates of "
                f"workload.stages; got {load.name or 'a trace'} with arrivals of its own"
            )
    limit = settings.num_requests if settings.clients else None
    start_us = seconds_to_us(settings.start_s or 0.0)

    def open_source() -> Source:
        openers = [load.stages() for load in loads]

        def open_stage(number: int, begin_us: int) -> Stage | None:
            stages = [opener(number, begin_us) for opener in openers]
            opened = [stage for stage in stages if stage is not None]
            if not opened:
                return None
            source = _together([stage.source for stage in opened])
            return Stage(source, max(stage.end_us for stage in opened))

        whole = Stages(open_stage, seconds_to_us(gap_s), start_us)
        return _capped(whole, cap if settings.clients else None)

    more = [f"each stage {gap_s:g} s after the one before has drained"]
    return ClientWorkload(
        **_facts(loads, _num_requests(loads, limit), limit, more),
        open_source=open_source,
        limit=limit,
    )
