"""Clients of BLIS workload specs (sim/workload/spec.go, client.go)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from blis_sim.errors import ConfigError
from blis_sim.workload.importing.blis_lengths import convert_arrival, convert_distribution
from blis_sim.workload.importing.source import Source, plain

_US_PER_S = 1e6
_DEFAULT_PREFIX_TOKENS = 50
_SLO_CLASSES = ("critical", "standard", "sheddable", "batch", "background")
_SLO_CLASSES_OF_1 = {"realtime": "critical", "interactive": "standard"}


@dataclass(slots=True)
class Window:
    """A time in which a client sends, seconds, and what it sends then."""

    start_s: float
    end_s: float
    rate: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Member:
    """A client with its share of the rate, before its rate is known."""

    source: Source
    settings: dict[str, Any]
    fraction: float = 0.0
    windows: list[Window] = field(default_factory=list)
    ramp_s: float = 0.0
    """After the last window the rate falls to 0 within this time."""
    factor: float = 1.0
    """Multiplies the rate (the mean of a daily curve)."""

    @property
    def is_always_on(self) -> bool:
        """Return whether the rate is the same all the time."""
        return not self.windows and not self.ramp_s and self.factor == 1

    def overlaps(self, other: Member) -> bool:
        """Return whether both ever send at one time."""
        if not self.windows or not other.windows:
            return True
        return any(
            a.start_s < b.end_s + other.ramp_s and b.start_s < a.end_s + self.ramp_s
            for a in self.windows
            for b in other.windows
        )

    def check_own_rate(self) -> None:
        """Raise unless the client needs no share of the aggregate rate."""
        if self.fraction and not (self.windows and all(w.rate is not None for w in self.windows)):
            raise ConfigError(
                f"{self.source.where('rate_fraction')} must be used with aggregate_rate > 0 or "
                f"with windows that have a trace_rate; got {self.fraction:g}"
            )

    def refuse_own_rates(self) -> None:
        """Raise when a window has a rate of its own beside the aggregate rate."""
        if any(window.rate is not None for window in self.windows):
            raise ConfigError(
                f"{self.source.where()}: trace_rate must be used with aggregate_rate 0, where it "
                "is a rate in requests/s; beside an aggregate rate it cannot be expressed"
            )

    def at_rate(self, rate: float) -> list[dict[str, Any]]:
        """Return the client, or one for each window where they differ."""
        rate *= self.factor
        if any(window.settings for window in self.windows):
            return [
                self._in_window(rate, window, f"{self.settings['name']}/window-{number}")
                for number, window in enumerate(self.windows, start=1)
            ]
        client = copy.deepcopy(self.settings)
        if self.ramp_s or len(self.windows) > 1:
            client["stages"] = self._stages(rate)
        elif self.windows:
            return [self._in_window(rate, self.windows[0], client["name"])]
        elif self.fraction:
            client["request_rate"] = plain(rate)
        return [client]

    def _in_window(self, rate: float, window: Window, name: str) -> dict[str, Any]:
        client = copy.deepcopy(self.settings) | {"name": name} | copy.deepcopy(window.settings)
        client["request_rate"] = plain(rate if window.rate is None else window.rate)
        client["start_s"] = plain(window.start_s)
        client["duration_s"] = plain(window.end_s - window.start_s)
        return client

    def _stages(self, rate: float) -> list[dict[str, Any]]:
        stages: list[dict[str, Any]] = []
        now_s = 0.0
        for window in sorted(self.windows, key=lambda window: window.start_s):
            if window.start_s < now_s:
                raise ConfigError(
                    f"{self.source.where('lifecycle')} must have windows that do not overlap; "
                    f"got one at {window.start_s:g} s before the end at {now_s:g} s"
                )
            if window.start_s > now_s:
                stages.append({"rate": 0, "duration_s": plain(window.start_s - now_s)})
            own = rate if window.rate is None else window.rate
            span_s = window.end_s - window.start_s
            if span_s > 0:
                stages.append({"rate": plain(own), "duration_s": plain(span_s)})
            now_s = window.end_s
        if self.ramp_s:
            stages.append({"rate": plain(rate), "duration_s": plain(self.ramp_s), "end_rate": 0})
        return stages


def read_clients(spec: Source, version: str, notices: list[str]) -> list[Member]:
    """Return the entries of ``clients``.

    Raises
    ------
    ConfigError
        A setting cannot be expressed, is unknown or out of range.
    """
    members = []
    for number, client in enumerate(spec.sections("clients"), start=1):
        name = client.text("id") or f"client-{number}"
        member = Member(client, {"name": name} | read_labels(client, version))
        _read_arrivals(member, notices)
        read_contents(member, notices)
        lifecycle = client.section("lifecycle")
        if lifecycle is not None:
            member.windows = [_window(window, notices) for window in lifecycle.sections("windows")]
            lifecycle.finish()
            if not member.windows:
                raise lifecycle.error("windows", "have at least one window")
        client.finish()
        members.append(member)
    _share_prefix_lengths(members, notices)
    _check_names(members)
    return members


def read_labels(client: Source, version: str) -> dict[str, Any]:
    """Return the class and the tenant of a client, in the words of version 2."""
    labels: dict[str, Any] = {}
    slo_class = client.text("slo_class")
    if slo_class is not None:
        known = (*_SLO_CLASSES, *(_SLO_CLASSES_OF_1 if version == "1" else ()))
        slo_class = client.choice("slo_class", known)
        labels["slo_class"] = _SLO_CLASSES_OF_1.get(slo_class, slo_class)
    tenant = client.text("tenant_id")
    if tenant is not None:
        labels["tenant"] = tenant
    return labels


def _read_arrivals(member: Member, notices: list[str]) -> None:
    client = member.source
    users = client.whole("concurrency", 0) or 0
    think_us = client.number("think_time_us", 0, at_least=0, unit="microseconds") or 0.0
    if users:
        client.refuse("rate_fraction", "the client has a concurrency", "leave one of them out")
        client.has("arrival")
        client.refuse("lifecycle", "the client has a concurrency")
        member.settings["arrivals"] = {
            "process": "closed_loop",
            "num_users": users,
            "think_time_s": plain(think_us / _US_PER_S),
        }
        return
    client.refuse("think_time_us", "the client has no concurrency")
    member.fraction = client.need_number("rate_fraction", above=0)
    member.settings["arrivals"] = convert_arrival(client, "arrival", notices)


def read_contents(member: Member, notices: list[str]) -> None:
    """Read what clients and cohorts have in common: lengths, prefix, rounds, labels."""
    client, settings = member.source, member.settings
    settings["prompt"] = convert_distribution(client, "input_distribution")
    settings["output"] = convert_distribution(client, "output_distribution")
    client.refuse("multimodal", "only text is simulated")
    client.refuse("adapter", "adapters are not simulated")
    group, tokens = client.text("prefix_group"), client.whole("prefix_length", 0) or 0
    if group is not None:
        settings["prefix_group"] = group
        settings["prefix_tokens"] = tokens or _DEFAULT_PREFIX_TOKENS
    elif tokens:
        notices.append(f"{client.name('prefix_length')}: left out; without prefix_group BLIS too")
    timeout_us = client.number("timeout", at_least=0, unit="microseconds")
    if timeout_us:
        settings["timeout_s"] = plain(timeout_us / _US_PER_S)
    elif timeout_us is None:
        notices.append("timeout: none here where none is given; newer BLIS has 300 s then")
    _read_rounds(member, notices)
    _name_what_is_left_out(client, notices)


def _read_rounds(member: Member, notices: list[str]) -> None:
    client = member.source
    closed = client.flag("closed_loop")
    reasoning = client.section("reasoning")
    rounds = None if reasoning is None else reasoning.section("multi_turn")
    if reasoning is not None:
        if reasoning.has("reason_ratio_distribution"):
            notices.append("reasoning.reason_ratio_distribution: left out; it changes no length")
        reasoning.finish()
    if rounds is None:
        return
    if closed is False:
        raise client.error(
            "closed_loop",
            "be true with multi_turn",
            "rounds that do not wait for the answer cannot be expressed",
        )
    count = rounds.whole("max_rounds", at_least=1)
    if count is None:
        raise rounds.error("max_rounds", "be given")
    think_us = rounds.number("think_time_us", 0, at_least=0, unit="microseconds") or 0.0
    growth = rounds.text("context_growth")
    if growth not in {None, "accumulate"}:
        raise rounds.error("context_growth", "be accumulate or nothing")
    if rounds.flag("single_session"):
        member.settings["num_requests"] = 1
    rounds.finish()
    member.settings["sessions"] = {
        "rounds": count,
        "think_time_s": plain(think_us / _US_PER_S),
        "history": growth or "none",
    }


def _name_what_is_left_out(client: Source, notices: list[str]) -> None:
    if client.text("model") is not None:
        notices.append(f"model {client.values['model']}: left out; set --model of the run")
    if client.flag("streaming") is False:
        notices.append("streaming false: all answers are streamed here")
    network = client.section("network")
    if network is not None:
        rtt_ms = network.number("rtt_ms", 0, at_least=0, unit="ms")
        network.number("bandwidth_mbps", at_least=0)
        network.finish()
        notices.append(
            f"{client.name('network')}: left out; the times are the server's, the client sees "
            f"{rtt_ms:g} ms more"
        )
    if client.has("slo_target_us"):
        notices.append("slo_target_us: left out, it is no load; pass --goodput")


def _window(source: Source, notices: list[str]) -> Window:
    start_us = source.number("start_us", 0, at_least=0, unit="microseconds") or 0.0
    end_us = source.need_number("end_us", above=start_us, unit="microseconds")
    window = Window(start_us / _US_PER_S, end_us / _US_PER_S)
    window.rate = source.number("trace_rate", above=0, unit="requests/s")
    if source.has("arrival"):
        window.settings["arrivals"] = convert_arrival(source, "arrival", notices)
    for ours, key in (("prompt", "input_distribution"), ("output", "output_distribution")):
        if source.has(key):
            window.settings[ours] = convert_distribution(source, key)
    source.finish()
    return window


def _share_prefix_lengths(members: list[Member], notices: list[str]) -> None:
    """Give all clients of a prefix group the length of the first (as BLIS does)."""
    tokens: dict[str, int] = {}
    for member in members:
        group = member.settings.get("prefix_group")
        if group is None:
            continue
        own = member.settings["prefix_tokens"]
        if tokens.setdefault(group, own) != own:
            member.settings["prefix_tokens"] = tokens[group]
            notices.append(
                f"prefix_group {group}: {tokens[group]} tokens for all its clients, as its first "
                "client says"
            )


def _check_names(members: list[Member]) -> None:
    seen: set[str] = set()
    for member in members:
        name = member.settings["name"]
        if name in seen:
            raise member.source.error("id", "be different for each client")
        seen.add(name)
