"""From the settings of a load to the plan of its arrivals."""

from __future__ import annotations

import math

from blis_sim.config.workload import ArrivalProcess, LoadSettings
from blis_sim.errors import ConfigError
from blis_sim.units import US_PER_S
from blis_sim.workload.arrivals import ArrivalPlan
from blis_sim.workload.base import MAX_TIME_US
from blis_sim.workload.curves import rate_curve
from blis_sim.workload.gaps import gap_process
from blis_sim.workload.rate import Rate

DEFAULT_REQUEST_RATE = 1.0
_MAX_TIME_S = MAX_TIME_US / US_PER_S
_MAX_DUE = 1e15


def load_rate(where: str, settings: LoadSettings) -> Rate:
    """Return the rate over time of ``request_rate`` or ``stages``, with ``rate_curve``.

    Parameters
    ----------
    where : str
        Name of the settings in messages, e.g. ``workload``.
    settings : LoadSettings
        What the user wrote; 1 request/s without a rate.

    Raises
    ------
    ConfigError
        If both or no usable rate is given, or a curve is not acceptable.
    """
    given = settings.rate_curve or ()
    curves = [rate_curve(f"{where}.rate_curve[{i}]", curve) for i, curve in enumerate(given)]
    request_rate = settings.request_rate
    if settings.stages is None:
        rate = Rate.constant(DEFAULT_REQUEST_RATE if request_rate is None else request_rate)
        if curves and rate.constant_per_s == math.inf:
            raise _at_once(where, "rate_curve", f"{len(curves)} curves", "request_rate: inf")
        return Rate(rate.stages, tuple(curves))
    if request_rate is not None:
        raise ConfigError(
            f"{where}.request_rate must not be set together with {where}.stages; "
            f"got {request_rate:g} requests/s and {len(settings.stages)} stages; leave one out"
        )
    if not settings.stages:
        raise ConfigError(f"{where}.stages must have at least one stage; got none")
    for number, stage in enumerate(settings.stages):
        if stage.duration_s * US_PER_S < 1:
            raise ConfigError(
                f"{where}.stages[{number}].duration_s must be >= 0.000001 s; "
                f"got {stage.duration_s:g} s"
            )
    return Rate.in_stages(
        [
            (
                stage.rate,
                stage.rate if stage.end_rate is None else stage.end_rate,
                stage.duration_s,
            )
            for stage in settings.stages
        ],
        curves,
    )


def arrival_plan(
    where: str, settings: LoadSettings, num_requests: int | None, rate: Rate | None = None
) -> ArrivalPlan:
    """Return the arrivals that the settings describe.

    Parameters
    ----------
    where : str
        Name of the settings in messages, e.g. ``workload`` or ``workload.clients[2]``.
    settings : LoadSettings
        Arrivals, begin and duration of the load.
    num_requests : int or None
        How many at most; None = as long as stages or ``duration_s`` last, or without end.
    rate : Rate, optional
        The rate of the load, e.g. a share of a common one; else that of the settings.

    Raises
    ------
    ConfigError
        If settings contradict each other, are out of range or cannot be used.
    """
    gaps = gap_process(f"{where}.arrivals", settings.arrivals)
    if gaps.process == ArrivalProcess.ALL_AT_ONCE:
        for name in ("request_rate", "stages", "rate_curve"):
            value = getattr(settings, name)
            if value not in (None, (), math.inf):
                got = f"{len(value)} entries" if isinstance(value, tuple) else f"{value:g}"
                raise _at_once(where, name, got, "arrivals.process: all_at_once")
        rate = Rate.constant(math.inf)
    plan = ArrivalPlan(
        gaps=gaps,
        rate=load_rate(where, settings) if rate is None else rate,
        limit=num_requests,
        start_s=settings.start_s or 0.0,
        duration_s=settings.duration_s,
        normalize_span=settings.arrivals.normalize_span,
    )
    if plan.is_at_once:
        _check_at_once(where, settings, num_requests)
    else:
        _check_span(where, plan)
    return plan


def _at_once(where: str, name: str, got: str, because: str) -> ConfigError:
    return ConfigError(
        f"{where}.{name} must not be set when all requests arrive at once ({where}.{because}); "
        f"got {got}; leave it out"
    )


def _check_at_once(where: str, settings: LoadSettings, num_requests: int | None) -> None:
    is_process = settings.arrivals.process == ArrivalProcess.ALL_AT_ONCE
    because = "arrivals.process: all_at_once" if is_process else "request_rate: inf"
    for name in sorted(settings.arrivals.model_fields_set):
        value = getattr(settings.arrivals, name)
        if value is None or value is False or value == ArrivalProcess.ALL_AT_ONCE:
            continue
        raise _at_once(where, f"arrivals.{name}", str(value), because)
    if settings.duration_s is not None:
        raise _at_once(where, "duration_s", f"{settings.duration_s:g} s", because)
    if num_requests is None:
        raise ConfigError(
            f"{where}.num_requests must be set with {where}.{because.replace(':', '')} and a "
            "horizon; got nothing: the load would have no end"
        )


def _check_span(where: str, plan: ArrivalPlan) -> None:
    end_s = plan.window.end_s
    if math.isfinite(end_s):
        _check_stages(where, plan)
    elif plan.normalize_span and plan.limit is None:
        raise ConfigError(
            f"{where}.arrivals.normalize_span must be used with {where}.num_requests, "
            f"{where}.stages or {where}.duration_s; got none of them: the span has no end"
        )
    per_s = plan.rate.stages[0].begin_rate
    if math.isinf(end_s) and plan.limit is not None and plan.limit / per_s > _MAX_TIME_S:
        raise ConfigError(
            f"{where}.request_rate must be >= {plan.limit / _MAX_TIME_S:g} "
            f"requests/s for {plan.limit:,} requests; got {per_s:g}"
        )
    if plan.start_s + (end_s if math.isfinite(end_s) else 0) > _MAX_TIME_S:
        raise ConfigError(
            f"{where} must end within {_MAX_TIME_S:,.0f} s; got arrivals from "
            f"{plan.start_s:,g} s for {end_s:,g} s"
        )


def _check_stages(where: str, plan: ArrivalPlan) -> None:
    window = plan.window
    if window.is_zero:
        raise ConfigError(
            f"{where}.stages must have a rate > 0 requests/s in one of them; "
            f"got no arrival in {window.end_s:,g} s"
        )
    if sum((s.end_s - s.begin_s) * (s.begin_rate + s.end_rate) for s in window.stages) > _MAX_DUE:
        raise ConfigError(
            f"{where} must have at most {_MAX_DUE:g} arrivals; got {window} for "
            f"{window.end_s:,g} s"
        )
    if plan.normalize_span and not plan.num_requests:
        raise ConfigError(
            f"{where}.arrivals.normalize_span must leave an arrival in a stage; got rates x "
            f"seconds below a half in each of {len(window.stages)}; raise a rate or a duration"
        )
