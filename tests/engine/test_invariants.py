"""Laws that hold in every run, whatever the load and the engine."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.engine.simulation import Simulation
from blis_sim.latency.base import LatencyModel
from blis_sim.metrics.conservation import check_conservation, conservation
from blis_sim.metrics.records import RunData, Status

from .builders import (
    fixed,
    make_blackbox,
    make_simulation,
    make_specs,
    make_v1,
    rows,
    simulate,
    simulate_both_ways,
)
from .scenarios import Scenario, loads, scenarios, wrapped

HORIZONS = st.sampled_from([None, None, 300, 2_000])
TIMES = ("arrival_us", "enqueued_us", "scheduled_us", "first_token_us", "last_token_us")


@fixed
@given(scenarios(), HORIZONS)
def test_every_request_is_somewhere_exactly_once(
    scenario: Scenario, horizon_us: int | None
) -> None:
    """Injected = the sum of all ends and places; without a horizon nobody is left inside."""
    run = simulate(scenario.requests, horizon_us=horizon_us, **scenario.settings)
    counts = conservation(run)
    arrived = [
        spec for spec in scenario.requests if horizon_us is None or spec.arrival_us <= horizon_us
    ]
    assert counts["injected"] == len(arrived)
    assert counts["injected"] == sum(counts[status.name.lower()] for status in Status)
    if horizon_us is None:
        inside = ("in_frontend", "in_gateway", "waiting", "running", "in_transfer")
        assert not any(counts[place] for place in inside)


@fixed
@given(scenarios(), HORIZONS)
def test_coalescing_changes_nothing(scenario: Scenario, horizon_us: int | None) -> None:
    """Every column, counter and histogram is that of the plain loop, tokens by second too."""
    simulate_both_ways(scenario.requests, horizon_us=horizon_us, **scenario.settings)


@fixed
@given(scenarios(), HORIZONS)
def test_times_are_in_the_order_of_life(scenario: Scenario, horizon_us: int | None) -> None:
    """arrival <= enqueued <= scheduled < first token <= last token, as far as it got."""
    run = simulate(scenario.requests, horizon_us=horizon_us, **scenario.settings)
    for row in rows(run):
        times = [getattr(row, name) for name in TIMES]
        reached = [time for time in times if time is not None]
        assert all(early <= late for early, late in pairwise(reached))
        assert times[: len(reached)] == reached
        if row.first_token_us is not None:
            assert row.scheduled_us < row.first_token_us


@fixed
@given(scenarios(may_leave=False))
def test_who_is_patient_gets_all_his_tokens(scenario: Scenario) -> None:
    """Without aborts and horizon everybody completes, or is dropped on arrival."""
    run = simulate(scenario.requests, **scenario.settings)
    longest = scenario.engine["max_model_len"]
    for row, spec in zip(rows(run), scenario.requests, strict=True):
        limit = spec.max_output_tokens
        if spec.prompt_tokens >= longest or spec.prompt_tokens + (limit or 0) > longest:
            assert row.status is Status.DROPPED
            continue
        assert row.status is Status.COMPLETED
        owed = min(spec.output_tokens, longest - spec.prompt_tokens)
        assert row.output_tokens == (owed if limit is None else min(owed, limit))


@fixed
@given(scenarios())
def test_blocks_add_up_after_every_step(scenario: Scenario) -> None:
    """Allocated + free = total and references = owners at every step; all are free at the end.

    The accounts are looked at when the engine asks how long a step will take: the blocks held
    then are held for as long as the step lasts.
    """
    simulation: Simulation
    num_checks = block_us = 0

    def check(duration_us: int) -> None:
        nonlocal num_checks, block_us
        num_checks += 1
        block_us += simulation.instance.scheduler.kv.num_used * duration_us
        simulation.instance.scheduler.check_integrity()

    settings = scenario.settings | {"latency": wrapped(scenario.latency, on_step=check)}
    simulation = make_simulation(scenario.requests, coalesce=False, **settings)
    run = simulation.run()
    check_conservation(run)
    assert num_checks == run.counters[0].num_steps
    if scenario.latency.scheduling_time() == 0:
        assert block_us == run.counters[0].kv_block_us
    kv = simulation.instance.scheduler.kv
    simulation.instance.scheduler.check_integrity()
    assert (kv.num_used, kv.num_free) == (0, kv.num_blocks)


@fixed
@given(scenarios())
def test_nothing_is_left_behind(scenario: Scenario) -> None:
    """After the last request queues, decode set and running list are empty, coalesced too."""
    simulation = make_simulation(scenario.requests, **scenario.settings)
    simulation.run()
    scheduler = simulation.instance.scheduler
    assert scheduler.kv.num_used == 0
    assert not scheduler.running
    assert not scheduler.waiting.requests
    assert not scheduler.prefilling
    decodes = scheduler.decodes
    assert (decodes.count, decodes.sum_offset, sum(decodes.buckets)) == (0, 0, 0)


@fixed
@given(scenarios())
def test_busy_time_is_the_sum_of_the_steps(scenario: Scenario) -> None:
    """The engine is busy for as long as its steps last, and never two at a time."""
    durations: list[int] = []
    settings = scenario.settings | {"latency": wrapped(scenario.latency, on_step=durations.append)}
    stepwise = simulate(scenario.requests, coalesce=False, **settings)
    counters = simulate(scenario.requests, **scenario.settings).counters[0]
    extra_us = scenario.latency.preemption_time() * counters.num_preemptions
    scheduling_us = scenario.latency.scheduling_time()
    if scenario.engine["async_scheduling"]:
        busy_us = sum(max(duration, scheduling_us) for duration in durations) + extra_us
    else:
        busy_us = sum(durations) + scheduling_us * len(durations) + extra_us
    assert counters.busy_us == stepwise.counters[0].busy_us == busy_us
    assert counters.num_steps == len(durations)


@fixed
@given(scenarios(may_leave=False))
def test_time_inside_is_the_integral_of_the_number_inside(scenario: Scenario) -> None:
    """Little's law in its exact form: the requests' times from entering to leaving add up to
    the integral of the queue plus that of the running list, preempted or not."""
    run = simulate(scenario.requests, **scenario.settings)
    counters = run.counters[0]
    inside_us = sum(left_us - row.enqueued_us for left_us, row in departures(run))
    assert counters.waiting_us + counters.running_us == inside_us
    if not counters.num_preemptions:
        running_us = sum(left_us - row.scheduled_us for left_us, row in departures(run))
        assert counters.running_us == running_us


def departures(run: RunData) -> list[tuple[int, object]]:
    """Return (time it left the engine, request) of every completed request."""
    return [
        (row.last_token_us - row.output_tokens * run.output_token_us, row)
        for row in rows(run)
        if row.status is Status.COMPLETED
    ]


@fixed
@given(loads(may_leave=False), st.integers(1, 8))
def test_mean_batch_is_the_mean_number_running(requests: list, max_num_seqs: int) -> None:
    """With steps of 10 us in which everybody takes part, requests per step times 10 us is the
    integral of the running list."""
    counters = simulate(requests, max_num_seqs=max_num_seqs).counters[0]
    assert counters.num_preemptions == 0
    assert counters.batch_requests * 10 == counters.running_us
    assert counters.num_steps * 10 == counters.busy_us


@fixed
@given(loads(may_leave=False), st.booleans())
def test_every_token_is_computed_once(requests: list, async_scheduling: bool) -> None:
    """Without preemption a prompt less its hits and N - 1 answer tokens are computed."""
    run = simulate(requests, async_scheduling=async_scheduling, max_num_batched_tokens=30)
    served = [row for row in rows(run) if row.status is Status.COMPLETED]
    counters = run.counters[0]
    assert counters.num_preemptions == 0
    assert counters.num_prefill_tokens == sum(r.prompt_tokens - r.cached_tokens for r in served)
    assert counters.num_decode_tokens == sum(max(r.output_tokens - 1, 0) for r in served)
    assert counters.batch_tokens == counters.num_prefill_tokens + counters.num_decode_tokens
    assert counters.num_generated_tokens == sum(r.output_tokens for r in served)


@fixed
@given(scenarios(may_leave=False))
def test_no_request_is_faster_than_its_own_work(scenario: Scenario) -> None:
    """E2E is at least frontend + one step per token + output processing."""
    run = simulate(scenario.requests, **scenario.settings)
    for row, spec in zip(rows(run), scenario.requests, strict=True):
        if row.status is Status.COMPLETED:
            frontend_us = scenario.latency.queueing_time(spec)
            steps_us = max(row.output_tokens, 1) * (1 + scenario.latency.scheduling_time())
            if scenario.engine["async_scheduling"]:
                steps_us = max(row.output_tokens, 1)
            client_us = row.output_tokens * scenario.token_us
            assert row.enqueued_us == row.arrival_us + frontend_us
            assert row.last_token_us >= row.enqueued_us + steps_us + client_us


@pytest.mark.parametrize("arrival_us", [3 * 10**9, 9 * 10**14])
@pytest.mark.parametrize("latency", [make_blackbox(9, 1, 1), make_v1()])
def test_results_do_not_depend_on_when_a_load_comes(
    arrival_us: int, latency: LatencyModel
) -> None:
    """The same load years later is served alike: nothing overflows, nothing is rounded.

    8 requests of some 2,000 tokens take 16,000 blocks of one token, so the integral of the
    blocks passes 64 bits on its way.
    """

    def run_at(start_us: int) -> list[int | None]:
        requests = make_specs(
            *({"arrival_us": start_us + 37 * n, "output_tokens": 2000 + n} for n in range(8))
        )
        run = simulate(
            requests, num_kv_blocks=20_000, block_size=1, max_model_len=3000, latency=latency
        )
        shifted = [getattr(row, name) - start_us for row in rows(run) for name in TIMES]
        counters = run.counters[0]
        return [*shifted, counters.busy_us, counters.kv_block_us, counters.waiting_us]

    assert run_at(arrival_us) == run_at(0)
