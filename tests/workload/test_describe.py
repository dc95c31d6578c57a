from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.errors import ConfigError
from blis_sim.workload.describe import WorkloadFigures, describe
from blis_sim.workload.observed import observe
from blis_sim.workload.request import RequestSpec

S = 1_000_000


def make_stream(
    arrivals_us: Iterable[int], prompt_tokens: int = 10, output_tokens: int = 5, **fields: object
) -> list[RequestSpec]:
    return [
        RequestSpec(i, at, prompt_tokens, output_tokens)._replace(**fields)
        for i, at in enumerate(arrivals_us)
    ]


def figures_of(requests: Iterable[RequestSpec]) -> WorkloadFigures:
    return describe(observe(requests))


def test_rates_by_hand() -> None:
    """Five arrivals over 100 s: 4 gaps; three of them within a second, four within a minute."""
    arrivals = figures_of(
        make_stream([10 * S, 10 * S + 400_000, 10 * S + 999_999, 69 * S, 110 * S])
    ).arrivals
    assert arrivals.first_s == 10
    assert arrivals.span_s == 100
    assert arrivals.mean_rate_per_s == 0.04
    assert arrivals.gap_mean_s == 25
    assert arrivals.peak_rate_1s_per_s == 3
    assert arrivals.peak_rate_60s_per_s == 4 / 60


@given(st.lists(st.integers(0, 5 * S), min_size=1, max_size=30))
def test_the_peak_is_that_of_the_busiest_window(times: list[int]) -> None:
    """No window that ends just behind an arrival holds more either."""
    times = sorted(times)
    peak = figures_of(make_stream(times)).arrivals.peak_rate_1s_per_s
    windows = [sum(end - S < t <= end for t in times) for end in times]
    assert peak == (max(windows) if times[-1] - times[0] >= S else None)


def test_a_window_ends_before_its_length_is_over() -> None:
    """Arrivals a second apart are not in one window of a second."""
    assert figures_of(make_stream([0, S, 2 * S])).arrivals.peak_rate_1s_per_s == 1


def test_what_comes_with_the_first_arrival_is_in_no_window() -> None:
    """Windows follow it: here each of ten holds one arrival, at its end."""
    arrivals = figures_of(make_stream([0] * 5 + [i * S for i in range(1, 11)])).arrivals
    assert (arrivals.dispersion_window_s, arrivals.dispersion_index) == (1, 0)


def test_windows_without_any_arrival_tell_nothing() -> None:
    """All but the first come behind the last full window."""
    arrivals = figures_of(make_stream([0] + [10 * S + 1] * 20)).arrivals
    assert arrivals.dispersion_index is None


def test_even_gaps_do_not_vary() -> None:
    """cv and index of dispersion of one arrival each second are 0."""
    arrivals = figures_of(make_stream(range(S, 101 * S, S))).arrivals
    assert (arrivals.gap_cv, arrivals.dispersion_index) == (0, 0)
    assert arrivals.dispersion_window_s == 1


@pytest.mark.parametrize(
    ("rate_per_s", "count", "window_s"),
    [(20.0, 20_000, 1.0), (0.3, 5_000, 10.0), (2_000.0, 5_000, 0.1)],
)
def test_poisson_arrivals_have_figures_of_one(
    rate_per_s: float, count: int, window_s: float
) -> None:
    """cv and index of dispersion within 4 standard errors: 1/sqrt(gaps), sqrt(2/windows)."""
    gaps_s = np.random.default_rng(1).exponential(1 / rate_per_s, count)
    times = (np.cumsum(gaps_s) * S).astype(int).tolist()
    arrivals = figures_of(make_stream(times)).arrivals
    assert arrivals.dispersion_window_s == window_s
    assert arrivals.gap_cv == pytest.approx(1, abs=4 / math.sqrt(count))
    num_windows = arrivals.span_s / window_s
    assert arrivals.dispersion_index == pytest.approx(1, abs=4 * math.sqrt(2 / num_windows))


def test_busy_and_idle_minutes_show_in_the_dispersion() -> None:
    """Ten a second for a minute, then none for one: in windows of 1 s mean 5, variance 25."""
    times = [
        cycle * 120 * S + minute_ds * S // 10 for cycle in range(20) for minute_ds in range(1, 601)
    ]
    arrivals = figures_of(make_stream([0, *times, 2400 * S])).arrivals
    assert arrivals.dispersion_index == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize("times", [[7 * S], [7 * S] * 5])
def test_one_instant_has_no_rate(times: list[int]) -> None:
    """Nothing is 0 for want of data."""
    arrivals = figures_of(make_stream(times)).arrivals
    assert (arrivals.first_s, arrivals.span_s) == (7, 0)
    assert arrivals.mean_rate_per_s is None
    assert arrivals.peak_rate_1s_per_s is None
    assert arrivals.gap_cv is None
    assert arrivals.dispersion_index is None


def test_lengths_by_hand() -> None:
    """Percentiles interpolate; the client's limit shortens an answer."""
    stream = [RequestSpec(i, i, n, n, max_output_tokens=3) for i, n in enumerate((1, 2, 3, 10))]
    figures = figures_of(stream)
    prompt, output = figures.prompt_tokens, figures.output_tokens
    assert (prompt.mean, prompt.p50, prompt.max, prompt.total) == (4, 2.5, 10, 16)
    assert prompt.p90 == pytest.approx(7.9)
    assert (output.mean, output.max, output.total) == (2.25, 3, 9)


def test_totals_do_not_overflow() -> None:
    """Prompts of 2**31 - 1 tokens add up exactly."""
    longest = 2**31 - 1
    figures = figures_of(make_stream(range(10), prompt_tokens=longest))
    assert figures.prompt_tokens.total == 10 * longest
    assert figures.prompt_tokens.mean == longest


def test_labels_partition_the_stream() -> None:
    """Requests, tokens and rates of the classes add up to the whole; the largest comes first."""
    stream = [
        spec._replace(
            slo_class=("chat", "batch", None, "chat")[i % 4], prompt_tokens=i + 1, prompt_id="p"
        )
        for i, spec in enumerate(make_stream(range(0, 50 * S, S)))
    ]
    figures = figures_of(stream)
    assert set(figures.labels) == {"slo_class"}
    groups = figures.labels["slo_class"]
    assert [g.name for g in groups] == ["chat", "batch", None]
    assert [g.num_requests for g in groups] == [25, 13, 12]
    assert sum(g.share for g in groups) == pytest.approx(1)
    assert sum(g.prompt_tokens.total for g in groups) == figures.prompt_tokens.total
    assert sum(g.mean_rate_per_s or 0 for g in groups) == pytest.approx(50 / 49)
    assert groups[2].prompt_tokens.max == 47  # the last with i % 4 == 2
    shares = [(g.shareable_share or 0) * g.prompt_tokens.total for g in groups]
    assert sum(shares) == pytest.approx(figures.prefix_cache.shareable_tokens)


def test_sessions_are_counted_by_their_requests() -> None:
    """Three rounds of one and one of another; requests without a session do not count."""
    ids = ("a", None, "b", "a", "a", None)
    stream = [
        spec._replace(session_id=name)
        for spec, name in zip(make_stream(range(6)), ids, strict=True)
    ]
    sessions = figures_of(stream).sessions
    assert sessions is not None
    assert (sessions.num_sessions, sessions.num_requests) == (2, 4)
    assert (sessions.rounds_mean, sessions.rounds_max) == (2, 3)


def test_deadlines_are_timeouts_and_aborts() -> None:
    """Either counts, and both count once."""
    stream = make_stream(range(4))
    stream[0] = stream[0]._replace(abort_us=7)
    stream[1] = stream[1]._replace(timeout_us=5)
    stream[2] = stream[2]._replace(timeout_us=5, abort_us=0)
    deadlines = figures_of(stream).deadlines
    assert (deadlines.num_requests, deadlines.share) == (3, 0.75)


def test_unnamed_content_is_unknown_and_named_content_is_a_share() -> None:
    """Two prompts of 33 tokens, the second finds 32: 32 of 66."""
    assert figures_of(make_stream([0, 1])).prefix_cache.shareable_share is None
    named = figures_of(make_stream([0, 1], prompt_tokens=33, prompt_id="p")).prefix_cache
    assert (named.shareable_tokens, named.shareable_share) == (32, 32 / 66)
    assert (named.num_prompt_ids, named.num_prefix_groups, named.num_block_hashes) == (1, 0, 0)


def test_an_empty_stream_is_an_error() -> None:
    """Nobody is shown figures of nothing."""
    with pytest.raises(ConfigError, match="at least one request to be described"):
        figures_of([])


def test_json_has_a_key_for_each_label() -> None:
    """The keys are those of the figures, and per_<label> is a list."""
    figures = figures_of(make_stream(range(3), tenant="t")).to_dict()
    assert "labels" not in figures
    assert [row["name"] for row in figures["per_tenant"]] == ["t"]
    assert figures["sessions"] is None


def test_requests_are_not_kept() -> None:
    """50,000 requests take their 28 bytes each and one chunk, not 50,000 objects."""

    def requests(count: int) -> Iterator[RequestSpec]:
        for number in range(count):
            yield RequestSpec(number, number * 1000, 1000 + number, 2000, tenant="t")

    tracemalloc.start()
    try:
        stream = observe(requests(50_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    columns: Sequence[np.ndarray] = (
        stream.arrival_us,
        stream.prompt_tokens,
        stream.output_tokens,
        stream.hit_tokens,
    )
    assert sum(column.nbytes for column in columns) == 50_000 * 20
    assert peak < 5_000_000
