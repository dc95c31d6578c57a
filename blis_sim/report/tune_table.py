"""``blis tune`` as a table: the best trials, why others are none, and the answer."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.capacity.slo import slo_words
from blis_sim.capacity.tune_space import given_scenario
from blis_sim.capacity.tune_trial import TrialStatus, setting_name, settings_words
from blis_sim.report.metric_words import named
from blis_sim.report.number_words import ABSENT, number
from blis_sim.report.text_columns import text_columns

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Label
    from blis_sim.capacity.tune_objective import Objective
    from blis_sim.capacity.tune_space import SearchSpace
    from blis_sim.capacity.tune_trial import Trial, Tuning

_WIDTH = 100
_MOST_ROWS = 12
_MOST_REASONS = 6
_USUAL = (
    *("p99_ttft_ms", "mean_tpot_ms", "p95_itl_ms", "mean_e2el_ms"),
    *("output_throughput_per_gpu", "usd_per_million_output_tokens", "mean_gpus"),
)
"""Figures beside the objective and the limited ones, as far as there is room."""


@dataclass(frozen=True, slots=True)
class _Column:
    """Two lines of header, and a cell for each trial."""

    header: tuple[str, str]
    cells: list[str]
    is_text: bool = False

    @property
    def width(self) -> int:
        return max(map(len, (*self.header, *self.cells)), default=0)


def render_tuning(tuning: Tuning) -> str:
    """Return the best trials as a table, the reasons of others, what was done, and the answer."""
    rows = _shown(tuning)
    columns = [*_first_columns(tuning, rows), *_setting_columns(tuning, rows)]
    columns += _value_columns(tuning, rows)
    columns = _with_usual(columns, tuning, rows)
    lines = _table(columns)
    rule = "-" * max(map(len, lines))
    lines = [rule, *lines[:2], rule, *lines[2:], rule]
    left_out = len(tuning.trials) - len(rows)
    if left_out:
        lines.append(f"{left_out} more trials: --csv FILE has all")
    lines += _reasons(tuning)
    lines += textwrap.wrap(_work(tuning), _WIDTH)
    lines += ["", *textwrap.wrap(tuning.sentence(), _WIDTH)]
    return "\n".join(lines)


def _shown(tuning: Tuning) -> list[Trial]:
    """Return the trials that are rows: the best ones that ran, and the scenario as given."""
    ran = (TrialStatus.DONE, TrialStatus.MISSED)
    ranked = [trial for trial in tuning.ranked() if trial.status in ran]
    rows = ranked[:_MOST_ROWS]
    return rows if tuning.given in rows else [*rows, tuning.given]


def _table(columns: Sequence[_Column]) -> list[str]:
    cells = [[*column.header, *column.cells] for column in columns]
    left = [place for place, column in enumerate(columns) if column.is_text]
    return text_columns(list(zip(*cells, strict=True)), left=left)


def _first_columns(tuning: Tuning, rows: Sequence[Trial]) -> Iterator[_Column]:
    best = tuning.best
    names = []
    for trial in rows:
        mark = "* " if trial is best else "  "
        names.append(mark + ("given" if trial.is_given else str(trial.number)))
    yield _Column(("  trial", ""), names, is_text=True)


def _setting_columns(tuning: Tuning, rows: Sequence[Trial]) -> Iterator[_Column]:
    for one in tuning.axes:
        cells = [_setting(trial.settings.get(one.path)) for trial in rows]
        yield _Column(_split(setting_name(one.path)), cells)


def _setting(value: Label) -> str:
    """Return a value as it is typed: without signs between thousands."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ABSENT if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _split(name: str) -> tuple[str, str]:
    """Return a name in two lines of nearly one length."""
    places = [place for place, sign in enumerate(name, start=1) if sign in "_.:"]
    if not places or len(name) < 8:
        return name, ""
    middle = min(places, key=lambda place: abs(2 * place - len(name)))
    return name[:middle], name[middle:]


def _value_columns(tuning: Tuning, rows: Sequence[Trial]) -> Iterator[_Column]:
    """Yield the objective, and the limited figures with whether the limits are kept."""
    objective = tuning.objective
    yield _Column(objective.header, [_about(trial, trial.figure) for trial in rows])
    if objective.is_rate:
        rates = [_about(trial, trial.found.rate if trial.found else None) for trial in rows]
        yield _Column(("arrivals", "per s"), rates)
    for limit in tuning.limits:
        if not limit.is_goodput:
            yield _metric_column(limit.metric, rows)
    if tuning.limits:
        yield _Column(("SLO", ""), [_verdict(trial) for trial in rows])


def _about(trial: Trial, value: float | None) -> str:
    return ("~" if trial.is_quick and value else "") + number(value)


def _verdict(trial: Trial) -> str:
    if trial.status is TrialStatus.DONE:
        return "yes"
    return "no" if trial.status is TrialStatus.MISSED else ABSENT


def _metric_column(key: str, rows: Sequence[Trial]) -> _Column:
    known = named(key)
    cells = [known.write(trial.metrics.get(key)) for trial in rows]
    return _Column((known.header, known.unit), cells)


def _with_usual(columns: list[_Column], tuning: Tuning, rows: Sequence[Trial]) -> list[_Column]:
    """Return columns with more figures, as many as fit."""
    taken = {limit.metric for limit in tuning.limits} | {tuning.objective.key}
    for key in _USUAL:
        values = {trial.metrics.get(key) for trial in rows} - {None}
        if key in taken or not values or (key == "mean_gpus" and len(values) == 1):
            continue
        more = [*columns, _metric_column(key, rows)]
        if sum(column.width + 2 for column in more) - 2 <= _WIDTH:
            columns = more
    return columns


def _reasons(tuning: Tuning) -> Iterator[str]:
    """Yield why trials have no figures; what differs in numbers alone counts as one reason."""
    places: dict[str, list[Trial]] = {}
    for trial in tuning.trials:
        if trial.status in {TrialStatus.INFEASIBLE, TrialStatus.FAILED}:
            rule = trial.reason.partition("; got ")[0]
            places.setdefault(rule, []).append(trial)
    for trials in list(places.values())[:_MOST_REASONS]:
        where = tuning.words(trials[0])
        where += f" and {len(trials) - 1} more" if len(trials) > 1 else ""
        yield from textwrap.wrap(f"not possible: {where}: {trials[0].reason}", _WIDTH)
    if len(places) > _MOST_REASONS:
        yield f"{len(places) - _MOST_REASONS} more reasons: --csv FILE has all"


def _work(tuning: Tuning) -> str:
    number_missed = sum(trial.status is TrialStatus.MISSED for trial in tuning.trials)
    missed = f", {number_missed} of them miss a limit" if number_missed else ""
    quick = " ~: by short simulations." if any(trial.is_quick for trial in tuning.trials) else ""
    return (
        f"{len(tuning.trials)} trials of {tuning.num_combinations:,} combinations{missed}; "
        f"{tuning.num_simulations} simulations of {tuning.num_requests:,} requests in "
        f"{tuning.wall_s:.0f} s. *: the answer." + quick
    )


def render_space(
    space: SearchSpace, objective: Objective, limits: Sequence[Limit], num_trials: int
) -> str:
    """Return what would be searched: the settings, their values, and what is in force."""
    given = given_scenario(space)
    within = f" within {slo_words(limits)}" if limits else ""
    better = "lowest" if objective.is_less_better else "highest"
    lines = [
        f"{min(num_trials, space.size + (given.choice is None)):,} trials of {space.size:,} "
        f"combinations, for the {better} {objective.unit}{within}:"
    ]
    for one in space.axes:
        names = ", ".join(_setting(name) for name in one.names)
        lines += textwrap.wrap(f"{one.path}: {names}", _WIDTH, initial_indent="  ")
    lines += textwrap.wrap(f"as given: {settings_words(given.labels)}", _WIDTH)
    return "\n".join(lines)
