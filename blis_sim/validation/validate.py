"""Simulating what was measured, once per seed, and comparing."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.errors import BlisError, ConfigError, InvariantError
from blis_sim.validation.compare import (
    ComparedTimes,
    Prediction,
    ServedPart,
    ValidatedRow,
    compare_requests,
    figures_by_scope,
    served_by_scope,
    stage_counts,
    validated_row,
)
from blis_sim.validation.experiment import Case
from blis_sim.validation.workers import in_parallel, no_worker

if TYPE_CHECKING:
    from blis_sim.config.scenario import Scenario
    from blis_sim.validation.requests_file import ServedRequests

FEW_REQUESTS = 5_000
"""So many requests in all are simulated sooner than workers are started."""

OnCase = Callable[[int, int], None]
"""(simulations that are finished, simulations in all)."""


@dataclass(frozen=True, slots=True)
class Task:
    """One simulation.

    Attributes
    ----------
    case : Case
        What to simulate.
    trace : Path or None
        Where its requests lie as a trace.
    overrides : tuple of str
        Settings that win over those of the case.
    replication : int
        Added to the seed.
    """

    case: Case
    trace: Path | None = None
    overrides: tuple[str, ...] = ()
    replication: int = 0

    @property
    def size(self) -> float:
        """About how many requests it has."""
        if self.case.requests is not None:
            return self.case.requests.num_requests
        load = self.case.settings.get("workload", {})
        due = sum(stage["rate"] * stage["duration_s"] for stage in load.get("stages", ()))
        return float(due or load.get("num_requests", 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a simulation says.

    Attributes
    ----------
    figures : mapping
        Part of the run -> figures, requests not completed.
    times : mapping of str to ComparedTimes
        Of its requests one by one, where they were measured so.
    num_completed : int
        Requests these are of.
    reason : str
        Why there is nothing; empty when there is something.
    latency_model, deployment : str
        Which model answered for what.
    notices : tuple of str
        What the user should know.
    served : mapping
        Part of the run -> what it was like.
    """

    figures: Mapping[int | None, tuple[Mapping[str, float], int]] = field(default_factory=dict)
    times: Mapping[str, ComparedTimes] = field(default_factory=dict)
    num_completed: int = 0
    reason: str = ""
    latency_model: str = ""
    deployment: str = ""
    notices: tuple[str, ...] = ()
    served: Mapping[int | None, ServedPart] = field(default_factory=dict)


def simulate_case(task: Task) -> Answer:
    """Simulate a case and return its figures, or why there are none."""
    try:
        return _simulated(task)
    except InvariantError as error:
        return _failed(f"{error}; please report it")
    except BlisError as error:
        return _failed(str(error))
    except Exception as error:  # a defect in one case must not cost the others
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.name} in {Path(last.filename).name}:{last.lineno}"
        return _failed(f"{type(error).__name__}: {error}, in {where}; please report it")


def _failed(reason: str) -> Answer:
    return Answer(reason=" ".join(reason.split()))


def _simulated(task: Task) -> Answer:
    from blis_sim import api

    case, scenario = task.case, scenario_of(task)
    result = api.run(api.resolve(scenario))
    columns = result.run.requests
    scopes = [row.scope for row in case.rows]
    is_split = len(set(scopes) - {None}) > 0
    times: Mapping[str, ComparedTimes] = {}
    num_completed = 0
    if case.requests is not None and case.requests.ttft_us is not None:
        times, num_completed = compare_requests(case.requests, columns)
    counts = stage_counts(scenario.workload) if is_split else ()
    num_instances = result.context.num_instances
    loads = served_by_scope(columns, scopes, counts, case.measure_from_s, num_instances)
    model, kind = result.context.model, result.context.kinds[0]  # all ranks are alike
    return Answer(
        figures=figures_by_scope(columns, scopes, counts, case.measure_from_s),
        times=times,
        num_completed=num_completed,
        latency_model=result.context.latency_model,
        deployment=result.context.deployment,
        notices=tuple(result.context.notices),
        served={scope: ServedPart(model, kind, load) for scope, load in loads.items()},
    )


def scenario_of(task: Task) -> Scenario:
    """Return the scenario of a simulation.

    Raises
    ------
    ConfigError
        A setting is wrong, or contradicts an override.
    """
    from blis_sim.config.loading import load_scenario

    settings: Mapping[str, Any] = task.case.settings
    if task.trace is not None:
        load = {**settings["workload"], "trace": str(task.trace), "trace_format": "csv"}
        settings = {**settings, "workload": load}
    scenario = load_scenario(settings, task.overrides)
    return scenario.model_copy(update={"seed": scenario.seed + task.replication})


# -- many cases -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ValidatedRequests:
    """Requests one by one, measured and predicted.

    Attributes
    ----------
    served : ServedRequests
        What was measured.
    case : Case
        What was simulated.
    answer : Answer
        What came out, with the first seed.
    """

    served: ServedRequests
    case: Case
    answer: Answer


@dataclass(frozen=True, slots=True)
class Validation:
    """What came out of all cases.

    Attributes
    ----------
    rows : tuple of ValidatedRow
        Every measured row, in the order of the table.
    requests : tuple of ValidatedRequests
        Of each case whose requests were measured one by one.
    """

    rows: tuple[ValidatedRow, ...]
    requests: tuple[ValidatedRequests, ...] = ()


def check_overrides(overrides: Iterable[str]) -> None:
    """Check that overrides name settings and have values of their types.

    Raises
    ------
    ConfigError
        One does not: no case could be simulated with it.
    """
    from blis_sim.config.loading import load_scenario

    load_scenario({}, overrides)


def validate(
    cases: Sequence[Case],
    *,
    overrides: Sequence[str] = (),
    num_seeds: int = 1,
    num_jobs: int = 1,
    on_case: OnCase | None = None,
) -> Validation:
    """Simulate cases and compare them with what was measured.

    Parameters
    ----------
    cases : sequence of Case
        From `case_of` or `read_ground_truth`.
    overrides : sequence of str
        Settings for all of them, such as ``latency.model=roofline-v1``.
    num_seeds : int
        Simulations of each, with seeds one after the other; predictions are their mean.
    num_jobs : int
        Simulations at a time; where all are small, one. The results do not depend on it.
    on_case : callable, optional
        Told how far it is.

    Raises
    ------
    ConfigError
        An override is wrong, or there is nothing to simulate.
    """
    check_overrides(overrides)
    if not cases:
        raise ConfigError("validation must have at least one experiment; got none")
    with tempfile.TemporaryDirectory(prefix="blis-validate-") as folder:
        tasks = [
            (number, task)
            for number, case in enumerate(cases)
            if not case.problem
            for task in _tasks(case, Path(folder) / f"{number}.csv", tuple(overrides), num_seeds)
        ]
        tasks.sort(key=lambda each: -each[1].size)
        answers = _answers([task for _, task in tasks], num_jobs, on_case)
    of_case: dict[int, dict[int, Answer]] = {number: {} for number in range(len(cases))}
    for (number, task), answer in zip(tasks, answers, strict=True):
        of_case[number][task.replication] = answer
    rows, requests = [], []
    for number, case in enumerate(cases):
        found = [of_case[number][seed] for seed in sorted(of_case[number])]
        prediction = _prediction(case, found)
        rows += [(of.row.line, validated_row(case, of, prediction)) for of in case.rows]
        if case.requests is not None and case.requests.ttft_us is not None:
            first = found[0] if found else _failed(case.problem)
            requests.append(ValidatedRequests(case.requests, case, first))
    rows.sort(key=lambda each: each[0])
    return Validation(tuple(row for _, row in rows), tuple(requests))


def _tasks(case: Case, trace: Path, overrides: tuple[str, ...], num_seeds: int) -> list[Task]:
    if case.requests is None:
        return [Task(case, None, overrides, number) for number in range(num_seeds)]
    case.requests.write_trace(trace)
    return [Task(case, trace, overrides, number) for number in range(num_seeds)]


def _answers(tasks: Sequence[Task], num_jobs: int, on_case: OnCase | None) -> list[Answer]:
    answers = [_failed(str(no_worker()))] * len(tasks)
    if sum(task.size for task in tasks) <= FEW_REQUESTS:
        num_jobs = 1
    for done, (number, answer) in enumerate(in_parallel(simulate_case, tasks, num_jobs), start=1):
        if answer is not None:
            answers[number] = answer
        if on_case is not None:
            on_case(done, len(tasks))
    return answers


def _prediction(case: Case, answers: Sequence[Answer]) -> Prediction:
    reasons = [answer.reason for answer in answers if answer.reason]
    if case.problem or reasons:
        return Prediction(reason=case.problem or reasons[0])
    return Prediction(
        figures=[answer.figures for answer in answers],
        latency_model=answers[0].latency_model,
        notices=tuple(dict.fromkeys(note for answer in answers for note in answer.notices)),
        served=answers[0].served,
    )
