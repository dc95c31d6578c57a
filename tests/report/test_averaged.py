from __future__ import annotations

import math

import pytest

from blis_sim.capacity.slo import Limit
from blis_sim.capacity.study import OutcomeStatus
from blis_sim.report.averaged import averaged_points, with_derived
from tests.report.studies import make_outcome, make_point, sweep_points


def test_replications_are_one_point_with_an_interval() -> None:
    """Mean and Student's t over the seeds; a figure that some lack is of those that have it."""
    points = [
        make_point(
            {"hardware": "H100", "replication": n}, make_outcome(metrics={"mean_ttft_ms": v})
        )
        for n, v in enumerate((10.0, 12.0, 14.0))
    ]
    (point,) = averaged_points(points)
    assert point.labels == {"hardware": "H100"}
    assert point.num_done == 3
    found = point.estimates["mean_ttft_ms"]
    assert found.mean == 12
    assert found.half_width == pytest.approx(4.303 * 2 / math.sqrt(3), rel=1e-4)
    assert point.mean("p99_ttft_ms") is None


def test_one_run_has_no_interval() -> None:
    """A mean of one is no estimate of its error."""
    points = averaged_points(sweep_points(("H100",), (2, 4)))
    assert [point.labels["workload.request_rate"] for point in points] == [2, 4]
    assert {found.half_width for point in points for found in point.estimates.values()} == {None}


def test_quantiles_are_averaged() -> None:
    """Percentile by percentile."""
    points = [
        make_point({"replication": n}, make_outcome(quantiles={"ttft": [v, 2 * v]}))
        for n, v in enumerate((1.0, 3.0))
    ]
    assert averaged_points(points)[0].quantiles == {"ttft": [2.0, 4.0]}


def test_what_is_not_done_is_told_apart() -> None:
    """Infeasible has a reason, unfinished has none, and a rest of replications still counts."""
    half = [
        make_point({"hardware": "H100", "replication": 0}, make_outcome()),
        make_point({"hardware": "H100", "replication": 1}, None),
    ]
    half_done, refused = averaged_points([*half, *sweep_points(("T4",), (2,))])
    assert (half_done.status, half_done.num_open, half_done.is_done) == (None, 1, True)
    assert (refused.status, refused.is_done) == (OutcomeStatus.INFEASIBLE, False)
    assert refused.reason == "the weights do not fit on a T4"


def test_figures_that_follow_from_others() -> None:
    """Speed for a user, price per hour, share of good requests; none without data."""
    found = with_derived(
        {
            "mean_tpot_ms": 20.0,
            "duration": 100.0,
            "cost_usd": 0.5,
            "request_throughput": 8.0,
            "request_goodput": 6.0,
            "request_rate": "inf",
            "num_preemptions": None,
        }
    )
    assert found["tokens_per_s_per_user"] == 50
    assert found["usd_per_hour"] == 18
    assert found["goodput_frac"] == 0.75
    assert "request_rate" not in found
    assert "num_preemptions" not in found
    assert with_derived({}) == {}


def test_limits_are_kept_or_missed() -> None:
    """At the limit is kept; goodput is a lower limit; no data keeps none."""
    (point,) = averaged_points([make_point({}, make_outcome(metrics={"p99_ttft_ms": 200.0}))])
    assert point.misses([Limit("p99_ttft_ms", 200.0)]) == []
    missed = [Limit("p99_ttft_ms", 199.0), Limit("p99_itl_ms", 9.0), Limit("goodput_frac", 0.9)]
    assert point.misses(missed) == missed
