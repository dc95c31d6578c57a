"""One client's load: from its settings to a stream, or to a source that waits for answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from blis_sim.config.lengths import DurationSettings
from blis_sim.config.workload import ArrivalProcess, LoadSettings, SharedPrefixPrompts
from blis_sim.errors import ConfigError
from blis_sim.rng import named_stream
from blis_sim.units import seconds_to_us
from blis_sim.workload.arrival_settings import arrival_plan, load_rate
from blis_sim.workload.arrivals import ArrivalPlan
from blis_sim.workload.base import CHUNK_REQUESTS, MAX_TOKENS, Int64Array, Workload
from blis_sim.workload.clients import Capped, OpenSource, Source, Stage, UserLoop
from blis_sim.workload.conversations import DrawnConversations
from blis_sim.workload.durations import Durations, open_durations
from blis_sim.workload.generator import DrawnRequests, GeneratedWorkload
from blis_sim.workload.lengths import open_lengths
from blis_sim.workload.presets import preset
from blis_sim.workload.prompts import DrawnPrompts, PromptPool, Prompts, SharedPrefix
from blis_sim.workload.rate import Rate
from blis_sim.workload.replay import open_trace
from blis_sim.workload.request import RequestSpec

DEFAULT_NUM_REQUESTS = 100
DEFAULT_PRESET = "distribution"
_MAX_PREFIX_GROUPS = 1_000_000
_MAX_POOL = 10_000_000
_RECORDED = (
    "preset",
    "prompt",
    "output",
    "prefix_tokens",
    "num_prefix_groups",
    "prefix_group",
    "prompts",
    "sessions",
)
"""What a trace says itself."""
_TIMED = ("request_rate", "stages", "rate_curve")
"""What says when requests arrive."""
_NO_RATE = "with closed_loop arrivals, which have no rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """Users who each have one request open and think before the next.

    Attributes
    ----------
    num_users : int
        How many.
    think : Durations
        From seeing an answer to the next request.
    start_us : int
        When they begin.
    end_us : int or None
        Nobody sends anything later.
    """

    num_users: int
    think: Durations
    start_us: int = 0
    end_us: int | None = None

    def loop(self, requests: Iterator[RequestSpec], seed: int, names: tuple[str, ...]) -> UserLoop:
        """Return the users at the beginning."""
        return UserLoop(
            requests,
            self.num_users,
            self._think_us(named_stream(seed, *names, "think_time")),
            start_us=self.start_us,
            end_us=self.end_us,
        )

    def _think_us(self, rng: np.random.Generator) -> Iterator[int]:
        while True:
            yield from self.think.draw_us(rng, CHUNK_REQUESTS).tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One client's load, opened.

    Attributes
    ----------
    name : str
        The client's name; empty for a load without clients.
    seed : int
        Seed of the run.
    names : tuple of str
        Beginning of the names of the random streams.
    stream : Workload
        The requests; of users, whatever their times.
    users : Users or None
        If given, they send the requests of ``stream`` one after another.
    conversations : DrawnConversations or None
        If given, each request begins one.
    max_outstanding : int or None
        Most requests open at a time.
    """

    name: str
    seed: int
    names: tuple[str, ...]
    stream: Workload
    users: Users | None = None
    conversations: DrawnConversations | None = None
    max_outstanding: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the arrivals depend on nothing the server does."""
        return self.users is None and self.conversations is None and self.max_outstanding is None

    @property
    def num_requests(self) -> int | None:
        """How many requests there will be; None where that cannot be told."""
        if self.conversations is not None or (self.users and self.users.end_us is not None):
            return None
        return self.stream.num_requests

    @property
    def description(self) -> str:
        """One line for reports."""
        text = self.stream.description
        if self.users is not None:
            text += f"; sent by {self.users.num_users} users, thinking {self.users.think}"
        if self.conversations is not None:
            text += f"; {self.conversations}"
        if self.max_outstanding is not None:
            text += f"; at most {self.max_outstanding} open"
        return text

    def source(self) -> Source:
        """Return the client at the beginning of its load."""
        requests = self.stream.requests()
        if self.users is not None:
            return self._around(self.users.loop(requests, self.seed, self.names))
        return self._around(OpenSource(requests))

    def _around(self, source: Source) -> Source:
        if self.conversations is not None:
            source = self.conversations.sessions(source, self.seed, self.names)
        return source if self.max_outstanding is None else Capped(source, self.max_outstanding)

    def stages(self) -> Callable[[int, int], Stage | None]:
        """Return what opens one stage of the load after the other, each at a time."""
        assert isinstance(self.stream, GeneratedWorkload)
        assert isinstance(self.stream.arrivals, ArrivalPlan)
        plans = self.stream.arrivals.stage_plans()
        requests = self.stream.drawn.walk(self.seed)

        def open_stage(number: int, begin_us: int) -> Stage | None:
            if number >= len(plans):
                return None
            plan = plans[number]
            times_us = (times + begin_us for times in plan.times_us(self.seed, self.names))
            source = self._around(OpenSource(requests(times_us)))
            return Stage(source, begin_us + (plan.end_us or 0))

        return open_stage


def refuse_given(settings: LoadSettings, where: str, names: tuple[str, ...], mode: str) -> None:
    """Raise if the user gave one of these settings; None and false count as not given."""
    for name in names:
        value = getattr(settings, name)
        if name in settings.model_fields_set and value is not None and value is not False:
            shown = value if isinstance(value, int | float | str) else "it"
            raise ConfigError(f"{where}.{name} must not be set {mode}; got {shown}; leave it out")


def open_load(
    where: str,
    settings: LoadSettings,
    seed: int,
    *,
    name: str = "",
    share: float | None = None,
    last_arrival_us: int | None = None,
) -> Load:
    """Return the load of one client.

    Parameters
    ----------
    where : str
        Path of the settings in messages: ``workload`` or ``workload.clients[2]``.
    settings : LoadSettings
        What the user wrote.
    seed : int
        Seed of the run, >= 0.
    name : str
        The client's name; empty for a load without clients.
    share : float or None
        Scales the rate.
    last_arrival_us : int or None
        Where a load ends that nothing else bounds; with None it has ``DEFAULT_NUM_REQUESTS``.

    Raises
    ------
    ConfigError
        If settings contradict each other, are out of range or cannot be used.
    TraceError
        If the trace is not acceptable.
    """
    _check_labels(where, settings)
    names = ("workload", "client", name) if name else ("workload",)
    stream: Workload
    if settings.trace is not None:
        stream = _recorded(where, settings, seed, names, share)
    else:
        stream = _generated(where, settings, seed, names, share, last_arrival_us)
    return Load(
        name=name,
        seed=seed,
        names=names,
        stream=stream,
        users=_users(where, settings),
        conversations=_conversations(where, settings),
        max_outstanding=settings.max_outstanding,
    )


def _check_labels(where: str, settings: LoadSettings) -> None:
    for name in ("slo_class", "tenant", "prefix_group"):
        label = getattr(settings, name)
        if label is not None and not (label.strip() and label.isprintable()):
            raise ConfigError(f"{where}.{name} must be printable text; got {label!r}")
    if settings.timeout_s is not None and seconds_to_us(settings.timeout_s) < 1:
        raise ConfigError(f"{where}.timeout_s must be >= 0.000001 s; got {settings.timeout_s:g} s")


# -- traces ---------------------------------------------------------------


def _recorded(
    where: str,
    settings: LoadSettings,
    seed: int,
    names: tuple[str, ...],
    share: float | None,
) -> Workload:
    """Return the requests of a trace."""
    refuse_given(settings, where, _RECORDED, f"when a trace is replayed ({where}.trace)")
    if is_closed_loop(settings):
        refuse_given(settings, where, _TIMED, _NO_RATE)
    if settings.request_rate is not None and settings.rate_scale is not None:
        raise ConfigError(
            f"{where}.rate_scale must not be set together with {where}.request_rate; "
            f"got {settings.rate_scale:g} and {settings.request_rate:g}; leave one out"
        )

    def arrival_times(count: int) -> Int64Array:
        if is_closed_loop(settings):
            return np.zeros(count, dtype=np.int64)
        plan = arrival_plan(where, settings, count, _shared_rate(where, settings, share))
        return np.concatenate(list(plan.times_us(seed, names)))

    return open_trace(settings, arrival_times, where)


def is_closed_loop(settings: LoadSettings) -> bool:
    """Return whether users send the requests, one after another."""
    return settings.arrivals.process is ArrivalProcess.CLOSED_LOOP


# -- drawn requests -------------------------------------------------------


def _generated(
    where: str,
    settings: LoadSettings,
    seed: int,
    names: tuple[str, ...],
    share: float | None,
    last_arrival_us: int | None,
) -> GeneratedWorkload:
    """Return requests drawn from the seed."""
    refuse_given(
        settings,
        where,
        ("trace_format", "rate_scale", "repeats", "skip_bad_rows", "tokens_per_word"),
        f"without a trace to replay ({where}.trace)",
    )
    label = names[-1] if len(names) > 1 else ""
    prompts = _prompts(where, settings, label)
    num_requests = settings.num_requests
    bounds = (num_requests, settings.duration_s, settings.stages)
    is_bounded = any(bound is not None for bound in bounds)
    if not is_bounded and last_arrival_us is None:
        num_requests = DEFAULT_NUM_REQUESTS
    if is_closed_loop(settings):
        refuse_given(settings, where, _TIMED, _NO_RATE)
        arrivals: ArrivalPlan | EveryoneAtOnce = EveryoneAtOnce(num_requests)
    else:
        rate = _shared_rate(where, settings, share)
        arrivals = arrival_plan(where, settings, num_requests, rate)
    return GeneratedWorkload(
        num_requests=arrivals.num_requests,
        description=_description(settings, arrivals, prompts),
        slo_classes=() if settings.slo_class is None else (settings.slo_class,),
        tenants=() if settings.tenant is None else (settings.tenant,),
        seed=seed,
        arrivals=arrivals,
        last_arrival_us=None if is_bounded else last_arrival_us,
        drawn=DrawnRequests(
            prompts=prompts,
            names=names,
            max_output_tokens=settings.max_output_tokens,
            timeout_us=None if settings.timeout_s is None else seconds_to_us(settings.timeout_s),
            slo_class=settings.slo_class,
            tenant=settings.tenant,
            priority=settings.priority or 0,
            session_name=_session_name(settings, label),
        ),
    )


def _shared_rate(where: str, settings: LoadSettings, share: float | None) -> Rate | None:
    """Return a share of the rate, None for the whole."""
    return None if share is None else load_rate(where, settings).scaled(share)


def _session_name(settings: LoadSettings, label: str) -> str | None:
    """Return how the client's conversations are called, None where rounds share nothing."""
    if settings.sessions is None or settings.sessions.history != "accumulate":
        return None
    return f"{label}/session" if label else "session"


def _description(
    settings: LoadSettings, arrivals: ArrivalPlan | EveryoneAtOnce, prompts: Prompts
) -> str:
    is_preset = settings.prompts is None and not (settings.prompt and settings.output)
    name = f"{settings.preset or DEFAULT_PRESET}: " if is_preset else ""
    number = arrivals.num_requests
    what = "sessions" if settings.sessions else "requests"
    count = what if number is None else f"{number:,} {what}"
    begun = str(arrivals)
    if settings.sessions:  # each arrival begins one
        begun = begun.replace("requests/s", "conversations/s")
    return f"{name}{count}, {begun}; {prompts}"


@dataclass(frozen=True, slots=True)
class EveryoneAtOnce:
    """Arrivals of users, who send when they are free: no times of their own."""

    num_requests: int | None

    def times_us(
        self, seed: int, names: tuple[str, ...] = (), chunk: int = CHUNK_REQUESTS
    ) -> Iterator[Int64Array]:
        """Yield zeros, as many as there are requests."""
        left = self.num_requests
        while left is None:
            yield np.zeros(chunk, dtype=np.int64)
        while left:
            yield np.zeros(min(left, chunk), dtype=np.int64)
            left -= min(left, chunk)

    def __str__(self) -> str:
        return "closed loop"


def _prompts(where: str, settings: LoadSettings, label: str) -> Prompts:
    if settings.prompts is not None:
        refuse_given(
            settings,
            where,
            (*_RECORDED[:6], "sessions"),
            f"with a pool of prompts ({where}.prompts)",
        )
        return _pool(f"{where}.prompts", settings.prompts, label)
    lengths = preset(settings.preset or DEFAULT_PRESET)
    prompt = open_lengths(f"{where}.prompt", settings.prompt or lengths.prompt)
    output = open_lengths(f"{where}.output", settings.output or lengths.output)
    prefix = _prefix(where, settings, label)
    if prompt.min_tokens < 1 and prefix is None:
        raise ConfigError(
            f"{where}.prompt.min must be >= 1 token without a shared prefix; "
            f"got {prompt.min_tokens}"
        )
    return DrawnPrompts(prompt, output, prefix)


def _pool(where: str, settings: SharedPrefixPrompts, label: str) -> PromptPool:
    question = open_lengths(f"{where}.question_len", settings.question_len)
    output = open_lengths(f"{where}.output_len", settings.output_len)
    if question.min_tokens + settings.system_prompt_len < 1:
        raise ConfigError(
            f"{where}.question_len must be >= 1 token without a system prompt; got "
            f"{question.min_tokens}"
        )
    pool = PromptPool(
        settings.num_groups,
        settings.num_prompts_per_group,
        settings.system_prompt_len,
        question,
        output,
        is_random=settings.order == "random",
        name=f"{label}/" if label else "",
    )
    if pool.num_prompts > _MAX_POOL:
        raise ConfigError(
            f"{where}.num_groups x num_prompts_per_group must be <= {_MAX_POOL:,} prompts; got "
            f"{pool.num_prompts:,}"
        )
    return pool


def _prefix(where: str, settings: LoadSettings, label: str) -> SharedPrefix | None:
    tokens, groups = settings.prefix_tokens, settings.num_prefix_groups
    if tokens is not None and tokens > MAX_TOKENS:
        raise ConfigError(f"{where}.prefix_tokens must be <= {MAX_TOKENS} tokens; got {tokens}")
    if not tokens:
        refuse_given(
            settings,
            where,
            ("num_prefix_groups", "prefix_group"),
            f"without a shared prefix ({where}.prefix_tokens)",
        )
        return None
    if groups is not None and groups > _MAX_PREFIX_GROUPS:
        raise ConfigError(
            f"{where}.num_prefix_groups must be <= {_MAX_PREFIX_GROUPS}; got {groups}"
        )
    name = settings.prefix_group
    default = f"{label}/prefix" if label else "prefix"
    return SharedPrefix(tokens, groups or 1, name or default, is_shared=name is not None)


# -- clients who wait -----------------------------------------------------


def _users(where: str, settings: LoadSettings) -> Users | None:
    if not is_closed_loop(settings):
        return None
    arrivals = settings.arrivals
    if arrivals.num_users is None:
        raise ConfigError(
            f"{where}.arrivals.num_users must be set with closed_loop arrivals; got nothing"
        )
    for name in ("burstiness", "cv", "normalize_span"):
        value = getattr(arrivals, name)
        if value:
            raise ConfigError(
                f"{where}.arrivals.{name} must not be set with closed_loop arrivals, which have "
                f"no gaps of their own; got {value}; leave it out"
            )
    think = arrivals.think_time_s or DurationSettings(mean=0)
    # The start of a trace says which of its rows are used, and becomes time 0.
    start_us = 0 if settings.trace is not None else seconds_to_us(settings.start_s or 0)
    end_us = None
    if settings.duration_s is not None:
        end_us = start_us + seconds_to_us(settings.duration_s)
    return Users(
        num_users=arrivals.num_users,
        think=open_durations(f"{where}.arrivals.think_time_s", think),
        start_us=start_us,
        end_us=end_us,
    )


def _conversations(where: str, settings: LoadSettings) -> DrawnConversations | None:
    sessions = settings.sessions
    if sessions is None:
        return None
    rounds = open_lengths(f"{where}.sessions.rounds", sessions.rounds, "rounds")
    if rounds.min_tokens < 1:
        raise ConfigError(f"{where}.sessions.rounds must be >= 1; got {rounds.min_tokens}")
    lengths = preset(settings.preset or DEFAULT_PRESET)
    think = sessions.think_time_s or DurationSettings(mean=0)
    return DrawnConversations(
        rounds=rounds,
        prompt=open_lengths(f"{where}.prompt", settings.prompt or lengths.prompt),
        output=open_lengths(f"{where}.output", settings.output or lengths.output),
        think=open_durations(f"{where}.sessions.think_time_s", think),
        accumulates=sessions.history == "accumulate",
        max_context_tokens=sessions.max_context_tokens,
    )
