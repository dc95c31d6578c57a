"""The answer of a plan, read with tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blis_sim.report.averaged import AveragedPoint, Estimate, with_derived
from blis_sim.report.html.answer import mapping, records
from blis_sim.report.metric_words import (
    TOKENS_PER_S_PER_GPU,
    TOKENS_PER_S_PER_USER,
    USD_PER_HOUR,
    USD_PER_MILLION,
)
from blis_sim.report.number_words import as_float, rate
from blis_sim.report.plots.cost_bars import CostBar
from blis_sim.report.setting_words import GPU, MODEL, RATE, TP, point_words, varying

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit

PER_GPU = "tokens_per_s_per_gpu"
"""What a plan calls the output tokens per second and GPU."""
FOUND = "found"
"""Status of a candidate that carries the load."""
_DEPLOYED = {MODEL: "model", GPU: "gpu", TP: "tensor_parallel_size"}
_MOST_SAMPLES = 24


class Plan:
    """The answer of a plan, read with tolerance: whatever is absent is not shown.

    Parameters
    ----------
    answer : mapping
        As the plan wrote it.
    limits : sequence of Limit
        Those of the question.
    """

    def __init__(self, answer: Mapping[str, Any], limits: Sequence[Limit]) -> None:
        self.answer = answer
        self.limits = limits
        self.candidates = records(answer.get("candidates"))
        place = answer.get("winner")
        is_place = isinstance(place, int) and 0 <= place < len(self.candidates)
        self.winner = self.candidates[place] if is_place else None  # type: ignore[index]
        # What a refused one lacks tells no other apart.
        self._paths = varying([_labels(candidate) for candidate in self.found or self.candidates])

    @property
    def unit(self) -> str:
        """What a rate counts: ``requests/s`` or ``conversations/s``."""
        return str(self.answer.get("unit") or "requests/s")

    @property
    def found(self) -> list[Mapping[str, Any]]:
        """The candidates that carry the load, the best first."""
        found = [each for each in self.candidates if each.get("status", FOUND) == FOUND]
        return sorted(found, key=lambda each: as_float(each.get("rank")) or float("inf"))

    def name(self, candidate: Mapping[str, Any]) -> str:
        """Return what sets a candidate apart from the others."""
        labels = _labels(candidate)
        return point_words({p: v for p, v in labels.items() if p in self._paths or p == GPU})

    def deployed_name(self, candidate: Mapping[str, Any]) -> str:
        """Return what would be deployed: ``2 x H100``."""
        replicas = as_float(candidate.get("replicas"))
        name = self.name(candidate)
        return name if replicas is None else f"{rate(replicas)} x {name}"

    def is_chosen(self, candidate: Mapping[str, Any]) -> bool:
        """Return whether a candidate is the answer, or that for its model."""
        return candidate is self.winner or candidate.get("rank") == 1

    def curve_points(self) -> list[AveragedPoint]:
        """Return every probe as a point, at its rate on one replica."""
        points = []
        for candidate in self.candidates:
            labels = {p: v for p, v in _labels(candidate).items() if p in self._paths or p == GPU}
            for probe in records(candidate.get("probes")):
                if as_float(probe.get("rate")) is None:
                    continue
                values = with_derived(mapping(probe.get("values")))
                points.append(
                    AveragedPoint(
                        labels=labels | {RATE: probe["rate"]},
                        estimates={key: Estimate(value) for key, value in values.items()},
                        is_saturated=bool(probe.get("is_saturated")),
                        request_rate=as_float(probe["rate"]),
                    )
                )
        return points

    def at_highest_rate(self) -> list[AveragedPoint]:
        """Return each candidate at the highest rate it carries."""
        points = []
        for candidate in self.found:
            user = as_float(candidate.get(TOKENS_PER_S_PER_USER))
            gpu = as_float(candidate.get(TOKENS_PER_S_PER_GPU, candidate.get(PER_GPU)))
            if user is not None and gpu is not None:
                figures = {
                    TOKENS_PER_S_PER_USER: Estimate(user),
                    TOKENS_PER_S_PER_GPU: Estimate(gpu),
                }
                points.append(AveragedPoint(labels=_labels(candidate), estimates=figures))
        return points

    def stored_at_rates(self, stored: Sequence[AveragedPoint]) -> list[AveragedPoint]:
        """Return, for each candidate, the simulation nearest below the rate it carries."""
        chosen = []
        for candidate in self.found[:_MOST_SAMPLES]:
            carried, labels = as_float(candidate.get("rate_per_replica")), _labels(candidate)
            own = [
                point
                for point in stored
                if point.quantiles and _is_same(labels, point) and point.request_rate is not None
            ]
            below = [p for p in own if carried is None or (p.request_rate or 0) <= carried * 1.001]
            if below:
                best = max(below, key=lambda point: point.request_rate or 0.0)
                chosen.append(
                    AveragedPoint(
                        labels={p: v for p, v in labels.items() if p in self._paths or p == GPU},
                        estimates=best.estimates,
                        quantiles=best.quantiles,
                        request_rate=best.request_rate,
                    )
                )
        return chosen

    def bars(self) -> list[CostBar]:
        """Return what each candidate costs that carries the load."""
        return [
            CostBar(
                self.deployed_name(each),
                as_float(each.get(USD_PER_HOUR)),
                as_float(each.get(USD_PER_MILLION)),
                self.is_chosen(each),
            )
            for each in self.found
        ]


def _labels(candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a candidate by their paths."""
    deployed = {path: candidate[key] for path, key in _DEPLOYED.items() if candidate.get(key)}
    return deployed | dict(mapping(candidate.get("settings")))


def _is_same(labels: Mapping[str, Any], point: AveragedPoint) -> bool:
    """Return whether a stored point is one of a candidate with these settings."""
    facts = {MODEL: "model", GPU: "gpu", TP: "tensor_parallel_size"}
    for path, value in labels.items():
        if path in point.labels:
            if point.labels[path] != value:
                return False
        elif path not in facts or point.deployment.get(facts[path]) != value:
            return False
    return True
