"""A sweep: many scenarios, each simulated once, whatever happens in between."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.executor import Backend, Executor, default_jobs
from blis_sim.capacity.grid import REPLICATION, axis, grid_points
from blis_sim.capacity.names import check_names
from blis_sim.capacity.slo import Limit, slo_words
from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import Label, Outcome, OutcomeStatus, Point, StudyKind
from blis_sim.errors import ConfigError, SimulationError
from blis_sim.metrics.intervals import half_width_95

if TYPE_CHECKING:
    import pandas as pd

    from blis_sim.capacity.executor import OnOutcome
    from blis_sim.capacity.study import StoredPoint, Study
    from blis_sim.config.scenario import Scenario


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One combination of settings: the replications of it together.

    Attributes
    ----------
    labels : mapping of str to Label
        The settings that set it apart.
    outcomes : tuple of Outcome
        One for each replication.
    """

    labels: Mapping[str, Label]
    outcomes: tuple[Outcome, ...]

    @property
    def is_done(self) -> bool:
        """Whether all replications have figures."""
        return all(outcome.is_done for outcome in self.outcomes)

    @property
    def reason(self) -> str:
        """Why there are no figures; empty when there are."""
        return next((outcome.reason for outcome in self.outcomes if not outcome.is_done), "")

    def values(self, metric: str) -> list[float]:
        """Return a metric of each replication that has it."""
        found = (outcome.metrics.get(metric) for outcome in self.outcomes if outcome.is_done)
        return [value for value in found if value is not None]

    def mean(self, metric: str) -> float | None:
        """Return the mean over the replications, None without data."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def half_width(self, metric: str) -> float | None:
        """Return half the 95 % confidence interval of the mean, None with one replication.

        Student's t over the replications.
        """
        return half_width_95(self.values(metric))

    def meets(self, limits: Iterable[Limit]) -> bool:
        """Return whether the mean of each limited metric keeps its limit."""
        for limit in limits:
            value = goodput_share(self) if limit.is_goodput else self.mean(limit.metric)
            if value is None or (value < limit.value if limit.is_goodput else value > limit.value):
                return False
        return self.is_done


_FALLS_SHORT = 0.75
"""Served requests over the configured rate below which what was asked was not served."""


def is_far_short(served: float | None, asked: float | None) -> bool:
    """Return whether far fewer requests were served than the configured rate, both per second.

    The rate is not carried, or the arrivals ended before the batch was full.
    """
    if served is None or asked is None:
        return False
    rate = float(asked)  # infinity is stored as a word
    return math.isfinite(rate) and served < _FALLS_SHORT * rate


def served_short(row: SweepRow) -> tuple[float, float] | None:
    """Return (requests/s served, as configured) where these are far apart, else None."""
    rates = {outcome.request_rate for outcome in row.outcomes}
    asked, served = rates.pop() if len(rates) == 1 else None, row.mean("request_throughput")
    if served is None or asked is None or not is_far_short(served, asked):
        return None
    return served, float(asked)


def goodput_share(row: SweepRow) -> float | None:
    """Return the share of requests within the limits of ``--goodput``, None without them."""
    good, total = row.mean("request_goodput"), row.mean("request_throughput")
    return None if good is None or not total else good / total


def sweep_rows(
    points: Sequence[Point | StoredPoint], outcomes: Sequence[Outcome]
) -> list[SweepRow]:
    """Return one row for each combination of settings, in order of its first point."""
    grouped: dict[tuple[tuple[str, Label], ...], list[Outcome]] = {}
    for point, outcome in zip(points, outcomes, strict=True):
        labels = {path: name for path, name in point.labels.items() if path != REPLICATION}
        grouped.setdefault(tuple(labels.items()), []).append(outcome)
    return [SweepRow(dict(labels), tuple(each)) for labels, each in grouped.items()]


def stored_rows(study: Study) -> list[SweepRow]:
    """Return the rows of a study in a store; what is not finished has no figures."""
    outcomes = [point.outcome or _NOT_FINISHED for point in study.points]
    return sweep_rows(study.points, outcomes)


_NOT_FINISHED = Outcome(
    status=OutcomeStatus.FAILED, reason="not finished: run the same command again"
)


def run_sweep(
    points: Sequence[Point],
    *,
    store: ResultStore,
    backend: Backend,
    name: str = "sweep",
    asked: Mapping[str, Any] | None = None,
    limits: Sequence[Limit] = (),
    on_outcome: OnOutcome | None = None,
) -> list[SweepRow]:
    """Simulate all points that the store does not have, and return all rows.

    Parameters
    ----------
    points : sequence of Point
        From `grid_points`.
    store : ResultStore
        Keeps every outcome as soon as it is there.
    backend : Backend
        Where simulations run.
    name : str
        The question in words.
    asked : mapping, optional
        The question as plain values; the same question is the same study.
    limits : sequence of Limit
        What the answer looks at.
    on_outcome : callable, optional
        Told of each outcome.

    Raises
    ------
    ConfigError
        There are no points; the store cannot be written; or no point can be simulated, all for
        the same reason: it lies in what they share.
    CatalogError
        A model or GPU is unknown.
    SimulationError
        Every point failed in the same way.
    """
    if not points:
        raise ConfigError("a sweep must have points; got none; give --grid")
    return sweep_rows(
        points, _run(points, Executor(store, backend, on_outcome), name, asked, limits)
    )


def _run(
    points: Sequence[Point],
    executor: Executor,
    name: str,
    asked: Mapping[str, Any] | None = None,
    limits: Sequence[Limit] = (),
) -> list[Outcome]:
    """Simulate all points as a study; raises as `run_sweep`."""
    check_names(point.scenario for point in points)
    store, keys = executor.store, executor.keys(points)
    number = store.begin(StudyKind.SWEEP, name, asked or {"keys": keys})
    store.add_members(number, keys, points)
    outcomes = executor.run(points, keys)
    rows = sweep_rows(points, outcomes)
    reasons = {row.reason for row in rows}
    if len(reasons) == 1 and not any(row.is_done for row in rows):
        kind = rows[0].outcomes[0].status
        error = ConfigError if kind is OutcomeStatus.INFEASIBLE else SimulationError
        raise error(reasons.pop())
    store.answer(number, sweep_answer(rows, limits))
    return outcomes


def sweep_answer(rows: Sequence[SweepRow], limits: Sequence[Limit] = ()) -> dict[str, Any]:
    """Return the answer of a sweep as plain values, with one sentence that says it.

    The best row is the cheapest per token, or, where a price is not known, the one with the
    most tokens per second and GPU; only rows that keep all limits count. Where requests have
    limits of their own and no share of good ones is demanded, tokens count by that share.
    """
    done = [row for row in rows if row.is_done]
    meeting = [row for row in done if row.meets(limits)]
    answer: dict[str, Any] = {
        "num_points": len(rows),
        "num_infeasible": len(rows) - len(done),
        "num_meeting": len(meeting) if limits else None,
        "best": None,
    }
    if not meeting:
        none = f"None of the {len(done)} combinations simulated keeps {slo_words(limits)}."
        answer["sentence"] = none if done else "No combination could be simulated."
        return answer
    has_price = all(row.mean(COST) is not None for row in meeting)
    shares = [goodput_share(row) for row in meeting]
    counts_good = (
        not any(limit.is_goodput for limit in limits) and None not in shares and any(shares)
    )

    def worth(row: SweepRow) -> float:
        """Return the share of the tokens that counts."""
        return (goodput_share(row) or 0.0) if counts_good else 1.0

    def price(row: SweepRow) -> float:
        return (row.mean(COST) or 0.0) / worth(row) if worth(row) else math.inf

    best = (
        min(meeting, key=price)
        if has_price
        else max(meeting, key=lambda row: _per_gpu(row) * worth(row))
    )
    answer["best"] = rows.index(best)
    all_done = f"{len(done)} combination{'s' * (len(done) != 1)}"
    of = f"{len(meeting)} of {all_done} keep {slo_words(limits)}" if limits else f"Of {all_done}"
    what = (
        f"costs least per {'good ' * counts_good}token, "
        f"{best.mean(COST):.3g} USD per million output tokens"
        if has_price
        else f"gives most {'good ones ' * counts_good}per GPU, "
        f"{_per_gpu(best):,.0f} output tokens/s"
    )
    good = [f"{100 * worth(best):.3g} % of the requests within their limits"] * counts_good
    figures = ", ".join((*good, *_figures(best)))
    joint = "; of these" if limits else ","
    known = f" ({figures})" if figures else ""
    answer["sentence"] = f"{of}{joint} {words_of(best.labels)} {what}{known}."
    return answer


COST, PER_GPU = "usd_per_million_output_tokens", "output_throughput_per_gpu"


def _per_gpu(row: SweepRow) -> float:
    """Return output tokens per second and GPU; none came out where there is no figure."""
    return row.mean(PER_GPU) or 0.0


def _figures(row: SweepRow) -> Iterable[str]:
    short = served_short(row)
    if short is not None:
        yield f"only {short[0]:.3g} of {short[1]:.3g} requests/s served"
    for metric, header in (("p99_ttft_ms", "p99 TTFT"), ("mean_tpot_ms", "mean TPOT")):
        value = row.mean(metric)
        if value is not None:
            yield f"{header} {value:,.1f} ms"


def words_of(labels: Mapping[str, Label]) -> str:
    """Return what sets a row apart in words: ``hardware=H100, request_rate=8``.

    Settings that have the same last name are called by their paths.
    """
    if not labels:
        return "the scenario"
    last = [path.rpartition(".")[2] for path in labels]
    names = [
        path if last.count(name) > 1 else name for path, name in zip(labels, last, strict=True)
    ]
    return ", ".join(f"{name}={value}" for name, value in zip(names, labels.values(), strict=True))


def sweep(
    base: Scenario | Mapping[str, Any] | str | Path,
    grid: Mapping[str, Sequence[Any]],
    *,
    num_replications: int = 1,
    store: str | Path | None = None,
    num_jobs: int | None = None,
    backend: Backend | None = None,
) -> pd.DataFrame:
    """Simulate a scenario with every combination of some settings.

    Parameters
    ----------
    base : Scenario, mapping, or path of a YAML file
        What all points share.
    grid : mapping of str to sequence
        Values by the paths of settings: ``{"hardware": ["H100", "L40S"]}``.
    num_replications : int
        Seeds per combination, >= 1.
    store : path, optional
        File that keeps outcomes; points in it are not simulated again. None = nothing is kept.
    num_jobs : int, optional
        Simulations at a time; one per processor by default.
    backend : Backend, optional
        Where simulations run, instead of this machine.

    Returns
    -------
    pandas.DataFrame
        One row per combination and replication: the settings, ``status``, ``reason``, and the
        keys of `Result.summary`.

    Raises
    ------
    ConfigError
        A setting or the store is wrong, or no point can be simulated.
    """
    from blis_sim.config.draft import ScenarioDraft
    from blis_sim.config.scenario import Scenario

    if isinstance(base, str | Path):
        draft = ScenarioDraft.from_file(Path(base))
    else:
        is_built = isinstance(base, Scenario)
        draft = ScenarioDraft(base.model_dump(exclude_unset=True) if is_built else base)  # type: ignore[union-attr, arg-type]
    axes = [
        axis(path, values if isinstance(values, str) else list(values))
        for path, values in grid.items()
    ]
    points = grid_points(draft, axes, num_replications=num_replications)
    where = backend or Backend(num_jobs=num_jobs or default_jobs())
    with ResultStore(None if store is None else Path(store)) as opened:
        outcomes = _run(points, Executor(opened, where), "sweep")
    return sweep_frame(points, outcomes)


def sweep_frame(points: Sequence[Point], outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return one row per point: its labels, status, reason and metrics."""
    import pandas as pd

    return pd.DataFrame(
        [
            {**point.labels, "status": outcome.status.value, "reason": outcome.reason}
            | dict(outcome.metrics)
            for point, outcome in zip(points, outcomes, strict=True)
        ]
    )
