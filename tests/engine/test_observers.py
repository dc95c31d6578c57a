"""Who looks at a run changes nothing, and sees what stepping one by one would show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blis_sim.metrics.records import Status

from .builders import (
    column,
    fixed,
    make_blackbox,
    make_specs,
    observed,
    rows,
    samples,
    simulate,
    simulate_both_ways,
)
from .scenarios import Scenario, scenarios

INTERVALS = st.sampled_from([7, 10, 50, 333, 1_000])


def without_idle_start(scenario: Scenario) -> Scenario:
    """Return the load begun at 0, lest millions of samples are taken before it."""
    start_us = scenario.requests[0].arrival_us
    scenario.requests = [r._replace(arrival_us=r.arrival_us - start_us) for r in scenario.requests]
    return scenario


@fixed
@given(scenarios(), INTERVALS, st.sampled_from([None, None, 700]))
def test_sampling_changes_nothing(
    scenario: Scenario, interval_us: int, horizon_us: int | None
) -> None:
    """With and without a time series: the same requests, gaps and counters."""
    requests = without_idle_start(scenario).requests
    settings = scenario.settings | {"horizon_us": horizon_us}
    sampled = simulate(requests, sample_interval_us=interval_us, **settings)
    assert observed(sampled) == observed(simulate(requests, **settings))


@fixed
@given(scenarios(), INTERVALS, st.sampled_from([None, None, 700]))
def test_samples_are_those_of_the_plain_loop(
    scenario: Scenario, interval_us: int, horizon_us: int | None
) -> None:
    """In the middle of a run an instance shows exactly what it would step by step."""
    requests = without_idle_start(scenario).requests
    settings = scenario.settings | {"horizon_us": horizon_us, "sample_interval_us": interval_us}
    coalesced = simulate(requests, **settings)
    stepwise = simulate(requests, coalesce=False, **settings)
    assert samples(coalesced) == samples(stepwise)


@fixed
@given(scenarios(may_leave=False), INTERVALS)
def test_samples_agree_with_the_requests(scenario: Scenario, interval_us: int) -> None:
    """Waiting and running at t are those that had entered by t and not ended by t.

    Without preemption the two are told apart by when a request was scheduled.
    """
    requests = without_idle_start(scenario).requests
    run = simulate(requests, sample_interval_us=interval_us, **scenario.settings)
    served = [row for row in rows(run) if row.status is Status.COMPLETED]
    series = samples(run)
    for number, now_us in enumerate(series["time_us"]):
        assert now_us == (number + 1) * interval_us
        inside = [
            row
            for row in served
            if row.enqueued_us <= now_us
            and now_us < row.last_token_us - row.output_tokens * run.output_token_us
        ]
        num_running, num_waiting = series["num_running"][number], series["num_waiting"][number]
        assert num_running + num_waiting == len(inside)
        if not run.counters[0].num_preemptions:
            assert num_running == sum(row.scheduled_us <= now_us for row in inside)
    assert sum(series["generated_tokens"]) == run.counters[0].num_generated_tokens
    assert max(series["kv_blocks"]) <= run.counters[0].peak_kv_blocks
    assert series["num_running"][-1] == series["kv_blocks"][-1] == 0


def test_samples_by_hand() -> None:
    """Two requests on one seat, sampled every 10 us; steps end on the sampled instants.

    ::

        t    request 0 (prompt 6, 3 tokens)      request 1 (prompt 4, 2 tokens), from 5
        10   1 token out, 7th token scheduled    waits
        20   2 tokens out, 8th                   waits
        30   gone                                prompt scheduled: 1 block of 4
        40   -                                   1 token out, 5th scheduled: 2 blocks
        50   -                                   gone
    """
    requests = make_specs(
        {"prompt_tokens": 6, "output_tokens": 3},
        {"prompt_tokens": 4, "output_tokens": 2, "arrival_us": 5},
    )
    run = simulate_both_ways(requests, max_num_seqs=1, sample_interval_us=10)
    assert samples(run) == {
        "time_us": [10, 20, 30, 40, 50],
        "instance": [0] * 5,
        "num_waiting": [1, 1, 0, 0, 0],
        "num_running": [1, 1, 1, 1, 0],
        "kv_blocks": [2, 2, 1, 2, 0],
        "generated_tokens": [1, 1, 1, 1, 1],
    }


def test_peaks_are_noticed_without_an_observer() -> None:
    """Two victims return to the queue between two samples; the peak is 2 all the same.

    Three requests fill 3 blocks; the second step needs 3 more: 1 and 2 give way to 0.
    """
    requests = make_specs(*({"prompt_tokens": 4, "output_tokens": 3} for _ in range(3)))
    for interval_us in (None, 3):
        run = simulate(requests, num_kv_blocks=3, max_model_len=12, sample_interval_us=interval_us)
        assert run.counters[0].num_preemptions >= 2
        assert run.counters[0].peak_waiting == 3


def test_a_victim_that_ends_in_the_queue_is_seen_there() -> None:
    """Asynchronous, blocks of 4, a pool of 4: request 1 gives way at 40, when its last token is
    in flight, and ends in the queue at 50. Two enter at 45: from then on three wait."""
    requests = make_specs(
        {"prompt_tokens": 4, "output_tokens": 8},
        {"prompt_tokens": 4, "output_tokens": 5},
        {"prompt_tokens": 4, "output_tokens": 1, "arrival_us": 45},
        {"prompt_tokens": 4, "output_tokens": 1, "arrival_us": 45},
    )
    settings = {"num_kv_blocks": 4, "max_model_len": 16, "async_scheduling": True}
    sampled = simulate(requests, sample_interval_us=48, **settings)
    assert samples(sampled)["num_waiting"][0] == 3
    assert column(sampled, "last_token_us")[1] == 50
    assert sampled.counters[0].peak_waiting == 3
    assert simulate(requests, **settings).counters[0].peak_waiting == 3


def test_sampling_stops_with_the_load() -> None:
    """The last sample is the first after the end; deadlines that pass later add none."""
    run = simulate(make_specs({"abort_us": 10_000}), sample_interval_us=20)
    assert samples(run)["time_us"] == [20, 40, 60]


def test_a_horizon_is_sampled() -> None:
    """Observers come before the horizon at its instant; after it there is nothing to see."""
    run = simulate(make_specs({"output_tokens": 90}), sample_interval_us=20, horizon_us=60)
    assert samples(run)["time_us"] == [20, 40, 60]
    assert column(run, "output_tokens") == [6]


def test_sampling_an_idle_gap_costs_nothing_but_samples() -> None:
    """Between two far requests the samples are zeros, and the second is served alike."""
    run = simulate(
        make_specs({"output_tokens": 2}, {"arrival_us": 1000, "output_tokens": 2}),
        sample_interval_us=100,
        latency=make_blackbox(10),
    )
    assert samples(run)["num_running"] == [0] * 9 + [1, 0]
    assert column(run, "last_token_us") == [20, 1020]
