"""A KV cache that is too small slows a load down and never stops it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.metrics.records import RunData, Status
from blis_sim.workload.request import RequestSpec

from .builders import (
    column,
    fixed,
    make_blackbox,
    make_spec,
    make_specs,
    rows,
    simulate,
    simulate_both_ways,
)

CASE = Path(__file__).resolve().parents[3] / "shared" / "conformance" / "kv_pressure_nocache"


def mean_e2e_us(run: RunData) -> float:
    columns = run.requests
    return float((columns.last_token_us - columns.arrival_us).mean())


def assert_caching_helps(requests: list[RequestSpec], **settings: Any) -> tuple[RunData, RunData]:
    """Assert that all requests end under pressure, and sooner when victims find their blocks.

    Nothing is shared in the load: all hits are those of victims on what they left behind.
    """
    without = simulate(requests, enable_prefix_caching=False, **settings)
    cached = simulate(requests, enable_prefix_caching=True, **settings)
    for run in (without, cached):
        assert set(column(run, "status")) == {Status.COMPLETED}
        assert run.counters[0].peak_kv_blocks == run.counters[0].num_kv_blocks
    assert without.counters[0].recached_tokens == 0
    assert cached.counters[0].prefix_hits_tokens == 0
    assert cached.counters[0].recached_tokens > 0
    assert mean_e2e_us(cached) < mean_e2e_us(without)
    return without, cached


@pytest.mark.skipif(not CASE.is_dir(), reason=f"the reference results are not there: {CASE}")
def test_the_600_requests_end() -> None:
    """600 requests in 3,000 blocks: as the reference without caching, and sooner with it.

    Whoever is recomputed faster also gives way less often.
    """
    settings = yaml.safe_load((CASE / "case.yaml").read_text())["settings"]
    with (CASE / "trace.csv").open(newline="") as stream:
        requests = [
            make_spec(number, *map(int, row.values()))
            for number, row in enumerate(csv.DictReader(stream))
        ]
    with (CASE / "expected.csv").open(newline="") as stream:
        expected = [int(row["e2e_us"]) for row in csv.DictReader(stream)]
    assert len(requests) == 600
    without, cached = assert_caching_helps(
        requests,
        latency=make_blackbox(*settings["beta"]),
        num_kv_blocks=settings["num_kv_blocks"],
        block_size=16,
        max_num_seqs=settings["max_num_seqs"],
        max_num_batched_tokens=settings["max_num_batched_tokens"],
        max_model_len=16 * settings["num_kv_blocks"],
    )
    assert mean_e2e_us(without) == np.mean(expected)
    assert cached.counters[0].num_preemptions < without.counters[0].num_preemptions


@pytest.mark.parametrize("async_scheduling", [False, True])
@pytest.mark.parametrize("policy", ["fcfs", "priority", "sjf"])
def test_a_crowd_in_a_small_pool_ends(policy: str, async_scheduling: bool) -> None:
    """120 requests of 40 + 60 tokens, all in a second, in 150 blocks of 4 that hold 6."""
    rng = np.random.default_rng(5)
    requests = [
        make_spec(number, 8_000 * number, prompt, output, priority=number % 3)
        for number, (prompt, output) in enumerate(
            rng.integers((20, 30), (60, 90), (120, 2)).tolist()
        )
    ]
    assert_caching_helps(
        requests,
        latency=make_blackbox(700, 20, 30),
        num_kv_blocks=150,
        max_num_seqs=32,
        max_num_batched_tokens=256,
        max_model_len=600,
        policy=policy,
        async_scheduling=async_scheduling,
    )


@fixed
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 40)), min_size=2, max_size=9),
    st.sampled_from(["fcfs", "priority", "sjf"]),
    st.booleans(),
    st.booleans(),
)
def test_a_pool_of_one_request_makes_progress(
    lengths: list[tuple[int, int]], policy: str, async_scheduling: bool, caching: bool
) -> None:
    """All at once, in a pool that holds one longest request: every one of them completes."""
    requests = [
        make_spec(number, 0, prompt, output, priority=number % 2)
        for number, (prompt, output) in enumerate(lengths)
    ]
    run = simulate(
        requests,
        num_kv_blocks=16,
        block_size=4,
        max_model_len=64,
        max_num_batched_tokens=20,
        policy=policy,
        async_scheduling=async_scheduling,
        enable_prefix_caching=caching,
    )
    assert set(column(run, "status")) == {Status.COMPLETED}
    owed = [min(output, 64 - prompt) for prompt, output in lengths]
    assert column(run, "output_tokens") == owed


@fixed
@given(
    prompt_tokens=st.integers(1, 70),
    output_tokens=st.integers(0, 80),
    block_size=st.sampled_from([1, 4, 16]),
    threshold=st.sampled_from([0, 5]),
    async_scheduling=st.booleans(),
)
def test_a_lone_request_never_preempts_itself(
    prompt_tokens: int, output_tokens: int, block_size: int, threshold: int, async_scheduling: bool
) -> None:
    """In a pool of exactly max_model_len tokens it ends, or is capped, or never enters."""
    run = simulate_both_ways(
        [make_spec(prompt_tokens=prompt_tokens, output_tokens=output_tokens)],
        num_kv_blocks=64 // block_size,
        block_size=block_size,
        max_model_len=64,
        long_prefill_token_threshold=threshold,
        async_scheduling=async_scheduling,
    )
    (row,) = rows(run)
    assert row.num_preemptions == 0
    assert row.status is (Status.DROPPED if prompt_tokens >= 64 else Status.COMPLETED)
    if row.status is Status.COMPLETED:
        assert row.output_tokens == min(output_tokens, 64 - prompt_tokens)


def test_what_can_never_fit_is_dropped_with_a_reason() -> None:
    """The pool holds max_model_len tokens; who could need more is told so on arrival."""
    run = simulate(
        make_specs(
            {"prompt_tokens": 64},
            {"prompt_tokens": 60, "max_output_tokens": 5},
            {"prompt_tokens": 60, "max_output_tokens": 4},
        ),
        num_kv_blocks=16,
        max_model_len=64,
    )
    assert column(run, "status") == [Status.DROPPED, Status.DROPPED, Status.COMPLETED]
    assert [run.reasons[row.reason] for row in rows(run)[:2]] == [
        "prompt_tokens >= max_model_len (64 tokens)",
        "prompt_tokens + max_output_tokens > max_model_len (64 tokens)",
    ]


def test_the_oldest_is_never_preempted_under_fcfs() -> None:
    """Victims are taken from the back, so the first admitted always goes on."""
    requests = [make_spec(number, number, 12, 40) for number in range(10)]
    run = simulate_both_ways(requests, num_kv_blocks=16, max_model_len=64)
    preemptions = [row.num_preemptions for row in rows(run)]
    assert preemptions[0] == 0
    assert sum(preemptions) > 5
    ends = column(run, "last_token_us")
    assert ends == sorted(ends)
