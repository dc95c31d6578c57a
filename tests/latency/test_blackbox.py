"""The blackbox model: the contract, and the regression by hand."""

from __future__ import annotations

from typing import ClassVar

import pytest

from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.blackbox import BlackboxModel

from .contract import Factory, LatencyContract, Prompt


class TestContract(LatencyContract):
    factories: ClassVar[dict[str, Factory]] = {
        "ordinary": lambda: BlackboxModel((1000.5, 1.25, 30.75), (6910.4, 17.67, 2.84)),
        "per token only": lambda: BlackboxModel((0, 0, 0), (0, 0.1, 0.3)),
        "constant": lambda: BlackboxModel((0, 0, 0), (7000, 0, 0)),
        "free": lambda: BlackboxModel((0, 0, 0), (0, 0, 0)),
    }


MODEL = BlackboxModel((100.9, 0.5, 7.99), (1000.5, 10.25, 3.75))


def test_a_step_is_the_truncated_regression() -> None:
    """int(1000.5 + 10.25 * (30 + 5) + 3.75 * 4) = int(1000.5 + 358.75 + 15) = 1374."""
    batch = Batch(4, 400, [PrefillChunk(0, 30), PrefillChunk(64, 5)])
    assert MODEL.step_time(batch) == 1374


def test_context_costs_nothing() -> None:
    """The regression counts tokens, not what stands before them."""
    assert MODEL.step_time(Batch(4, 4)) == MODEL.step_time(Batch(4, 10**6)) == 1015


def test_decodes_say_that_they_are_uniform() -> None:
    """int(1000.5 + 3.75 * 3) = 1011, so a run needs no array."""
    assert MODEL.uniform_decode_time(Batch(3, 12)) == 1011


def test_a_step_lasts_at_least_a_microsecond() -> None:
    """A sum below 1 us truncates to 0, which would stop the clock."""
    model = BlackboxModel((0, 0, 0), (0.2, 0, 0.1))
    assert model.step_time(Batch(1, 5)) == 1
    assert model.uniform_decode_time(Batch(1, 5)) == 1
    assert model.decode_run(Batch(1, 5), 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("prompt_tokens", "expected_us"), [(1, 101), (2, 101), (3, 102)])
def test_frontend_time_is_truncated_once(prompt_tokens: int, expected_us: int) -> None:
    """int(100.9 + 0.5 * prompt): the sum is truncated, not its terms (1: 101.4, 3: 102.4)."""
    assert MODEL.queueing_time(Prompt(prompt_tokens)) == expected_us


def test_output_time_is_truncated_per_token() -> None:
    """int(7.99) = 7 us later for each token; the engine itself is not delayed."""
    assert MODEL.output_token_time() == 7
    assert MODEL.scheduling_time() == MODEL.preemption_time() == 0
