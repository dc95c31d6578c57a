"""What plots show; of the drawings only that there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blis_sim.api import load_scenario, simulate
from blis_sim.capacity.slo import Limit
from blis_sim.errors import ConfigError
from blis_sim.metrics.records import RunData, TimeSeries
from blis_sim.report.averaged import AveragedPoint, averaged_points
from blis_sim.report.plots.cost_bars import (
    CostBar,
    bar_colours,
    cost_bars,
    cost_plot,
    draw_cost,
)
from blis_sim.report.plots.distributions import (
    Mark,
    distribution_plot,
    draw_distributions,
    result_quantiles,
)
from blis_sim.report.plots.latency_curves import draw_latency, latency_plot
from blis_sim.report.plots.over_time import draw_over_time, over_time_plot
from blis_sim.report.plots.palette import COLOURS, style_of
from blis_sim.report.plots.pareto import draw_pareto, is_beaten, pareto_plot
from blis_sim.report.plots.series import Axis, figure_axis, lines_of, setting_axis
from blis_sim.report.plots.trials import draw_trials, trials_plot
from tests.metrics.builders import make_counters, make_run, served
from tests.report.studies import make_outcome, make_point, sweep_points

LIMIT = Limit("p99_ttft_ms", 200.0)


def points(**changes: int) -> list[AveragedPoint]:
    return averaged_points(sweep_points(**changes))


def rate_axis(of: list[AveragedPoint]) -> Axis:
    axis = setting_axis(of)
    assert axis is not None
    return axis


# -- lines and axes -----------------------------------------------------------


def test_points_are_drawn_over_the_rate() -> None:
    """Else over another number with at least three values, else over none."""
    assert rate_axis(points()).title == "requests/s"
    seats = [
        make_point({"engine.max_num_seqs": number, "hardware": "H100"}, make_outcome())
        for number in (64, 128, 256)
    ]
    assert rate_axis(averaged_points(seats)).title == "max_num_seqs"
    assert setting_axis(averaged_points(seats[:2])) is None


def test_lines_are_called_by_what_tells_them_apart() -> None:
    """Not by the axis, nor by what all share; a single one by what it runs on."""
    every = points()
    assert [line.name for line in lines_of(every, rate_axis(every))] == ["H100", "A100-80", "L40S"]
    alone = averaged_points(sweep_points(("H100",), (8, 2, 4)))
    (line,) = lines_of(alone, rate_axis(alone))
    assert line.name == "Llama-3.1-8B-Instruct on H100"
    assert [point.request_rate for point in line.points] == [2, 4, 8]


def test_many_lines_look_different() -> None:
    """Colours come first, then dashes and marks."""
    assert len({style_of(number) for number in range(32)}) == 32


# -- latency ------------------------------------------------------------------


def test_latency_over_load() -> None:
    """A curve for each deployment, points in order of the load, only the limit that belongs."""
    every = points()
    plot = latency_plot(every, "p99_ttft_ms", rate_axis(every), [LIMIT, Limit("p99_itl_ms", 1.0)])
    assert [curve.name for curve in plot.curves] == ["H100", "A100-80", "L40S"]
    assert [point.x for point in plot.curves[0].points] == [2, 4, 8, 16]
    assert plot.curves[0].points[2].y == every[2].mean("p99_ttft_ms")
    assert (plot.x_title, plot.y_title) == ("requests/s", "p99 TTFT (ms)")
    assert plot.limits == (LIMIT,)
    assert plot.is_logarithmic


def test_saturated_points_are_marked() -> None:
    """The note says what hollow means."""
    every = points()
    plot = latency_plot(every, "p99_ttft_ms", rate_axis(every))
    growing = [[point.is_saturated for point in curve.points] for curve in plot.curves]
    assert growing == [[False] * 4, [False, False, False, True], [False, False, False, True]]
    assert plot.note.startswith("hollow: ")


def test_intervals_and_figures_as_axis() -> None:
    """Replications give half widths; over a figure, a line keeps the order of its rates."""
    every = points(num_replications=3)
    plot = latency_plot(every, "mean_tpot_ms", figure_axis("output_throughput"))
    assert plot.x_title == "output tokens/s"
    assert [point.x for point in plot.curves[0].points] == sorted(
        point.x for point in plot.curves[0].points
    )
    assert all(point.half_width is not None for curve in plot.curves for point in curve.points)


def test_what_cannot_be_drawn_is_left_out() -> None:
    """Lines beyond the most, and points without the figure; a rate of infinity has no place."""
    every = points()
    plot = latency_plot(every, "p99_ttft_ms", rate_axis(every), most=2)
    assert len(plot.curves) == 2
    assert plot.note.startswith("1 line more are not drawn")
    assert latency_plot(every, "p42_ttft_ms", rate_axis(every)).curves == ()
    at_once = [
        *sweep_points(("H100",), (2, 4)),
        make_point({"workload.request_rate": "inf"}, None),
    ]
    averaged = averaged_points(at_once)
    assert len(latency_plot(averaged, "p99_ttft_ms", rate_axis(averaged)).curves[0].points) == 2


# -- distributions ------------------------------------------------------------


def test_distributions() -> None:
    """Shares from 0 to 100 %, limits of this time alone; of a percentile with its share."""
    plot = distribution_plot(
        {"one": [1.0, 2.0, 4.0], "none": []},
        "ttft",
        [LIMIT, Limit("mean_ttft_ms", 3.0), Limit("p99_itl_ms", 5.0)],
        each_ms={"ttft": 9.0, "e2el": 8.0},
    )
    (line,) = plot.lines
    assert (line.shares, line.times_ms) == ((0, 50, 100), (1, 2, 4))
    assert plot.marks == (
        Mark(200.0, "limit: p99 TTFT <= 200 ms", 99.0),
        Mark(3.0, "limit: mean TTFT <= 3 ms", None),
        Mark(9.0, "limit of each request: TTFT <= 9 ms", None),
    )
    assert (plot.x_title, plot.y_title) == ("TTFT (ms)", "requests within it (%)")
    assert plot.is_logarithmic  # the limit lies far away
    assert not distribution_plot({"one": [1.0, 2.0, 4.0]}, "ttft").is_logarithmic
    assert distribution_plot({}, "itl").y_title == "gaps between tokens within it (%)"


def test_the_distributions_of_a_result_are_its_percentiles() -> None:
    """The p50 and p99 of the curves are those of the summary."""
    result = simulate(load_scenario({"workload": {"num_requests": 40}}))
    quantiles = result_quantiles(result)
    assert list(quantiles) == ["ttft", "tpot", "itl", "e2el"]
    for tag, values in quantiles.items():
        assert len(values) == 101
        assert values[99] == pytest.approx(result.summary[f"p99_{tag}_ms"])
        assert values == sorted(values)


# -- Pareto, cost, trials -----------------------------------------------------


def test_the_front_is_what_nothing_beats() -> None:
    """Equal points do not beat each other; one better in one and equal in the other does."""
    assert is_beaten(1, 1, [(1, 2)])
    assert not is_beaten(1, 1, [(1, 1), (2, 0.5), (0.5, 2)])
    every = points()
    plot = pareto_plot(every)
    front = plot.front
    assert [point.per_user for point in front] == sorted(point.per_user for point in front)
    yields = [point.per_gpu for point in front]
    assert yields == sorted(yields, reverse=True)
    assert {line.name for line in plot.lines for point in line.points if point.is_front} == {
        "H100"
    }
    assert [point.label for point in plot.lines[0].points] == ["2/s", "4/s", "8/s", "16/s"]
    assert pareto_plot(every, most=2).note == "1 line more are not drawn"


def test_costs_begin_with_the_cheapest() -> None:
    """What has no price is counted; what is left out is dearer."""
    bars = [
        CostBar("b", 4.0, 0.5),
        CostBar("a", 2.0, 0.25, is_chosen=True),
        CostBar("c", None, None),
    ]
    plot = cost_plot(bars)
    assert [bar.name for bar in plot.bars] == ["a", "b"]
    assert plot.note == "no price is known for 1 deployment"
    blue, grey = COLOURS[0], COLOURS[-1]
    assert bar_colours(plot) == [blue, grey]
    assert bar_colours(cost_plot(bars[:1])) == [blue]
    assert cost_plot(bars[:2], most=1).note == "1 more are dearer and not drawn"
    every = points()
    made = cost_bars(every, every[3])
    assert made[3] == CostBar(
        "H100, 16 requests/s", pytest.approx(3.99), pytest.approx(0.277, rel=1e-2), is_chosen=True
    )


def test_the_best_trial_so_far() -> None:
    """It never becomes worse, whichever way is better."""
    pairs = [(2.0, 5.0), (0.0, 3.0), (1.0, 1.0)]
    assert trials_plot(pairs, "y", is_less_better=False).best == (3, 3, 5)
    assert trials_plot(pairs, "y", is_less_better=True).best == (3, 1, 1)
    assert trials_plot(pairs, "y", is_less_better=True).numbers == (0, 1, 2)


# -- over time ----------------------------------------------------------------


def sampled(num_times: int = 4) -> TimeSeries:
    """Return samples of two instances, every second."""
    times = np.repeat(np.arange(1, num_times + 1) * 1_000_000, 2)
    place = np.tile([0, 1], num_times)
    return TimeSeries(
        time_us=times,
        instance=place,
        num_waiting=place * 3,
        num_running=np.repeat(np.arange(num_times), 2),
        kv_blocks=10 * place + 10,
        generated_tokens=np.full(times.size, 50),
    )


def sampled_run(num_times: int = 4) -> RunData:
    """Return a run of two instances with 100 blocks each."""
    rows = [served(0, ttft_us=1)]
    run = make_run(rows, counters=[make_counters(rows), make_counters([])])
    run.timeseries = sampled(num_times)
    return run


def test_instances_are_added_up() -> None:
    """Use of all and of the fullest, requests of all, tokens per second."""
    plot = over_time_plot(sampled_run())
    assert plot is not None
    assert plot.time_s.tolist() == [1, 2, 3, 4]
    assert plot.kv_mean_frac.tolist() == pytest.approx([30 / 200] * 4)
    assert plot.kv_peak_frac.tolist() == pytest.approx([20 / 100] * 4)
    assert plot.num_waiting.tolist() == [3] * 4
    assert plot.num_running.tolist() == [0, 2, 4, 6]
    assert plot.tokens_per_s.tolist() == [100] * 4
    assert plot.has_several
    assert plot.num_instances is None
    assert plot.time_unit == (1.0, "s")


def test_many_samples_are_put_together() -> None:
    """The most within each part counts, of tokens the mean."""
    plot = over_time_plot(sampled_run(10), most=4)
    assert plot is not None
    assert plot.time_s.tolist() == [3, 6, 9, 10]
    assert plot.num_running.tolist() == [4, 10, 16, 18]
    assert plot.tokens_per_s.tolist() == [100] * 4


def test_a_run_without_samples_has_no_timeline() -> None:
    """None, not an empty drawing."""
    assert over_time_plot(make_run([served(0, ttft_us=1)])) is None


# -- drawings -----------------------------------------------------------------


def _timeline(path: Path) -> None:
    plot = over_time_plot(sampled_run())
    assert plot is not None
    draw_over_time(plot, "Over $time$", path)


def _latency(path: Path) -> None:
    every = points(num_replications=2)
    draw_latency(latency_plot(every, "p99_ttft_ms", rate_axis(every), [LIMIT]), "A $title", path)


def _distributions(path: Path) -> None:
    samples = {"a": [1.0, 2.0, 90.0, 91.0], "b $": [2.0, 3.0, 4.0, 5.0]}
    draw_distributions(distribution_plot(samples, "ttft", [LIMIT]), "Title", path)


DRAWINGS: dict[str, Callable[[Path], None]] = {
    "latency": _latency,
    "distributions": _distributions,
    "pareto": lambda path: draw_pareto(pareto_plot(points()), "Title", path),
    "cost": lambda path: draw_cost(cost_plot(cost_bars(points())), "Title", path),
    "over_time": _timeline,
    "trials": lambda path: draw_trials(
        trials_plot([(0.0, 1.0), (1.0, 2.0)], "value", is_less_better=True), "Title", path
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_written(name: str, tmp_path: Path) -> None:
    """A PNG, nothing else in the folder."""
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.png"
    DRAWINGS[name](path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    """One line says which path."""
    pytest.importorskip("matplotlib")
    with pytest.raises(ConfigError, match="picture must be writable"):
        DRAWINGS["trials"](tmp_path / "absent" / "picture")
