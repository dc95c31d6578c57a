from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
import pytest

from blis_sim.config.lengths import DurationSettings
from blis_sim.config.workload import ArrivalProcess, ArrivalSettings
from blis_sim.errors import ConfigError
from blis_sim.rng import named_stream
from blis_sim.workload.gaps import FloatArray, GapProcess, gap_process

COUNT = 200_000
SPREAD = [
    {"process": "gamma", "burstiness": 0.25},
    {"process": "gamma", "burstiness": 6.0},
    {"process": "gamma", "cv": 0.01},
    {"process": "gamma", "cv": 3.0},
    {"process": "gamma"},
    {"process": "weibull", "cv": 0.01},
    {"process": "weibull", "cv": 0.5},
    {"process": "weibull", "cv": 2.0},
    {"process": "weibull"},
    {"process": "poisson"},
]


def gaps_of(seed: int = 5, count: int = COUNT, **settings: Any) -> FloatArray:
    process = gap_process("arrivals", ArrivalSettings.model_validate(settings))
    return process.draw(named_stream(seed, "gaps"), count)


def wanted_cv(settings: dict[str, Any]) -> float:
    if "burstiness" in settings:
        return 1 / math.sqrt(settings["burstiness"])
    return float(settings.get("cv", 1.0))


@pytest.mark.parametrize("settings", SPREAD, ids=str)
def test_gaps_have_mean_1_and_the_spread_asked_for(settings: dict[str, Any]) -> None:
    """Mean 1 and the coefficient of variation, within 4.5 standard errors."""
    gaps, cv = gaps_of(**settings), wanted_cv(settings)
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(1, abs=4.5 * cv / math.sqrt(COUNT))
    squares = (gaps - 1) ** 2
    error = float(squares.std()) / math.sqrt(COUNT)
    assert squares.mean() == pytest.approx(cv**2, abs=4.5 * error)


@pytest.mark.parametrize("cv", [0.02, 0.7, 1.0, 5.0])
def test_quantiles_follow_the_distribution(cv: float) -> None:
    """Gamma and Weibull gaps fit scipy's distributions (Kolmogorov and Smirnov's test)."""
    stats = pytest.importorskip("scipy.stats")
    shape = 1 / cv**2
    gaps = gaps_of(process="gamma", cv=cv, count=30_000)
    fit = stats.kstest(gaps, stats.gamma(shape, scale=cv**2).cdf)
    assert fit.pvalue > 1e-4
    process = gap_process("a", ArrivalSettings(process=ArrivalProcess.WEIBULL, cv=cv))
    unit = stats.weibull_min(process.shape)
    assert unit.std() / unit.mean() == pytest.approx(cv, rel=1e-8)
    law = stats.weibull_min(process.shape, scale=1 / unit.mean())
    assert stats.kstest(gaps_of(process="weibull", cv=cv), law.cdf).pvalue > 1e-4


@pytest.mark.parametrize("process", ["gamma", "weibull"])
@pytest.mark.parametrize("cv", [0.001, 0.01, 1.0, 10.0, 30.0])
def test_cv_is_solved_from_the_least_to_the_greatest(process: str, cv: float) -> None:
    """The shape has the coefficient of variation asked for, and gaps are finite numbers."""
    settings = ArrivalSettings.model_validate({"process": process, "cv": cv})
    gaps = gap_process("arrivals", settings)
    assert gaps.cv == pytest.approx(cv, rel=1e-8)
    drawn = gaps.draw(named_stream(1, "gaps"), 10_000)
    assert np.isfinite(drawn).all()
    assert (drawn > 0).all()


def test_neighbouring_gaps_are_not_correlated() -> None:
    """A renewal process forgets."""
    gaps = gaps_of(count=100_000)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 4.5 / math.sqrt(len(gaps))


def test_equal_gaps_and_none() -> None:
    """Constant gaps are 1, all at once has none; both know their spread."""
    assert gaps_of(process="constant", count=3).tolist() == [1.0, 1.0, 1.0]
    assert gaps_of(process="all_at_once", count=2).tolist() == [0.0, 0.0]
    assert GapProcess(ArrivalProcess.CONSTANT).cv == 0
    assert GapProcess(ArrivalProcess.POISSON).cv == 1


@pytest.mark.parametrize("count", [1, 4096, 4097, 10_000])
def test_sums_are_those_of_one_long_sum(count: int) -> None:
    """Blocks of sums carry on to the bit, and the total is the last of them."""
    process = GapProcess(ArrivalProcess.GAMMA, 0.3)
    blocks = np.concatenate(list(islice(process.sums(3, "a", "b"), 3)))
    whole = np.cumsum(process.draw(named_stream(3, "a", "b"), len(blocks)))
    assert np.array_equal(blocks, whole)
    assert process.total(count, 3, "a", "b") == whole[count - 1]


def test_bursts_that_underflow_still_have_a_sum() -> None:
    """Gaps too small for a float are not 0."""
    process = gap_process("a", ArrivalSettings(burstiness=0.001))
    assert all(process.total(1, seed, "x") > 0 for seed in range(50))


def test_burstiness_alone_selects_gamma() -> None:
    """As vllm bench serve; names of processes stand in descriptions with their spread."""
    assert gap_process("a", ArrivalSettings(burstiness=0.5)) == gap_process(
        "a", ArrivalSettings(process=ArrivalProcess.GAMMA, burstiness=0.5)
    )
    names = [
        str(gap_process("a", ArrivalSettings.model_validate(settings)))
        for settings in (
            {"burstiness": 0.5},
            {"process": "gamma", "cv": 3},
            {"process": "weibull", "cv": 0.5},
            {"process": "weibull"},
            "poisson",
            "all_at_once",
        )
    ]
    assert names == [
        "gamma (burstiness 0.5)",
        "gamma (cv 3)",
        "weibull (cv 0.5)",
        "weibull (cv 1)",
        "poisson",
        "all at once",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"process": "gamma", "burstiness": 2, "cv": 3},
            r"^w\.arrivals\.cv must not be set together with w\.arrivals\.burstiness; got 3 and 2",
        ),
        (
            {"process": "poisson", "burstiness": 2},
            r"burstiness must not be set with poisson arrivals \(w\.arrivals\.process\); got 2",
        ),
        ({"process": "weibull", "burstiness": 2}, r"burstiness must not be set with weibull"),
        ({"process": "constant", "cv": 2}, r"cv must not be set with constant arrivals"),
        ({"cv": 2}, r"cv must not be set with poisson .* set w\.arrivals\.process to gamma or"),
        ({"process": "all_at_once", "cv": 2}, r"cv must not be set with all_at_once arrivals"),
        ({"num_users": 3}, r"num_users must not be set with poisson .*process to closed_loop"),
        (
            {"process": "gamma", "think_time_s": DurationSettings(mean=1)},
            r"think_time_s must not be set with gamma arrivals .* got a distribution; leave one",
        ),
        ({"burstiness": 1e-9}, r"^w\.arrivals\.burstiness must be >= 0\.001; got 1e-09$"),
        ({"process": "gamma", "cv": 31}, r"cv must be between 0\.001 and 30; got 31$"),
        ({"process": "weibull", "cv": 1e-4}, r"cv must be between .* take constant arrivals"),
        ({"process": "closed_loop", "num_users": 3}, r"process must be a process with gaps .*"),
    ],
)
def test_settings_that_no_process_can_use(settings: dict[str, Any], message: str) -> None:
    """What was given and cannot be used is refused with a remedy."""
    with pytest.raises(ConfigError, match=message):
        gap_process("w.arrivals", ArrivalSettings.model_validate(settings))
