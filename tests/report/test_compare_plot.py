from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.report.compare_plot import ComparePlot, compare_plot, draw_comparison
from tests.report.compare_rows import make_failed, make_row


def make_plot(rates: tuple[float | None, ...] = (4.0,)) -> ComparePlot:
    return compare_plot(
        [
            make_row(gpu, request_rate=rate, metrics={"mean_ttft_ms": ttft, "p99_ttft_ms": None})
            for gpu, ttft in (("H100", 20.0), ("$GPU", 900.0))
            for rate in rates
        ]
    )


def test_every_number_has_its_place() -> None:
    """Deployments in the order of the rows, rates ascending, gaps where nothing ran."""
    rows = [
        make_row("B", request_rate=8, metrics={"mean_ttft_ms": 1}),
        make_row("B", request_rate=2, metrics={"mean_ttft_ms": 2}),
        make_row("A", request_rate=2, metrics={"mean_ttft_ms": 3}),
        make_failed("A", request_rate=8.0),
    ]
    plot = compare_plot(rows)
    assert (plot.deployments, plot.rates) == (("B", "A"), (2, 8))
    assert plot.panels[0].series[0].values == ((2, 1), (3, None))
    assert plot.note == ""


def test_names_tell_what_differs() -> None:
    """The rest is in the title; what has no numbers at all is named in a note."""
    rows = [make_row(), make_row("A100-80", tp=2), make_failed()]
    plot = compare_plot(rows)
    assert plot.deployments == ("H100 TP 1", "A100-80 TP 2")
    assert plot.title == "some/model-8B, 4 requests/s"
    assert plot.note == "not simulated: T4 TP 1"
    both = compare_plot([make_row(), make_row(model="other/big", latency_model="blackbox")])
    assert both.deployments == ("model-8B H100", "big H100")
    assert both.note == "different latency models answered: not comparable"


def test_rows_with_names_are_bars() -> None:
    """Whatever their rates; the deployment is not said again."""
    rows = [
        make_row(name="a", request_rate=2.0, metrics={"mean_ttft_ms": 1}),
        make_row("L4", name="b", request_rate=None, metrics={"mean_ttft_ms": 3}),
        make_failed(name="c, co-located"),
    ]
    plot = compare_plot(rows)
    assert (plot.deployments, plot.rates) == (("a", "b"), (None,))
    assert plot.panels[0].series[0].values == ((1,), (3,))
    assert plot.title == "some/model-8B, TP 1"
    assert plot.note == "not simulated: c, co-located"


def test_an_axis_is_logarithmic_where_values_lie_far_apart() -> None:
    """More than a factor of 20."""
    panels = make_plot().panels
    assert panels[0].is_logarithmic
    assert not panels[1].is_logarithmic


def test_throughput_per_gpu_is_shown_where_it_differs() -> None:
    """With one GPU each it is that of the deployment."""

    def num_series(per_gpu: float) -> int:
        metrics = {"output_throughput": 100.0, "output_throughput_per_gpu": per_gpu}
        return len(compare_plot([make_row(metrics=metrics)]).panels[3].series)

    assert num_series(100.0) == 1
    assert num_series(50.0) == 2


@pytest.mark.parametrize(
    ("plot", "suffix", "magic"),
    [
        (make_plot(), "png", b"\x89PNG"),
        (make_plot((2.0, 8.0)), "png", b"\x89PNG"),
        (make_plot((2.0, float("inf"))), "svg", b"<?xml"),
        (compare_plot([make_failed(), make_failed("V100")]), "svg", b"<?xml"),
    ],
)
def test_any_comparison_can_be_drawn(
    plot: ComparePlot, suffix: str, magic: bytes, tmp_path: Path
) -> None:
    """Bars, lines, a rate without end, and nothing at all; the file is of its kind."""
    pytest.importorskip("matplotlib", reason="plots need the plots extra")
    file = tmp_path / f"figure.{suffix}"
    draw_comparison(plot, file)
    assert file.read_bytes().startswith(magic)


def test_the_same_comparison_gives_the_same_bytes(tmp_path: Path) -> None:
    """No clock and no random names are in the file."""
    pytest.importorskip("matplotlib", reason="plots need the plots extra")
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        draw_comparison(make_plot(), file)
    assert files[0].read_bytes() == files[1].read_bytes()
