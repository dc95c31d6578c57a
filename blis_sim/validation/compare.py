"""From a simulation to the figures of its parts, and their errors against what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from blis_sim.errors import ConfigError
from blis_sim.metrics.accuracy import ServedLoad, served_load
from blis_sim.units import US_PER_MS, seconds_to_us
from blis_sim.validation.figures import FIGURES, BoolArray, Sample, completed, figures_of
from blis_sim.workload.arrival_settings import arrival_plan

if TYPE_CHECKING:
    from blis_sim.config.workload import WorkloadSettings
    from blis_sim.metrics.context import DeployedKind
    from blis_sim.metrics.records import RequestColumns
    from blis_sim.validation.experiment import Case, CaseRow
    from blis_sim.validation.requests_file import ServedRequests

FAILED_PCT = 100.0
"""Error of a figure of which there is no prediction."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure, measured and predicted."""

    measured: float
    predicted: float | None
    """None = nothing was predicted."""

    @property
    def error_pct(self) -> float:
        """Predicted over measured, less 1, in percent; `FAILED_PCT` without a prediction."""
        if self.predicted is None:
            return FAILED_PCT
        return 100 * (self.predicted - self.measured) / self.measured


@dataclass(frozen=True, slots=True)
class ServedPart:
    """What a part of a run was like, as it was simulated.

    Attributes
    ----------
    model : str
        Name in the catalog.
    kind : DeployedKind
        The deployment.
    load : ServedLoad
        What its instances had to do.
    """

    model: str
    kind: DeployedKind
    load: ServedLoad


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatedRow:
    """A measured row with what was predicted for it.

    Attributes
    ----------
    dataset, exp_id, stage, role, model, gpu, tp, load
        As they were written.
    in_flight : float or None
        Requests in flight on average: the users of a closed loop, else by Little's law from
        the measured figures; None = not known.
    metrics : mapping of str to Compared
        The figures that were measured, in the order of `FIGURES`.
    reason : str
        Why nothing was predicted; empty when something was.
    latency_model : str
        Which one answered; empty = none.
    notices : tuple of str
        What the user should know.
    served : ServedPart or None
        What was simulated; None = nothing was.
    """

    dataset: str
    exp_id: str
    stage: int
    role: str
    model: str
    gpu: str
    tp: int
    load: str
    in_flight: float | None
    metrics: Mapping[str, Compared]
    reason: str = ""
    latency_model: str = ""
    notices: tuple[str, ...] = ()
    served: ServedPart | None = None


# -- parts of a run -------------------------------------------------------


def stage_counts(settings: WorkloadSettings) -> list[int]:
    """Return how many requests each stage of a load sends.

    Raises
    ------
    ConfigError
        There are no stages, or their numbers of requests are random.
    """
    plan = arrival_plan("workload", settings, settings.num_requests)
    counts = [stage.num_requests for stage in plan.stage_plans()]
    known = [count for count in counts if count is not None]
    if settings.stages is None or len(known) < len(counts):
        raise ConfigError(
            "workload must have stages with numbers of requests that are known, for figures of "
            "each stage; set workload.arrivals.normalize_span"
        )
    return known


def part_of(
    columns: RequestColumns,
    scope: int | None,
    counts: Sequence[int],
    measure_from_s: float = 0.0,
) -> BoolArray:
    """Return which requests belong to a part of a run.

    Parameters
    ----------
    columns : RequestColumns
        All requests, numbered in the order in which they were sent: stage after stage.
    scope : int or None
        Number of the stage; None = the whole run.
    counts : sequence of int
        Requests of each stage.
    measure_from_s : float
        Leave out requests sent before, simulated seconds.
    """
    late: BoolArray = columns.arrival_us >= seconds_to_us(measure_from_s)
    if scope is None or len(counts) == 1:
        return late
    ends = np.cumsum([0, *counts])
    number = columns.request_id
    is_in: BoolArray = (number >= ends[scope]) & (number < ends[scope + 1])
    return late & is_in


def figures_by_scope(
    columns: RequestColumns,
    scopes: Sequence[int | None],
    counts: Sequence[int],
    measure_from_s: float,
) -> dict[int | None, tuple[dict[str, float], int]]:
    """Return the figures of parts of a run, and how many requests of each were not completed."""
    found: dict[int | None, tuple[dict[str, float], int]] = {}
    for scope in dict.fromkeys(scopes):
        sample = Sample.of(columns, part_of(columns, scope, counts, measure_from_s))
        found[scope] = (figures_of(sample), sample.num_open)
    return found


def served_by_scope(
    columns: RequestColumns,
    scopes: Sequence[int | None],
    counts: Sequence[int],
    measure_from_s: float,
    num_instances: float,
) -> dict[int | None, ServedLoad]:
    """Return what the instances had to do in parts of a run; idle ones are absent."""
    found: dict[int | None, ServedLoad] = {}
    for scope in dict.fromkeys(scopes):
        chosen = part_of(columns, scope, counts, measure_from_s)
        load = served_load(columns, chosen, num_instances)
        if load is not None:
            found[scope] = load
    return found


# -- rows -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the simulations of a case say, one after the other seed.

    Attributes
    ----------
    figures : sequence of mappings
        For each seed: part of the run -> figures, requests not completed.
    reason : str
        Why there are none; empty when there are.
    latency_model : str
        Which one answered.
    notices : tuple of str
        What the user should know.
    served : mapping
        Part of the run -> what it was like, with the first seed.
    """

    figures: Sequence[Mapping[int | None, tuple[Mapping[str, float], int]]] = ()
    reason: str = ""
    latency_model: str = ""
    notices: tuple[str, ...] = field(default=())
    served: Mapping[int | None, ServedPart] = field(default_factory=dict)


def validated_row(case: Case, of: CaseRow, prediction: Prediction) -> ValidatedRow:
    """Return a measured row with what was predicted, the mean over the seeds."""
    measured = of.row.measured
    parts = [each[of.scope] for each in prediction.figures]
    metrics, missing = {}, []
    for name in (figure.name for figure in FIGURES if figure.name in measured):
        values = [figures[name] for figures, _ in parts if name in figures]
        is_there = bool(values) and len(values) == len(parts)
        metrics[name] = Compared(measured[name], statistics.fmean(values) if is_there else None)
        if not is_there:
            missing.append(name)
    reason = prediction.reason
    if missing and not reason:
        reason = f"no request was completed that has {', '.join(missing)}"
    num_open = sum(count for _, count in parts)
    notices = [*case.notices, *prediction.notices]
    if num_open:
        notices.append(f"{num_open:,} requests were not completed and do not count")
    e2e_ms, in_flight = measured.get("e2e_mean_ms"), of.in_flight
    if in_flight is None and of.rate_per_s is not None and e2e_ms is not None:
        in_flight = of.rate_per_s * e2e_ms / 1e3
    return ValidatedRow(
        dataset=case.dataset,
        exp_id=case.exp_id,
        stage=of.row.stage,
        role=case.role,
        model=case.model,
        gpu=case.gpu,
        tp=case.tp,
        load=case.load,
        in_flight=in_flight,
        metrics=metrics,
        reason=reason,
        latency_model=prediction.latency_model,
        notices=tuple(dict.fromkeys(notices)),
        served=prediction.served.get(of.scope),
    )


# -- requests one by one --------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTimes:
    """A latency of the same requests, measured and predicted.

    Attributes
    ----------
    mean : Compared
        The means, ms.
    median_abs_error_pct : float
        Median over the requests of the error of each, without its sign.
    wasserstein_ms : float
        Distance of the two distributions.
    """

    mean: Compared
    median_abs_error_pct: float
    wasserstein_ms: float


def wasserstein(one: npt.NDArray[np.number], other: npt.NDArray[np.number]) -> float:
    """Return the 1-Wasserstein distance of two samples of the same size, in their unit.

    On a line it is the mean distance of their sorted values (Villani, Topics in Optimal
    Transportation, 2003, section 2.2).

    Raises
    ------
    ValueError
        The samples are empty, or not of one size.
    """
    if one.shape != other.shape or not one.size:
        raise ValueError(f"samples must be of one size >= 1; got {one.size} and {other.size}")
    return float(np.mean(np.abs(np.sort(one) - np.sort(other))))


def compare_requests(
    served: ServedRequests, columns: RequestColumns
) -> tuple[dict[str, ComparedTimes], int]:
    """Return TTFT, TPOT and E2E of requests that a server and the simulation both answered.

    Parameters
    ----------
    served : ServedRequests
        With measured times.
    columns : RequestColumns
        The simulation of the same requests, in their order.

    Returns
    -------
    times : dict of str to ComparedTimes
        ``ttft``, ``tpot``, ``e2e``; those without data are absent.
    count : int
        Requests that were completed in the simulation.
    """
    assert served.ttft_us is not None
    assert served.e2e_us is not None
    done = completed(columns)
    rows, sample = columns.request_id[done], Sample.of(columns, done)
    ttft_us, e2e_us = served.ttft_us[rows], served.e2e_us[rows]
    gaps, served_gaps = sample.output_tokens - 1, served.output_tokens[rows] - 1
    several = (gaps >= 1) & (served_gaps >= 1)
    tpot_us = (e2e_us - ttft_us)[several] / served_gaps[several]
    predicted_us = (sample.e2e_us - sample.ttft_us)[several] / gaps[several]
    pairs = {
        "ttft": (ttft_us, sample.ttft_us),
        "tpot": (tpot_us, predicted_us),
        "e2e": (e2e_us, sample.e2e_us),
    }
    times = {name: _times(*pair) for name, pair in pairs.items() if pair[0].size}
    return times, int(done.sum())


def _times(
    measured_us: npt.NDArray[np.number], predicted_us: npt.NDArray[np.number]
) -> ComparedTimes:
    measured_ms = measured_us.astype(np.float64) / US_PER_MS
    predicted_ms = predicted_us.astype(np.float64) / US_PER_MS
    some = measured_ms > 0
    errors = np.abs(predicted_ms[some] - measured_ms[some]) / measured_ms[some]
    return ComparedTimes(
        mean=Compared(float(measured_ms.mean()), float(predicted_ms.mean())),
        median_abs_error_pct=100 * float(np.median(errors)) if errors.size else 0.0,
        wasserstein_ms=wasserstein(measured_ms, predicted_ms),
    )
