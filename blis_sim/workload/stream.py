"""From the settings of a workload to its stream of requests."""

from __future__ import annotations

import math
from collections.abc import Iterable

from blis_sim.config.scenario import ArrivalProcess, WorkloadSettings
from blis_sim.errors import ConfigError
from blis_sim.units import US_PER_S, seconds_to_us
from blis_sim.workload.arrivals import Arrivals
from blis_sim.workload.base import MAX_TIME_US, MAX_TOKENS, Workload
from blis_sim.workload.generator import GeneratedWorkload, SharedPrefix
from blis_sim.workload.lengths import NormalLengths
from blis_sim.workload.presets import preset
from blis_sim.workload.replay import open_trace

DEFAULT_REQUEST_RATE = 1.0
DEFAULT_NUM_REQUESTS = 100
_MIN_BURSTINESS = 1e-3
_MAX_PREFIX_GROUPS = 1_000_000


def open_workload(
    settings: WorkloadSettings, seed: int, horizon_us: int | None = None
) -> Workload:
    """Return the workload that ``settings`` describe.

    A trace is read and checked here; a generated load is drawn as it is walked. The first
    generated arrival comes one gap after time 0, as in ``vllm bench serve``; with
    ``request_rate: inf`` all arrive at time 0 (on a trace: at its first arrival).

    Parameters
    ----------
    settings : WorkloadSettings
        What the user wrote. A setting that was given and that the load cannot use is an
        error; what was left out has the defaults 100 requests at 1 request/s.
    seed : int
        Seed of the run, >= 0. The same seed gives the same requests whatever else changes:
        another rate stretches the same arrivals and leaves the lengths alone.
    horizon_us : int, optional
        End of the run, microseconds. A generated load without ``num_requests`` then has no
        count and ends with the last arrival at or before the horizon. Otherwise the stream
        is the same with and without a horizon, and the consumer stops.

    Raises
    ------
    ConfigError
        If settings contradict each other, are out of range or cannot be used.
    TraceError
        If the trace is not acceptable.
    """
    _check_labels(settings)
    if settings.timeout_s is not None and seconds_to_us(settings.timeout_s) < 1:
        raise ConfigError(
            f"workload.timeout_s must be >= 0.000001 s; got {settings.timeout_s:g} s"
        )
    if settings.trace is not None:
        _refuse_given(
            settings,
            (
                "preset",
                "arrivals",
                "burstiness",
                "normalize_span",
                "prompt",
                "output",
                "prefix_tokens",
                "num_prefix_groups",
            ),
            "when a trace is replayed (workload.trace)",
        )
        if settings.request_rate is not None and settings.rate_scale is not None:
            raise ConfigError(
                "workload.rate_scale must not be set together with workload.request_rate; "
                f"got {settings.rate_scale:g} and {settings.request_rate:g}; leave one out"
            )
        return open_trace(settings)
    _refuse_given(
        settings, ("trace_format", "rate_scale"), "without a trace to replay (workload.trace)"
    )
    return _generated(settings, seed, horizon_us)


def _refuse_given(settings: WorkloadSettings, names: Iterable[str], mode: str) -> None:
    """Raise if the user gave one of these settings; None and false count as not given."""
    for name in names:
        value = getattr(settings, name)
        if name in settings.model_fields_set and value is not None and value is not False:
            raise ConfigError(f"workload.{name} must not be set {mode}; got {value}; leave it out")


def _check_labels(settings: WorkloadSettings) -> None:
    for name in ("slo_class", "tenant"):
        label = getattr(settings, name)
        if label is not None and not (label.strip() and label.isprintable()):
            raise ConfigError(f"workload.{name} must be printable text; got {label!r}")


def _generated(settings: WorkloadSettings, seed: int, horizon_us: int | None) -> GeneratedWorkload:
    lengths = preset(settings.preset)
    prompt = NormalLengths.from_settings("workload.prompt", settings.prompt or lengths.prompt)
    output = NormalLengths.from_settings("workload.output", settings.output or lengths.output)
    prefix = _prefix(settings)
    if prompt.min_tokens < 1 and prefix is None:
        raise ConfigError(
            f"workload.prompt.min must be >= 1 token without a shared prefix; "
            f"got {prompt.min_tokens}"
        )
    num_requests = settings.num_requests
    if num_requests is None and horizon_us is None:
        num_requests = DEFAULT_NUM_REQUESTS
    arrivals = _arrivals(settings, num_requests)
    count = "requests until the horizon" if num_requests is None else f"{num_requests:,} requests"
    name = "" if settings.prompt and settings.output else f"{settings.preset}: "
    text = f"{name}{count}, {arrivals}; prompt {prompt}, output {output}"
    if prefix is not None:
        text += f"; {prefix.num_tokens} prefix tokens in {prefix.num_groups} group(s)"
    return GeneratedWorkload(
        num_requests=num_requests,
        description=text,
        slo_classes=() if settings.slo_class is None else (settings.slo_class,),
        tenants=() if settings.tenant is None else (settings.tenant,),
        seed=seed,
        arrivals=arrivals,
        prompt=prompt,
        output=output,
        prefix=prefix,
        max_output_tokens=settings.max_output_tokens,
        timeout_us=None if settings.timeout_s is None else seconds_to_us(settings.timeout_s),
        slo_class=settings.slo_class,
        tenant=settings.tenant,
        last_arrival_us=horizon_us,
    )


def _prefix(settings: WorkloadSettings) -> SharedPrefix | None:
    tokens, groups = settings.prefix_tokens, settings.num_prefix_groups
    if tokens is not None and tokens > MAX_TOKENS:
        raise ConfigError(f"workload.prefix_tokens must be <= {MAX_TOKENS} tokens; got {tokens}")
    if not tokens:
        _refuse_given(
            settings, ("num_prefix_groups",), "without a shared prefix (workload.prefix_tokens)"
        )
        return None
    if groups is not None and groups > _MAX_PREFIX_GROUPS:
        raise ConfigError(
            f"workload.num_prefix_groups must be <= {_MAX_PREFIX_GROUPS}; got {groups}"
        )
    return SharedPrefix(tokens, groups or 1)


def _arrivals(settings: WorkloadSettings, num_requests: int | None) -> Arrivals:
    rate = DEFAULT_REQUEST_RATE if settings.request_rate is None else settings.request_rate
    _check_rate(settings, rate, num_requests)
    process, shape = settings.arrivals, settings.burstiness
    if shape is not None:
        if "arrivals" in settings.model_fields_set and process != ArrivalProcess.GAMMA:
            raise ConfigError(
                f"workload.burstiness must not be set with {process.value} arrivals "
                f"(workload.arrivals); got {shape:g}; leave one of them out"
            )
        if shape < _MIN_BURSTINESS:
            raise ConfigError(f"workload.burstiness must be >= {_MIN_BURSTINESS}; got {shape:g}")
        process = ArrivalProcess.GAMMA
    if settings.normalize_span and num_requests is None:
        raise ConfigError(
            "workload.normalize_span must be used with workload.num_requests; got no number"
        )
    return Arrivals(
        process=process,
        request_rate=rate,
        burstiness=1.0 if shape is None else shape,
        num_normalized=num_requests if settings.normalize_span else None,
    )


def _check_rate(settings: WorkloadSettings, rate: float, num_requests: int | None) -> None:
    if math.isinf(rate):
        _refuse_given(
            settings,
            ("arrivals", "burstiness", "normalize_span"),
            "when all requests arrive at once (workload.request_rate: inf)",
        )
        if num_requests is None:
            raise ConfigError(
                "workload.num_requests must be set with workload.request_rate inf and a "
                "horizon; got nothing: the load would have no end"
            )
    elif num_requests is not None and num_requests / rate > MAX_TIME_US / US_PER_S:
        raise ConfigError(
            f"workload.request_rate must be >= {num_requests * US_PER_S / MAX_TIME_US:g} "
            f"requests/s for {num_requests:,} requests; got {rate:g}"
        )
