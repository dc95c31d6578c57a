"""What a preemption costs its victim, by hand."""

from __future__ import annotations

import pytest

from .builders import (
    CostlyModel,
    column,
    gaps,
    make_blackbox,
    serve,
)

PAIR = {"prompt_tokens": 4, "output_tokens": 6}, {"prompt_tokens": 4, "output_tokens": 6}
"""In a pool of 4 blocks of 4 they fill 2 each; the 6th token takes a third."""


@pytest.mark.parametrize(("caching", "recached", "last_us"), [(True, 4, 83), (False, 0, 87)])
def test_a_victim_returns_and_hits_its_own_blocks(
    caching: bool, recached: int, last_us: int
) -> None:
    """Steps of 10 us + 1 per prefill token.

    ::

        0 - 18   both prompts, 8 tokens
        18 - 58  4 decode steps; both have 5 tokens and 8 computed: the pool is full
        58 - 68  request 1 is preempted, 0 takes one of its blocks and ends
        68 -     request 1 computes 9 tokens less what it finds of its own

    Of its two full blocks the second, first on the free list, went to request 0. It hits 4
    tokens and computes 5: 68 + 10 + 5 = 83; without caching 68 + 10 + 9 = 87.
    """
    run = serve(
        *PAIR,
        latency=make_blackbox(10, 1),
        num_kv_blocks=4,
        max_model_len=16,
        enable_prefix_caching=caching,
    )
    assert column(run, "last_token_us") == [68, last_us]
    assert column(run, "num_preemptions") == [0, 1]
    assert column(run, "recached_tokens") == [0, recached]
    assert gaps(run) == {10: 9, last_us - 58: 1}
    assert run.counters[0].num_preemptions == 1
    assert run.counters[0].peak_kv_blocks == 4


def test_a_preemption_costs_its_time() -> None:
    """Steps of 10 + 3 us; the sixth, with one victim, 5 us more: 65 + 18 = 83, then 96."""
    run = serve(
        *PAIR, latency=CostlyModel((0, 0, 0), (10, 0, 0)), num_kv_blocks=4, max_model_len=16
    )
    assert column(run, "last_token_us") == [83, 96]


def test_a_preemption_is_paid_when_the_rest_decodes_on() -> None:
    """The least urgent finds no block, stands first and goes; the pass ends with nothing.

    Priority, pool 4: request 0 (urgency 5) and 1 (urgency 0) prefill 0 - 13 and decode to 65
    with 8 computed tokens each. Request 0 preempts itself; the next pass of that instant is
    1 alone, decoding, for 10 + 3 + 5 us to 83; then 0 alone for 13 us to 96.
    """
    first, second = (
        {**request, "priority": urgency} for request, urgency in zip(PAIR, (5, 0), strict=True)
    )
    run = serve(
        {**first, "arrival_us": 0},
        {**second, "output_tokens": 8},
        latency=CostlyModel((0, 0, 0), (10, 0, 0)),
        num_kv_blocks=4,
        max_model_len=16,
        policy="priority",
    )
    assert column(run, "num_preemptions") == [1, 0]
    assert column(run, "first_token_us") == [13, 13]
    assert 18 in gaps(run)
