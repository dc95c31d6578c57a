"""The words of a study: points to simulate, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from blis_sim.metrics.plain import to_plain

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.config.scenario import Scenario

Label = str | int | float | bool | None
"""A setting's value where it sets a point apart from the others."""


class StudyKind(StrEnum):
    """Which command asked."""

    SWEEP = "sweep"
    PLAN = "plan"
    TUNE = "tune"


class OutcomeStatus(StrEnum):
    """What became of a point."""

    DONE = "done"
    INFEASIBLE = "infeasible"
    """It cannot be simulated as it is written; ``reason`` says why. Trying again is of no use."""
    FAILED = "failed"
    """The program or its worker died. It is tried again when the study is run again."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a run whose figures count.

    Attributes
    ----------
    from_s, to_s : float
        Simulated seconds from the start of the clock, ``0 <= from_s < to_s``. Requests that
        arrive, and gaps between tokens that end, in between are counted.
    num_slices : int
        Equal parts of the window, >= 2, whose scatter gives standard errors.
    """

    from_s: float
    to_s: float
    num_slices: int = 20

    def marks_s(self) -> list[float]:
        """Return the ends of its slices, seconds ascending; ``num_slices + 1`` of them."""
        step_s = (self.to_s - self.from_s) / self.num_slices
        return [self.from_s + number * step_s for number in range(self.num_slices + 1)]


@dataclass(frozen=True, slots=True)
class Point:
    """One simulation of a study.

    Attributes
    ----------
    scenario : Scenario
        What to simulate.
    labels : mapping of str to Label
        What sets it apart from the other points: paths of settings, or words, and values.
    window : Window or None
        Which part of the run counts; None = all of it.
    limits : tuple of Limit
        Limits to check within the window.
    """

    scenario: Scenario
    labels: Mapping[str, Label] = field(default_factory=dict)
    window: Window | None = None
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a point; plain values only, as JSON holds them.

    Attributes
    ----------
    status : OutcomeStatus
        Whether there are figures.
    reason : str
        Why there are none; empty when there are.
    deployment : mapping
        ``model``, ``gpu``, ``tensor_parallel_size``, ``num_instances``, ``num_gpus``,
        ``num_kv_blocks``, ``latency_model``, ``latency_source``, ``usd_per_gpu_hour`` (None =
        no price), ``pools`` (list of mappings of a cluster).
    metrics : mapping of str to number or None
        The summary of the run, or of its window: the keys of `Result.summary`.
    quantiles : mapping of str to list of float
        ``ttft``, ``tpot``, ``itl``, ``e2el``: the percentiles 0, 1, ..., 100 in ms; a tag
        without data is absent.
    checks : list of mappings
        One for each limit of the point, see `LimitCheck`.
    is_saturated : bool or None
        Whether the queue kept growing within the window; None without a window.
    seed : int or None
        That of the load.
    request_rate : float or None
        Requests per second as configured.
    load : str
        The load in words.
    notices : list of str
        What the user should know.
    accuracy : str
        How far such figures were off where servers were measured, in words; empty = not known.
    scenario_sha256 : str
        Hash of the resolved scenario; empty when there is none.
    num_requests : int
        Requests simulated.
    wall_s : float
        Seconds the simulation took, looking up included. No part of the result.
    """

    status: OutcomeStatus
    reason: str = ""
    deployment: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | int | None] = field(default_factory=dict)
    quantiles: Mapping[str, Sequence[float]] = field(default_factory=dict)
    checks: Sequence[Mapping[str, Any]] = ()
    is_saturated: bool | None = None
    seed: int | None = None
    request_rate: float | None = None
    load: str = ""
    notices: Sequence[str] = ()
    accuracy: str = ""
    scenario_sha256: str = ""
    num_requests: int = 0
    wall_s: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether there are figures."""
        return self.status is OutcomeStatus.DONE

    def to_json_dict(self) -> dict[str, Any]:
        """Return plain values for strict JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """Return what `to_json_dict` was made of; what other versions add is left out."""
        known = {name: values[name] for name in cls.__slots__ if name in values}
        return cls(**(known | {"status": OutcomeStatus(values["status"])}))


def worker_died(point: Point) -> Outcome:
    """Return what became of a point whose workers died time and again."""
    return Outcome(
        status=OutcomeStatus.FAILED,
        reason="the worker that simulated it died (killed, or out of memory?); run the same "
        "command again to try once more, with fewer --jobs",
        **asked_of(point),
    )


def asked_of(point: Point) -> dict[str, Any]:
    """Return what is known of a point before it is simulated: parts of its `Outcome`."""
    scenario = point.scenario
    return {
        "deployment": {
            "model": scenario.model,
            "gpu": scenario.hardware,
            "tensor_parallel_size": scenario.engine.tensor_parallel_size,
        },
        "seed": scenario.seed,
        "request_rate": to_plain(scenario.workload.request_rate),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPoint:
    """A point of a study in a store.

    Attributes
    ----------
    key : str
        Hash of what was asked and of the code that answered.
    labels : mapping of str to Label
        As in `Point`.
    scenario : mapping
        The scenario as it was written.
    outcome : Outcome or None
        None = it is not finished.
    code_version : str
        Of the code that answered.
    finished_at : str
        ISO time in UTC; empty = it is not finished.
    """

    key: str
    labels: Mapping[str, Label]
    scenario: Mapping[str, Any]
    outcome: Outcome | None
    code_version: str = ""
    finished_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What was asked, what was found, and the points it rests on.

    Attributes
    ----------
    number : int
        Its number in the store, from 1.
    kind : StudyKind
        Which command asked.
    name : str
        The question in words.
    asked : mapping
        The question as plain values: grid, limits, target rate, ...
    answer : mapping or None
        What the command found, as plain values; None = it has not come to its end, or needs
        no answer beyond its points.
    created_at, updated_at : str
        ISO times in UTC.
    code_version : str
        Of the code that asked last.
    points : tuple of StoredPoint
        In their order.
    """

    number: int
    kind: StudyKind
    name: str
    asked: Mapping[str, Any]
    answer: Mapping[str, Any] | None
    created_at: str
    updated_at: str
    code_version: str
    points: tuple[StoredPoint, ...] = ()
