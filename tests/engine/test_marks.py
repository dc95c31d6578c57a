"""Snapshots of the books change nothing, and show what stepping one by one would show."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.cluster.simulation import ClusterSimulation
from blis_sim.engine.simulation import Simulation
from blis_sim.metrics.conservation import check_conservation
from blis_sim.metrics.records import Mark, RunData
from tests.cluster.builders import observed_cluster, serve_cluster, with_coalescing
from tests.cluster.scenarios import ClusterScenario, clusters

from .builders import make_blackbox, make_config, make_specs, observed, simulate
from .scenarios import Scenario, scenarios

few = settings(max_examples=50, derandomize=True, deadline=None)

STEPS_US = st.lists(st.integers(0, 150), min_size=1, max_size=8)
BEGINS_US = st.sampled_from([0, 1, 20, 100])
HORIZONS = st.sampled_from([None, None, 300])


def instants(scenario: Scenario, begin_us: int, steps_us: list[int]) -> list[int]:
    """Return instants around the load: some before it, some when it is over."""
    found = [max(scenario.requests[0].arrival_us - begin_us, 0)]
    for step_us in steps_us:
        found.append(found[-1] + step_us)
    return found


def with_marks(scenario: Scenario, marks_us: list[int], **more: Any) -> RunData:
    engine = dict(scenario.settings)
    latency = engine.pop("latency")
    horizon_us = more.pop("horizon_us", None)
    config = make_config(**engine | more)
    run = Simulation(
        config, latency, scenario.requests, marks_us=marks_us, horizon_us=horizon_us
    ).run()
    check_conservation(run)
    return run


def shown(mark: Mark) -> dict[str, Any]:
    """Return what a mark holds, except how much work it was."""
    counters = [asdict(each) for each in mark.counters]
    for each in counters:
        del each["num_events"]
    gaps = dict(zip(mark.itl_us.tolist(), mark.itl_count.tolist(), strict=True))
    return {"time_us": mark.time_us, "counters": counters, "gaps": gaps}


@few
@given(scenarios(), BEGINS_US, STEPS_US, HORIZONS)
def test_marks_change_nothing(
    scenario: Scenario, begin_us: int, steps_us: list[int], horizon_us: int | None
) -> None:
    """With and without marks: the same requests, gaps, seconds and counters."""
    if horizon_us is not None:
        horizon_us += scenario.requests[0].arrival_us
    marks_us = instants(scenario, begin_us, steps_us)
    run = with_marks(scenario, marks_us, horizon_us=horizon_us)
    plain = simulate(scenario.requests, horizon_us=horizon_us, **scenario.settings)
    assert observed(run) == observed(plain)
    taken = [at for at in marks_us if horizon_us is None or at <= horizon_us]
    assert [mark.time_us for mark in run.marks] == taken


@few
@given(scenarios(), BEGINS_US, STEPS_US)
def test_marks_are_those_of_the_plain_loop(
    scenario: Scenario, begin_us: int, steps_us: list[int]
) -> None:
    """In the middle of a run the books stand exactly as they would step by step."""
    marks_us = instants(scenario, begin_us, steps_us)
    coalesced = with_marks(scenario, marks_us)
    stepwise = with_marks(scenario, marks_us, coalesce=False)
    assert [*map(shown, coalesced.marks)] == [*map(shown, stepwise.marks)]
    for first, last in pairwise(coalesced.marks):
        check_grown(first, last)


def check_grown(first: Mark, last: Mark) -> None:
    """Check that no counter and no count of a gap has become smaller."""
    for before, after in zip(first.counters, last.counters, strict=True):
        assert all(value >= asdict(before)[name] for name, value in asdict(after).items())
    early, late = shown(first)["gaps"], shown(last)["gaps"]
    assert all(late.get(gap_us, 0) >= count for gap_us, count in early.items())


@few
@given(clusters(), STEPS_US)
def test_marks_change_nothing_in_a_cluster(scenario: ClusterScenario, steps_us: list[int]) -> None:
    """Gateways, transfers, scaling: the same bytes, and the marks of the plain loop."""
    marks_us = [sum(steps_us[:number]) for number in range(1, len(steps_us) + 1)]
    more = scenario.settings
    run = serve_cluster(scenario.config, scenario.requests, marks_us=marks_us, **more)
    without = serve_cluster(scenario.config, scenario.requests, **more)
    assert observed_cluster(run) == observed_cluster(without)
    plain = ClusterSimulation(
        with_coalescing(scenario.config, False), scenario.requests, marks_us=marks_us, **more
    ).run()
    assert [*map(shown, run.marks)] == [*map(shown, plain.marks)]


def test_a_mark_inside_a_stretch_of_equal_steps() -> None:
    """It cuts the short way through decoding, where many steps are one event."""
    requests = make_specs({"output_tokens": 400}, {"output_tokens": 300, "arrival_us": 45})
    runs = [
        Simulation(
            make_config(coalesce=coalesce), make_blackbox(10), requests, marks_us=[1001, 2999]
        ).run()
        for coalesce in (True, False)
    ]
    assert runs[0].counters[0].num_events < 20 < runs[1].counters[0].num_events
    assert observed(runs[0]) == observed(runs[1])
    assert [*map(shown, runs[0].marks)] == [*map(shown, runs[1].marks)]
    # Decodes have ended at 20, 30, ... of request 0, and at 70, 80, ... of request 1.
    decoded = [mark.counters[0].num_decode_tokens for mark in runs[0].marks]
    assert decoded == [99 + 94, 298 + 293]


def test_marks_by_hand() -> None:
    """Two requests on one seat, steps of 10 us; a mark comes last at its instant.

    ::

        t    request 0 (prompt 6, 3 tokens)    request 1 (prompt 4, 2 tokens), from 5
        10   1 token out                       waits since 5
        20   2 tokens out, gap of 10           waits
        30   3 tokens out, gap of 10, gone     prompt scheduled
        50                                     2 tokens out, gap of 10, gone
    """
    requests = make_specs(
        {"prompt_tokens": 6, "output_tokens": 3},
        {"prompt_tokens": 4, "output_tokens": 2, "arrival_us": 5},
    )
    config = make_config(max_num_seqs=1)
    marks_us = [0, 20, 25, 50, 90]
    run = Simulation(config, make_blackbox(10), requests, marks_us=marks_us).run()
    seen = [
        (
            mark.time_us,
            shown(mark)["gaps"],
            mark.counters[0].num_generated_tokens,
            mark.counters[0].waiting_us,
            mark.counters[0].running_us,
        )
        for mark in run.marks
    ]
    assert seen == [
        (0, {}, 0, 0, 0),
        (20, {10: 1}, 2, 15, 20),
        (25, {10: 1}, 2, 20, 25),
        (50, {10: 3}, 5, 25, 50),
        (90, {10: 3}, 5, 25, 50),
    ]
    last = run.marks[-1]
    assert (last.counters, last.itl_us.tolist()) == (run.counters, run.itl_us.tolist())
