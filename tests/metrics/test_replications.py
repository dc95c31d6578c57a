"""Figures of several seeds."""

from __future__ import annotations

import math

import pytest

from blis_sim.metrics.replications import Replicated, SeedFigures, combined


def test_mean_and_interval_by_hand() -> None:
    """10, 12, 14: a standard deviation of 2, t of two degrees of freedom 4.303."""
    figure = Replicated((10, 12, 14))
    assert figure.mean == 12
    assert figure.half_width_95 == pytest.approx(4.303 * 2 / math.sqrt(3))
    # Two values: half their distance is their error, t of one degree is 12.706.
    assert Replicated((1.0, 3.0)).half_width_95 == pytest.approx(12.706)


def test_what_has_no_data_does_not_count() -> None:
    """The mean is over the others; one value alone has no interval, none has no mean."""
    assert Replicated((None, 4.0, 6.0)).mean == 5
    assert Replicated((None, 4.0, 6.0)).half_width_95 == pytest.approx(12.706)
    assert Replicated((None, 4.0)).half_width_95 is None
    assert Replicated((None, None)).mean is None
    assert not Replicated((None, 4.0)).is_constant
    assert Replicated((None, None)).is_constant


def test_another_unit_scales_mean_and_interval() -> None:
    figure = Replicated((0.1, None, 0.3)).scaled(100)
    assert figure.values == (10, None, 30)


def test_figures_are_put_together_by_name() -> None:
    """What was asked for is no figure; the order of the seeds is kept."""
    each = [
        SeedFigures(
            7, {"date": "a", "request_rate": 2.0, "completed": 5, "p": 1.0}, {"failed": 0}
        ),
        SeedFigures(
            8, {"date": "b", "request_rate": 2.0, "completed": 5, "p": 3.0}, {"failed": 1}
        ),
    ]
    found = combined(each)
    assert found.seeds == (7, 8)
    assert dict(found.metrics) == {"completed": Replicated((5, 5)), "p": Replicated((1.0, 3.0))}
    assert found.conservation["failed"].values == (0, 1)
    assert found.is_random
    assert found.to_json_dict()["metrics"]["p"] == {
        "mean": 2,
        "half_width_95": pytest.approx(12.706),
        "values": [1.0, 3.0],
    }


def test_a_seed_that_changes_nothing_is_seen() -> None:
    each = [SeedFigures(seed, {"date": str(seed), "p": 1.5}, {"failed": 0}) for seed in (1, 2, 3)]
    assert not combined(each).is_random
    assert combined(each).to_json_dict()["is_random"] is False
