from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from blis_sim.config.lengths import LengthSettings
from blis_sim.workload.generator import GeneratedWorkload
from blis_sim.workload.request import RequestSpec

from .builders import make_requests, make_workload

SPECIALS: dict[str, Any] = {
    "num_requests": 5000,
    "request_rate": 20.0,
    "preset": "chatbot",
    "prefix_tokens": 96,
    "num_prefix_groups": 3,
}


def test_requests_are_complete_and_in_order() -> None:
    """Every field is there and typed, ids count from 0, arrivals never decrease."""
    requests = make_requests(**SPECIALS, max_output_tokens=9, timeout_s=2.5, slo_class="gold")
    assert [r.request_id for r in requests] == list(range(5000))
    arrivals = [r.arrival_us for r in requests]
    assert arrivals == sorted(arrivals)
    for request in requests:
        assert type(request) is RequestSpec
        assert len(request) == len(RequestSpec._fields)
        assert type(request.arrival_us) is int
        assert 96 + 2 <= request.prompt_tokens <= 96 + 800
        assert 1 <= request.output_tokens <= 1024
        assert request.prefix_group in {"prefix-0", "prefix-1", "prefix-2"}
    assert set(requests[0][4:]) >= {9, 96, "gold", 2_500_000}
    assert requests[0].max_output_tokens == 9
    assert requests[0].prefix_tokens == 96
    assert requests[0].slo_class == "gold"
    assert requests[0].timeout_us == 2_500_000


def test_plain_request_has_the_defaults_of_the_record() -> None:
    """What the settings do not mention is what RequestSpec has by default."""
    request = make_requests(num_requests=1)[0]
    assert request == RequestSpec(*request[:4])


def test_default_is_a_hundred_requests_at_one_per_second() -> None:
    """Without settings: 100 requests, Poisson, lengths of the distribution preset."""
    workload = make_workload()
    requests = list(workload)
    assert workload.num_requests == len(requests) == 100
    assert requests[-1].arrival_us / 1e6 == pytest.approx(100, abs=4.5 * math.sqrt(100))
    assert "poisson arrivals at 1 requests/s" in workload.description
    assert workload.source is None


def test_a_workload_can_be_walked_again() -> None:
    """Every walk starts the random streams anew."""
    workload = make_workload(**SPECIALS)
    partial = list(islice(workload, 10))
    assert list(workload) == list(workload.requests())
    assert list(islice(workload, 10)) == partial


def test_seeds_differ() -> None:
    """Another seed is another workload."""
    assert make_requests(seed=1, **SPECIALS) != make_requests(seed=2, **SPECIALS)


@pytest.mark.parametrize("chunk", [1, 13, 4999, 5000, 20_000])
@pytest.mark.parametrize("extra", [{}, {"arrivals": {"burstiness": 0.4, "normalize_span": True}}])
def test_chunks_do_not_change_the_stream(chunk: int, extra: dict[str, Any]) -> None:
    """Requests are the same however many are drawn at a time."""
    workload = make_workload(**SPECIALS, **extra)
    assert isinstance(workload, GeneratedWorkload)
    assert list(replace(workload, chunk_requests=chunk)) == list(workload)


CHANGES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("rate", {"request_rate": 0.5}, ("arrival_us",)),
    ("all at once", {"request_rate": math.inf}, ("arrival_us",)),
    ("gamma", {"arrivals": {"burstiness": 0.5}}, ("arrival_us",)),
    ("span", {"arrivals": {"normalize_span": True}}, ("arrival_us",)),
    ("prompt", {"prompt": LengthSettings(mean=999, stdev=9)}, ("prompt_tokens",)),
    ("output", {"output": LengthSettings(mean=999, stdev=9)}, ("output_tokens",)),
    ("groups", {"num_prefix_groups": 7}, ("prefix_group",)),
    ("prefix", {"prefix_tokens": 5}, ("prompt_tokens", "prefix_tokens")),
    ("cap", {"max_output_tokens": 3}, ("max_output_tokens",)),
]


@pytest.mark.parametrize(
    ("change", "moves"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_a_setting_moves_only_what_it_names(
    change: dict[str, Any], moves: tuple[str, ...]
) -> None:
    """A seed gives the same workload whatever else changes: the streams are independent."""
    before = make_requests(**SPECIALS)
    after = make_requests(**{**SPECIALS, **change})
    for name in RequestSpec._fields:
        column_before, column_after = ([getattr(r, name) for r in rs] for rs in (before, after))
        assert (column_before != column_after) == (name in moves), name


def test_more_requests_extend_the_stream() -> None:
    """The first thousand requests of a longer workload are those of the shorter one."""
    longer = make_requests(**{**SPECIALS, "num_requests": 9000})
    assert longer[:5000] == make_requests(**SPECIALS)


def test_another_mean_shifts_the_same_lengths() -> None:
    """Lengths are scaled normals: the same requests are the long ones."""
    columns = [
        [
            r.prompt_tokens
            for r in make_requests(
                num_requests=2000, prompt=LengthSettings(mean=mean, stdev=50, max=10_000)
            )
        ]
        for mean in (1000, 3000)
    ]
    assert [a + 2000 for a in columns[0]] == columns[1]


def test_prefix_groups_are_drawn_uniformly() -> None:
    """Each of n groups gets 1/n of the requests within 4.5 standard errors."""
    requests = make_requests(num_requests=40_000, prefix_tokens=1, num_prefix_groups=8)
    counts = Counter(r.prefix_group for r in requests)
    assert len(counts) == 8
    error = math.sqrt(40_000 * (1 / 8) * (7 / 8))
    assert all(abs(count - 5000) < 4.5 * error for count in counts.values())


def test_lengths_and_gaps_are_independent() -> None:
    """Arrivals, prompts and outputs of one request are not correlated."""
    requests = make_requests(num_requests=20_000)
    columns = np.array([[r.arrival_us, r.prompt_tokens, r.output_tokens] for r in requests]).T
    gaps = np.diff(columns[0], prepend=0)
    correlation = np.corrcoef([gaps, columns[1], columns[2]])
    limit = 4.5 / math.sqrt(len(requests))
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < limit


def test_horizon_ends_a_load_without_a_count() -> None:
    """Without num_requests the stream goes on until the last arrival within the horizon."""
    horizon_us = 3_000_000_000
    workload = make_workload(horizon_us=horizon_us, request_rate=5.0)
    requests = list(workload)
    assert workload.num_requests is None
    assert len(requests) == pytest.approx(15_000, abs=4.5 * math.sqrt(15_000))
    assert requests[-1].arrival_us <= horizon_us
    longer = make_requests(request_rate=5.0, num_requests=len(requests) + 1)
    assert longer[:-1] == requests
    assert longer[-1].arrival_us > horizon_us


def test_arrival_at_the_horizon_belongs_to_the_stream() -> None:
    """The horizon itself is included."""
    requests = make_requests(horizon_us=5_000_000, request_rate=1.0, arrivals="constant")
    assert [r.arrival_us for r in requests] == [1_000_000 * k for k in range(1, 6)]


def test_count_wins_over_the_horizon() -> None:
    """With num_requests the stream is the same with and without a horizon."""
    assert make_requests(horizon_us=1, num_requests=50) == make_requests(num_requests=50)


def test_memory_does_not_grow_with_the_number_of_requests() -> None:
    """Walking 200,000 requests needs one chunk of them at a time."""
    workload = make_workload(
        num_requests=200_000, prefix_tokens=16, arrivals={"normalize_span": True}
    )
    next(iter(workload))
    tracemalloc.start()
    try:
        count = sum(1 for _ in workload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 200_000
    assert peak < 5_000_000
