"""What a plan must know of a load: that one rate says how heavy it is, and how long it lasts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blis_sim.config.scenario import Scenario
from blis_sim.config.workload import ArrivalProcess
from blis_sim.errors import ConfigError
from blis_sim.units import us_to_seconds
from blis_sim.workload.durations import open_durations

if TYPE_CHECKING:
    from blis_sim.config.workload import LoadSettings
    from blis_sim.engine.resolved import Resolved
    from blis_sim.workload.base import Workload

_FAST = 1e6
"""Requests per second at which what is left of the first arrival is the begin of the load."""
_LOOKED_AT = 400
"""Conversations that tell how long one lasts."""
_NO_LIMIT = 10**9
_QUESTION = {"workload", "slo", "seed", "horizon_s", "prices"}
"""Settings that ask a question; the others are answers."""
_ENDS = ("num_requests", "duration_s", "start_s")
_NUMBERS = (
    r"\b([\d,]+ )?requests, |[\d,]+ (?=sessions, )",
    r" at \S+ (requests|conversations)/s|, the first [\d,]+ requests",
    r" over [\d.,]+ s\b|(, mean rate \S+|(, )?rescaled to \S+) requests/s",
    r" \(\)",
)
"""What a description says of rates and numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLoad:
    """A load of which only the rate is open.

    Attributes
    ----------
    words : str
        What it is, without its rate and its number of requests.
    begin_s : float
        When it begins, simulated seconds.
    num_rows : int or None
        Requests of a trace, replays that the user asked for included; None = it is drawn.
    available : int
        Requests there are, replays included.
    rounds : float
        Requests of an arrival: 1, or the mean rounds of a conversation.
    thinking_s : float
        Seconds of thinking between the rounds of a conversation, mean.
    has_conversations : bool
        Whether an arrival begins a conversation.
    """

    words: str
    begin_s: float = 0.0
    num_rows: int | None = None
    available: int = _NO_LIMIT
    rounds: float = 1.0
    thinking_s: float = 0.0
    has_conversations: bool = False

    @property
    def unit(self) -> str:
        """What a rate counts."""
        return "conversations" if self.has_conversations else "requests"


def at_rate(
    scenario: Scenario,
    rate: float,
    num_requests: int | None,
    *,
    num_rows: int | None = None,
    num_replicas: int = 1,
) -> Scenario:
    """Return a scenario with another rate and number of arrivals.

    Of a trace with ``num_rows`` requests the rows that the user chose stay, replayed as often
    as the number of requests asks for. Prices have no part in a simulation.
    """
    written = scenario.model_dump(exclude_unset=True)
    written.pop("prices", None)
    load: dict[str, Any] = written.setdefault("workload", {})
    load["request_rate"] = rate
    if scenario.workload.trace is None:
        load.pop("duration_s", None)
    if num_requests is not None:
        load["num_requests"] = num_requests
        if num_rows is not None and num_requests > num_rows:
            before = load.get("repeats") or 1
            load["repeats"] = before * math.ceil(num_requests / num_rows)
    if num_replicas > 1:
        written.setdefault("cluster", {})["num_instances"] = num_replicas
    return Scenario.model_validate(written)


def look_at(scenario: Scenario) -> tuple[Resolved, PlanLoad]:
    """Return a scenario, looked up, and what a plan must know of its load.

    Raises
    ------
    ConfigError, CatalogError, SimulationError, TraceError
        It cannot be simulated.
    """
    from blis_sim import api

    load = scenario.workload
    number = None if load.trace is not None else _LOOKED_AT
    resolved = api.resolve(at_rate(scenario, _FAST, number))
    workload = resolved.workload
    is_recorded = load.trace is not None
    first = next(iter(workload.requests()))
    rounds, thinking_s = 1.0, 0.0
    if load.sessions is not None:
        rounds, thinking_s = _conversations(load, workload)
    return resolved, PlanLoad(
        words=_words(workload.description),
        begin_s=round(us_to_seconds(first.arrival_us), 3),
        num_rows=workload.num_requests if is_recorded else None,
        available=load.num_requests or _NO_LIMIT if is_recorded else _NO_LIMIT,
        rounds=rounds,
        thinking_s=thinking_s,
        has_conversations=load.sessions is not None,
    )


def _words(description: str) -> str:
    for pattern in _NUMBERS:
        description = re.sub(pattern, "", description)
    return description


def _conversations(load: LoadSettings, workload: Workload) -> tuple[float, float]:
    """Return mean rounds of a conversation, and seconds of thinking between all of them."""
    rounds = sum(1 for _ in workload.requests()) / _LOOKED_AT
    think = None if load.sessions is None else load.sessions.think_time_s
    if think is None:
        return rounds, 0.0
    mean_s = open_durations("workload.sessions.think_time_s", think).mean_s
    return rounds, (rounds - 1) * mean_s


def check_scenario(scenario: Scenario) -> None:
    """Check that one rate says how heavy a load is, and that a scenario is one replica.

    Raises
    ------
    ConfigError
        It is not so.
    """
    if scenario.horizon_s is not None:
        raise ConfigError(
            "horizon_s must not be set for a plan, whose simulations are as long as their "
            f"figures need; got {scenario.horizon_s:g} s; leave it out"
        )
    _check_cluster(scenario)
    load = scenario.workload
    for where, one in (("workload", load), *_clients(scenario)):
        _check_load(where, one)
    for where, client in _clients(scenario):
        if client.rate_fraction is None:
            raise _no_rate(
                f"{where} with a rate of its own",
                "give each client a rate_fraction of workload.request_rate",
            )
        for name in _ENDS:
            if getattr(client, name):
                raise _no_rate(f"{where}.{name}: the others would be alone", "leave it out")
        if client.sessions is not None or load.sessions is not None:
            raise _no_rate(
                f"conversations of {where} beside other clients",
                "plan for conversations alone, as workload.sessions",
            )


def check_choice(path: str, where: str) -> None:
    """Check that a setting that candidates differ in is not what they are compared for.

    Raises
    ------
    ConfigError
        It is part of the question: the easiest load, or limit, would win.
    """
    if path.partition(".")[0] in _QUESTION:
        raise ConfigError(
            f"{where} must name what is deployed; got {path}, which all candidates of a plan must "
            "share; give it one value, and plan once for each"
        )


def _check_cluster(scenario: Scenario) -> None:
    cluster = scenario.cluster
    given = "cluster.pools" if cluster.pools is not None else ""
    given = "cluster.autoscaling" if cluster.autoscaling is not None else given
    given = "cluster.num_instances" if cluster.num_instances > 1 else given
    if given:
        raise ConfigError(
            f"{given} must not be set for a plan, which looks for the number of replicas of one "
            "kind; leave it out, or compare clusters with blis sweep or blis compare"
        )


def _clients(scenario: Scenario) -> list[tuple[str, Any]]:
    clients = scenario.workload.clients or ()
    return [(f"workload.clients[{number}]", each) for number, each in enumerate(clients)]


def _check_load(where: str, load: LoadSettings) -> None:
    process = load.arrivals.process
    if process is ArrivalProcess.CLOSED_LOOP:
        raise _no_rate(
            f"{where}.arrivals closed_loop, where answers decide when the next request comes",
            "give open arrivals such as poisson, or compare numbers of users with blis sweep",
        )
    if process is ArrivalProcess.ALL_AT_ONCE:
        raise _no_rate(f"{where}.arrivals all_at_once", "give open arrivals such as poisson")
    reasons: Mapping[str, str] = {
        "stages": "leave them out and plan for the highest of their rates",
        "rate_curve": "leave it out and plan for the rate at its peak",
        "rate_scale": "leave it out: --rate is the rate to carry",
        "max_outstanding": "leave it out: with it the clients wait instead of the requests, and "
        "any rate would do",
    }
    for name, remedy in reasons.items():
        if getattr(load, name) is not None:
            raise _no_rate(f"{where}.{name}", remedy)


def _no_rate(what: str, remedy: str = "") -> ConfigError:
    text = f"the load must have one rate to be planned for; got {what}"
    return ConfigError(f"{text}; {remedy}" if remedy else text)
