"""The load, as a user writes it: one stream of requests, or several clients.

The settings of a client and of a load without clients are the same. ``WorkloadSettings``
adds what concerns all clients together.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from blis_sim.config.lengths import DurationSettings, LengthSettings
from blis_sim.config.section import Section

PresetName = Literal["chatbot", "contentgen", "summarization", "multidoc", "distribution"]


class ArrivalProcess(StrEnum):
    """How the gaps between arrivals are drawn."""

    POISSON = "poisson"
    CONSTANT = "constant"
    GAMMA = "gamma"
    WEIBULL = "weibull"
    ALL_AT_ONCE = "all_at_once"
    CLOSED_LOOP = "closed_loop"


class ArrivalSettings(Section):
    """When requests arrive; the name of a process alone stands for the process."""

    process: ArrivalProcess = ArrivalProcess.POISSON
    burstiness: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Gamma shape: 1 = Poisson, < 1 burstier, > 1 smoother. Given alone it selects gamma."""
    cv: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Coefficient of variation of the gaps (gamma, weibull); 1 = Poisson."""
    normalize_span: bool = False
    """Rescale the gaps so that the last arrival is at exactly the end: of each stage, of
    ``duration_s``, or at num_requests / request_rate. The number of arrivals is then exactly
    rate x time."""
    num_users: int | None = Field(default=None, ge=1, le=1_000_000)
    """Users who each have one request open at a time (closed_loop)."""
    think_time_s: DurationSettings | None = None
    """From seeing an answer to sending the next request (closed_loop); 0 when absent."""

    @classmethod
    def from_short(cls, value: Any) -> Any:
        """Return the settings of the name of a process."""
        return {"process": value} if isinstance(value, str) else value


class StageSettings(Section):
    """A stretch of time at one rate, or at a rate that changes evenly."""

    rate: float = Field(ge=0, lt=float("inf"))
    """Requests per second, at its beginning."""
    duration_s: float = Field(gt=0, lt=float("inf"))
    end_rate: float | None = Field(default=None, ge=0, lt=float("inf"))
    """Requests per second at its end (a ramp); the same all the time when absent."""


class RateCurveSettings(Section):
    """A change of the rate over time.

    ``diurnal``: a day, the rate follows 1 + amplitude * cos(2 pi (t - peak_at_s) / period_s).
    ``spike``: from start_s for duration_s the rate is multiplied by factor.
    ``on_off``: windows of on_s seconds at the rate and of off_s seconds at off_factor times
    the rate, in turn.
    """

    kind: Literal["diurnal", "spike", "on_off"]
    amplitude: float | None = Field(default=None, ge=0, le=1)
    """diurnal: how far the rate swings around its mean, as a share of it (0.5)."""
    period_s: float | None = Field(default=None, gt=0, lt=float("inf"))
    """diurnal: length of a day, seconds (86400)."""
    peak_at_s: float | None = Field(default=None, ge=0, lt=float("inf"))
    """diurnal: time of the highest rate, seconds from the start (50400, 14:00 of a day that
    begins at midnight)."""
    start_s: float | None = Field(default=None, ge=0, lt=float("inf"))
    """spike: when it begins, seconds from the start."""
    duration_s: float | None = Field(default=None, gt=0, lt=float("inf"))
    """spike: how long it lasts, seconds."""
    factor: float | None = Field(default=None, ge=0, lt=float("inf"))
    """spike: multiplies the rate."""
    on_s: float | None = Field(default=None, gt=0, lt=float("inf"))
    """on_off: length of a window with load, seconds; the first begins at the start."""
    off_s: float | None = Field(default=None, gt=0, lt=float("inf"))
    """on_off: length of a window without, seconds."""
    off_factor: float | None = Field(default=None, ge=0, lt=float("inf"))
    """on_off: multiplies the rate in the windows without load (0)."""


class SharedPrefixPrompts(Section):
    """A pool of prompts sent again and again; those of one group begin alike.

    As inference-perf's shared_prefix: ``num_groups`` system prompts, each in front of
    ``num_prompts_per_group`` questions.
    """

    kind: Literal["shared_prefix"]
    num_groups: int = Field(ge=1, le=1_000_000)
    num_prompts_per_group: int = Field(ge=1, le=1_000_000)
    system_prompt_len: int = Field(ge=0, lt=2**31)
    """Length of the system prompt of a group, tokens."""
    question_len: LengthSettings
    """Length of a question, tokens; each prompt of the pool has its own."""
    output_len: LengthSettings
    """Length of an answer, tokens; drawn for each request."""
    order: Literal["round_robin", "random"] = "round_robin"
    """Prompts in turn, one of each group after the other, or drawn uniformly."""


class SessionSettings(Section):
    """Conversations: each arrival begins one; its further rounds follow the answers."""

    rounds: LengthSettings
    """Rounds of a conversation, >= 1; a number alone is a constant."""
    think_time_s: DurationSettings | None = None
    """From seeing an answer to sending the next round; 0 when absent."""
    history: Literal["accumulate", "none"] = "accumulate"
    """Whether a prompt holds all earlier prompts and answers in front of its new tokens."""
    max_context_tokens: int | None = Field(default=None, ge=1)
    """A later round whose prompt and answer would exceed this is not sent; the conversation
    ends."""


class LoadSettings(Section):
    """One stream of requests: drawn, or replayed from a trace."""

    preset: PresetName | None = None
    """Lengths where ``prompt`` or ``output`` are not given; ``distribution`` when absent."""
    trace: Path | None = None
    """Trace to replay instead of drawing requests."""
    trace_format: str = "auto"
    """Format of the trace, or ``auto``."""
    skip_bad_rows: bool = False
    """Leave out malformed rows of the trace and count them; false = an error."""
    tokens_per_word: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Tokens per word of text, for traces that hold text instead of lengths."""
    request_rate: float | None = Field(default=None, gt=0)
    """Requests (or sessions) per second (default 1 for generated load); ``inf`` = all at once.
    On a trace: gaps are stretched to this mean rate."""
    rate_scale: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Multiplies the rate of a trace."""
    repeats: int | None = Field(default=None, ge=1, le=1_000_000)
    """How often a trace is replayed in a row (default 1); each time its sessions and prompts
    are new ones, and only named prefixes are shared."""
    stages: tuple[StageSettings, ...] | None = None
    """Rates one after the other, instead of ``request_rate``."""
    rate_curve: tuple[RateCurveSettings, ...] | None = None
    """Changes of the rate over time; several multiply."""
    arrivals: ArrivalSettings = ArrivalSettings()
    num_requests: int | None = Field(default=None, ge=1)
    """How many arrivals (default 100 for generated load; a trace: all of it)."""
    start_s: float | None = Field(default=None, ge=0, lt=float("inf"))
    """Begin of the load, seconds; of a trace: rows before it are left out, and it becomes
    time 0."""
    duration_s: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Arrivals later than this after the begin are left out."""
    prompt: LengthSettings | None = None
    """Prompt lengths; None = the preset's."""
    output: LengthSettings | None = None
    """Output lengths; None = the preset's."""
    prefix_tokens: int | None = Field(default=None, ge=0)
    """Length of a prefix shared within each group; added in front of the drawn prompt."""
    num_prefix_groups: int | None = Field(default=None, ge=1)
    """How many distinct prefixes (default 1); a request draws its group uniformly."""
    prefix_group: str | None = None
    """Name of the shared prefix; clients that name the same one share it."""
    prompts: SharedPrefixPrompts | None = None
    """A pool of prompts instead of ``prompt``, ``output`` and prefixes."""
    sessions: SessionSettings | None = None
    """Each arrival begins a conversation."""
    max_outstanding: int | None = Field(default=None, ge=1)
    """Most requests the client has open at a time; the next waits, and its times count from
    when it is sent."""
    max_output_tokens: int | None = Field(default=None, ge=0)
    """The client's limit on generated tokens."""
    timeout_s: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Clients give up this long after sending."""
    slo_class: str | None = None
    tenant: str | None = None
    priority: int | None = None
    """Lower is more urgent; 0 when absent."""


class ClientSettings(LoadSettings):
    """One of several clients."""

    name: str | None = None
    """For messages and reports; its random draws depend on it. ``client-1``, ``client-2``, …
    by position when absent."""
    rate_fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of the common ``request_rate`` or ``stages``; the shares must add up to 1."""


class WorkloadSettings(LoadSettings):
    """The whole load: a preset or lengths with arrivals, a trace, or several clients."""

    clients: tuple[ClientSettings, ...] | None = None
    """Several streams of requests at once."""
    stage_gap_s: float | None = Field(default=None, ge=0, lt=float("inf"))
    """A stage starts this long after all requests of the one before have been answered;
    without it, at its time."""
