"""Rooflines: what is shown, and that it can be drawn."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from blis_sim.errors import ConfigError, MissingExtraError
from blis_sim.report.html.plotly_views import view_of
from blis_sim.report.plots.roofline import (
    RoofKind,
    RooflinePlot,
    point_marks,
    roofline_plot,
    step_marks,
)
from blis_sim.roofline import MeasuredPoint, RooflineAnalyzer
from blis_sim.roofline.ceilings import Bandwidth, Ceilings, Peak

MACHINE = Ceilings(
    "M",
    (Peak("bf16", 100.0), Peak("fp8", 200.0), Peak("fp32 vector", 10.0)),
    (Bandwidth("DRAM", 1000.0), Bandwidth("L2", 4000.0)),
)
ANALYZER = RooflineAnalyzer("A100-80", "llama-3.1-8b")


def make_plot(*machines: Ceilings) -> RooflinePlot:
    marks = step_marks(ANALYZER.step("decode", 1000, 8), has_kernels=True)
    marks += point_marks([MeasuredPoint("mine", 300.0, 60.0, duration_us=5.0)])
    return roofline_plot(machines or (MACHINE,), marks)


def test_all_ceilings_of_one_machine() -> None:
    """The roof has its corner at the ridge; others begin and end where they are met."""
    plot = roofline_plot([MACHINE])
    low, high = plot.x_range
    by_kind = {(line.kind, line.name.split()[0]): line for line in plot.lines}
    roof = by_kind[RoofKind.ROOF, "M:"]
    assert roof.xs == (low, 100.0, high)
    assert roof.ys == (low * 1.0, 100.0, 100.0)
    cache = by_kind[RoofKind.BANDWIDTH, "L2"]
    assert (cache.xs[-1], cache.ys[-1]) == (50.0, 200.0)
    assert cache.ys[0] == pytest.approx(4 * low)
    fp8 = by_kind[RoofKind.PEAK, "fp8"]
    assert (fp8.xs, fp8.ys) == ((100.0, 200.0, high), (100.0, 200.0, 200.0))
    vector = by_kind[RoofKind.PEAK, "fp32"]
    assert (vector.xs, vector.ys) == ((10.0, high), (10.0, 10.0))
    assert plot.ridges == [("ridge 100", 100.0, 100.0)]
    assert plot.note == ""


def test_of_several_machines_one_roof_each() -> None:
    """That is said."""
    plot = roofline_plot([MACHINE, ANALYZER.ceilings])
    assert [line.kind for line in plot.lines] == [RoofKind.ROOF] * 2
    assert [line.machine for line in plot.lines] == [0, 1]
    assert "only the first peak" in plot.note


def test_marks_lie_on_the_roof_unless_measured() -> None:
    """Kernels that compute nothing have no place; sizes are shares of the time."""
    step = ANALYZER.step("decode", 1000, 8)
    marks = step_marks(step, has_kernels=True)
    assert marks[0].x == pytest.approx(step.intensity)
    for mark in marks:
        assert mark.y == pytest.approx(ANALYZER.ceilings.attainable_tflops(mark.x))
    names = {mark.name for mark in marks}
    assert {"qkv", "down", "decode_attention", "1000 x 8"} <= names
    assert "norm" not in names
    assert 0.5 < sum(mark.weight for mark in marks) <= 1
    measured = ANALYZER.analyze(1000, measured_time=0.5).prefill
    assert step_marks(measured)[0].y == measured.achieved_tflops
    points = [MeasuredPoint("a", 1.0, 2.0), MeasuredPoint("b", 3.0, 4.0, "L2", 7.0)]
    assert [(mark.group, mark.weight) for mark in point_marks(points)] == [
        ("measured", 0.0),
        ("measured, L2", 1.0),
    ]


def test_everything_lies_within_the_axes() -> None:
    """Marks, and the corners of lines."""
    plot = make_plot()
    for mark in plot.marks:
        assert plot.x_range[0] < mark.x < plot.x_range[1]
        assert plot.y_range[0] < mark.y < plot.y_range[1]
    for line in plot.lines:
        assert max(line.ys) < plot.y_range[1]


def test_colours_tell_machines_apart_and_shapes_phases() -> None:
    """With one machine colours are those of the groups."""
    marks = [
        mark
        for number, name in enumerate(("M", "N"))
        for phase in ("prefill", "decode")
        for mark in step_marks(ANALYZER.step(phase, 64), name, number)
    ]
    several = roofline_plot([MACHINE, ANALYZER.ceilings], marks)
    assert [several.colour_of(group) for group in several.groups] == [0, 0, 1, 1]
    assert [several.shape_of(group) for group in several.groups] == [0, 1, 0, 1]
    one = make_plot()
    assert len({one.colour_of(group) for group in one.groups}) == len(one.groups)


def test_plotly_shows_the_same() -> None:
    """A trace per line and group, on logarithmic axes, texts escaped."""
    plot = roofline_plot([MACHINE], point_marks([MeasuredPoint("<b>%", 2.0, 1.0)]))
    view = view_of(plot)
    assert len(view.data) == len(plot.lines) + len(plot.groups)
    assert view.layout["xaxis"]["type"] == view.layout["yaxis"]["type"] == "log"
    assert "&lt;b&gt;" in view.data[-1]["text"][0]


@pytest.mark.parametrize("suffix", ["png", "svg", "html"])
def test_it_is_drawn(suffix: str, tmp_path: Path) -> None:
    """By its suffix; the page needs nothing else and holds the points as a table."""
    pytest.importorskip("plotly" if suffix == "html" else "matplotlib")
    path = tmp_path / f"plot.{suffix}"
    points = [{"name": "my $kernel$ & co", "oi": 300, "tflops": 60.0}]
    steps = [ANALYZER.step("prefill", 512)]
    assert ANALYZER.plot_roofline(points, save_path=path, steps=steps) == path
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "html": b"<!DOCTYPE html>"}
    content = path.read_bytes()
    assert content.startswith(begins[suffix])
    if suffix == "html":
        text = content.decode()
        assert "my $kernel$ &amp; co" in text
        assert "src=" not in text.partition("<script")[0]


def test_wrong_plots_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is drawn, in one line."""
    with pytest.raises(ConfigError, match=r"save_path must be a file ending in .png, .svg or"):
        ANALYZER.plot_roofline(save_path=tmp_path / "plot.gif")
    with pytest.raises(ConfigError, match=r"measured_points\[0\] must have name, oi and tflops"):
        ANALYZER.plot_roofline([{"name": "x", "oi": 3}], tmp_path / "plot.png")
    with pytest.raises(ConfigError, match="existing folder"):
        ANALYZER.plot_roofline(save_path=tmp_path / "no" / "plot.svg")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for suffix, extra in (("png", "plots"), ("html", "report")):
        with pytest.raises(MissingExtraError, match=rf"blis-sim\[{extra}\]"):
            ANALYZER.plot_roofline(save_path=tmp_path / f"plot.{suffix}")
