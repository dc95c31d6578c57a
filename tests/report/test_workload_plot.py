from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from blis_sim.errors import ConfigError, MissingExtraError
from blis_sim.report.workload_plot import (
    LogHistogram,
    WorkloadPlot,
    check_plot_path,
    draw_workload,
    workload_plot,
)
from blis_sim.workload.observed import observe
from blis_sim.workload.request import RequestSpec


def make_plot(times_us: Sequence[int], prompt_tokens: Sequence[int] = ()) -> WorkloadPlot:
    lengths = prompt_tokens or [100] * len(times_us)
    return workload_plot(
        observe(
            RequestSpec(i, at, length, 0 if i == 0 else 5)
            for i, (at, length) in enumerate(zip(times_us, lengths, strict=True))
        )
    )


def make_times(count: int = 2_000) -> list[int]:
    gaps = np.random.default_rng(3).exponential(250_000, count)
    return np.cumsum(gaps).astype(int).tolist()


def test_every_request_is_in_one_bin() -> None:
    """Rates over time and histograms hold the whole stream; zeros are counted apart."""
    times = make_times()
    lengths = np.random.default_rng(4).integers(1, 5_000, len(times)).tolist()
    plot = make_plot(times, lengths)
    arrivals = plot.rates_per_s * np.diff(plot.time_edges_s)
    assert arrivals.sum() == pytest.approx(len(times))
    assert plot.prompt_tokens.counts.sum() == len(times)
    assert plot.output_tokens.counts.sum() == len(times) - 1
    assert plot.output_tokens.num_zero == 1
    assert plot.gaps_s.counts.sum() + plot.gaps_s.num_zero == len(times) - 1


def test_the_poisson_curve_fits_poisson_arrivals() -> None:
    """Each bin is within 5 standard deviations of what is expected."""
    plot = make_plot(make_times())
    spread = np.sqrt(np.maximum(plot.poisson_counts, 1))
    assert (np.abs(plot.gaps_s.counts - plot.poisson_counts) <= 5 * spread).all()


def test_bins_of_a_histogram_grow_by_one_factor() -> None:
    """They begin at the smallest value and end at the largest."""
    histogram = LogHistogram.of(np.array([1, 10, 100, 1000]))
    factors = histogram.edges[1:] / histogram.edges[:-1]
    assert factors == pytest.approx(np.full(40, 1000 ** (1 / 40)))
    assert (histogram.edges[0], histogram.edges[-1]) == (1, 1000)
    assert histogram.counts.sum() == 4


def test_a_constant_has_room_around_it() -> None:
    """One bin holds them all, and it is not at the edge."""
    histogram = LogHistogram.of(np.full(7, 128))
    (full,) = np.flatnonzero(histogram.counts)
    assert histogram.counts[full] == 7
    assert 0 < full < 39


@pytest.mark.parametrize("times", [[5_000_000], [5_000_000] * 3])
def test_one_instant_is_a_bin_of_a_second(times: list[int]) -> None:
    """There is nothing to divide by."""
    plot = make_plot(times)
    assert plot.time_edges_s.tolist() == [5, 6]
    assert plot.rates_per_s.tolist() == [len(times)]
    assert len(plot.gaps_s.edges) == len(plot.poisson_counts) == 0


@pytest.mark.parametrize(
    ("times", "suffix", "magic"),
    [
        ([0], "svg", b"<?xml"),
        ([7, 7], "png", b"\x89PNG"),
        (list(range(0, 10**12, 10**10)), "svg", b"<?xml"),
    ],
)
def test_any_stream_can_be_drawn(
    times: list[int], suffix: str, magic: bytes, tmp_path: Path
) -> None:
    """One request, one instant, days; the file is of its kind."""
    pytest.importorskip("matplotlib", reason="plots need the plots extra")
    file = tmp_path / f"figure.{suffix}"
    draw_workload(make_plot(times), "costs $5 and $6, " + "long " * 80, file)
    assert file.read_bytes().startswith(magic)


def test_the_same_load_gives_the_same_bytes(tmp_path: Path) -> None:
    """No clock and no random names are in the file."""
    pytest.importorskip("matplotlib", reason="plots need the plots extra")
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        draw_workload(make_plot([0, 10**6, 3 * 10**6]), "load", file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_ending_selects_the_format(tmp_path: Path) -> None:
    """Others are refused before anything is read."""
    with pytest.raises(ConfigError, match=r"--plot must be a file ending in \.png or \.svg"):
        check_plot_path(tmp_path / "figure.gif", "--plot")


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error tells what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'blis-sim\[plots\]'"):
        check_plot_path(tmp_path / "figure.png", "--plot")
