"""``blis workload describe --plot``: arrivals over time, lengths and gaps of a load.

:func:`workload_plot` works out what is shown, :func:`draw_workload` draws it.
"""

from __future__ import annotations

import importlib.util
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from blis_sim.atomic import atomic_write, check_output_path
from blis_sim.errors import ConfigError, MissingExtraError
from blis_sim.units import US_PER_S
from blis_sim.workload.observed import ObservedStream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_NUM_TIME_BINS = 120
_NUM_LOG_BINS = 40
_DECADE = 10.0
_MAX_TITLE = 200
_TIME_UNITS = ((172_800.0, 86_400.0, "days"), (7_200.0, 3_600.0, "hours"), (600.0, 60.0, "min"))
"""(from which span on, length of the unit, its name): the first that fits."""


@dataclass(frozen=True, slots=True)
class LogHistogram:
    """How many positive values lie between edges that grow by one factor.

    Attributes
    ----------
    edges : numpy.ndarray, shape (k + 1,)
        Ascending, > 0; each bin includes its beginning, the last one its end, too. Empty
        without positive values.
    counts : numpy.ndarray, shape (k,)
    num_zero : int
        Values of 0, which a logarithmic axis cannot show.
    """

    edges: Float64Array
    counts: Int64Array
    num_zero: int

    @classmethod
    def of(cls, values: npt.NDArray[np.integer], scale: float = 1.0) -> LogHistogram:
        """Return the histogram of ``values / scale``."""
        positive = values[values > 0] / scale
        num_zero = len(values) - len(positive)
        if not len(positive):
            return cls(np.empty(0), np.empty(0, dtype=np.int64), num_zero)
        low, high = float(positive.min()), float(positive.max())
        if high < 2 * low:  # a constant gets some room around it
            low, high = low / 2, high * 2
        edges = np.geomspace(low, high, _NUM_LOG_BINS + 1)
        edges[0], edges[-1] = low, high  # whatever rounding made of them
        return cls(edges, np.histogram(positive, edges)[0], num_zero)


@dataclass(frozen=True, slots=True)
class WorkloadPlot:
    """What the figure shows.

    Attributes
    ----------
    time_edges_s : numpy.ndarray, shape (k + 1,)
        Bins of equal length from the first arrival to the last, seconds; a bin of 1 s when
        all arrive at once.
    rates_per_s : numpy.ndarray, shape (k,)
        Arrivals in each bin over its length.
    prompt_tokens, output_tokens : LogHistogram
    gaps_s : LogHistogram
        Gaps between arrivals, seconds.
    poisson_counts : numpy.ndarray
        Gaps to be expected in the bins of ``gaps_s`` from Poisson arrivals of the same mean.
    """

    time_edges_s: Float64Array
    rates_per_s: Float64Array
    prompt_tokens: LogHistogram
    output_tokens: LogHistogram
    gaps_s: LogHistogram
    poisson_counts: Float64Array


def workload_plot(stream: ObservedStream) -> WorkloadPlot:
    """Return what the figure of a stream with at least one request shows."""
    arrival_s = stream.arrival_us / US_PER_S
    first, last = float(arrival_s[0]), float(arrival_s[-1])
    num_bins = _NUM_TIME_BINS if last > first else 1
    edges = np.linspace(first, last if last > first else first + 1.0, num_bins + 1)
    gaps_us = np.diff(stream.arrival_us)
    gaps = LogHistogram.of(gaps_us, US_PER_S)
    expected = np.empty(0)
    if len(gaps.edges):
        survival = np.exp(-gaps.edges / (float(gaps_us.mean()) / US_PER_S))
        expected = len(gaps_us) * -np.diff(survival)
    return WorkloadPlot(
        time_edges_s=edges,
        rates_per_s=np.histogram(arrival_s, edges)[0] / np.diff(edges),
        prompt_tokens=LogHistogram.of(stream.prompt_tokens),
        output_tokens=LogHistogram.of(stream.output_tokens),
        gaps_s=gaps,
        poisson_counts=expected,
    )


def check_plot_path(path: str | Path, flag: str) -> None:
    """Check, before a long walk, that a figure can be written to ``path``.

    Raises
    ------
    ConfigError
        The suffix is unknown or the path cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{flag} must be a file ending in {' or '.join(SUFFIXES)}; got {path}; the ending "
            "selects the format"
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plots", flag)
    check_output_path(path, flag)


def draw_workload(plot: WorkloadPlot, title: str, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Parameters
    ----------
    plot : WorkloadPlot
        What to draw.
    title : str
        Stands above it.
    path : str or Path
        Its suffix says the format.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plots", "a plot of a workload") from None

    suffix = Path(path).suffix.lower().removeprefix(".")
    # No clock and no random names inside: the same load gives the same file.
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "blis_sim", "font.size": 9}):
        figure = Figure(figsize=(10, 6.5), layout="constrained")
        short = textwrap.shorten(title, _MAX_TITLE, placeholder=" ...")
        # A dollar would begin mathematics.
        figure.suptitle(short.replace("$", r"\$"), wrap=True)
        rate, gaps, prompt, output = figure.subplots(2, 2).flat
        _draw_rate(rate, plot)
        _draw_histogram(gaps, plot.gaps_s, "Gaps between arrivals", "s")
        if len(plot.poisson_counts):
            centres = np.sqrt(plot.gaps_s.edges[:-1] * plot.gaps_s.edges[1:])
            gaps.plot(centres, plot.poisson_counts, color="C1", label="Poisson, same mean")
            gaps.legend(frameon=False)
        _draw_histogram(prompt, plot.prompt_tokens, "Prompt lengths", "tokens")
        _draw_histogram(output, plot.output_tokens, "Output lengths", "tokens")
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=120, metadata=metadata)


def _draw_rate(axes: Axes, plot: WorkloadPlot) -> None:
    first, last = float(plot.time_edges_s[0]), float(plot.time_edges_s[-1])
    unit_s, unit = next(
        ((length, name) for least, length, name in _TIME_UNITS if last - first >= least),
        (1.0, "s"),
    )
    axes.stairs(plot.rates_per_s, plot.time_edges_s / unit_s, fill=True)
    axes.set_xlim(first / unit_s, last / unit_s)
    axes.set(title="Arrivals", xlabel=f"time ({unit})", ylabel="requests/s")


def _draw_histogram(axes: Axes, histogram: LogHistogram, title: str, unit: str) -> None:
    zeros = f" (and {histogram.num_zero:,} of 0)" if histogram.num_zero else ""
    axes.set(title=title + zeros, xlabel=unit, ylabel="requests")
    if len(histogram.edges):
        axes.set_xscale("log")
        axes.stairs(histogram.counts, histogram.edges, fill=True)
        if histogram.edges[-1] < _DECADE * histogram.edges[0]:
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("{x:g}")
