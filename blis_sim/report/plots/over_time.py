"""What happened on the instances over time: KV cache, queue, running requests, tokens.

:func:`over_time_plot` works out what is shown, :func:`draw_over_time` draws it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blis_sim.metrics.percentiles import Float64Array, Int64Array
from blis_sim.metrics.records import RunData
from blis_sim.units import US_PER_S

MOST_TIMES = 500
_TIME_UNITS = ((172_800.0, 86_400.0, "days"), (7_200.0, 3_600.0, "hours"), (600.0, 60.0, "min"))
"""(from which span on, length of the unit, its name): the first that fits."""


@dataclass(frozen=True, slots=True)
class OverTimePlot:
    """What the figure shows; all arrays have one length, at most `MOST_TIMES`.

    Attributes
    ----------
    time_s : float64 array
        Simulated seconds, ascending: the ends of equal parts of the run.
    kv_mean_frac, kv_peak_frac : float64 array
        Blocks in use over all blocks: of all instances, and of the fullest one; the largest
        within each part.
    num_waiting, num_running : float64 array
        Requests in the waiting queues and in the running lists of all instances, the most
        within each part.
    tokens_per_s : float64 array
        Tokens generated per second, the mean within each part.
    num_instances : float64 array or None
        Instances that took requests, where their number changed.
    has_several : bool
        Whether there are several instances.
    """

    time_s: Float64Array
    kv_mean_frac: Float64Array
    kv_peak_frac: Float64Array
    num_waiting: Float64Array
    num_running: Float64Array
    tokens_per_s: Float64Array
    num_instances: Float64Array | None = None
    has_several: bool = False

    @property
    def time_unit(self) -> tuple[float, str]:
        """Length in seconds and name of the unit that suits the run."""
        span_s = float(self.time_s[-1]) if self.time_s.size else 0.0
        return next(
            ((length, name) for least, length, name in _TIME_UNITS if span_s >= least),
            (1.0, "s"),
        )


def over_time_plot(run: RunData, *, most: int = MOST_TIMES) -> OverTimePlot | None:
    """Return what the figure of a sampled run shows; None where it was not sampled.

    Parameters
    ----------
    run : RunData
        What was measured.
    most : int
        Samples are put together into at most so many parts.
    """
    samples = run.timeseries
    if samples is None or samples.time_us.size < 2:
        return None
    times_us, place = np.unique(samples.time_us, return_inverse=True)
    capacity = np.array([each.num_kv_blocks for each in run.counters], dtype=np.int64)
    blocks = capacity[samples.instance]
    used = _sums(place, samples.kv_blocks, times_us.size)
    there = np.maximum(_sums(place, blocks, times_us.size), 1)
    fullest = np.zeros(times_us.size)
    np.maximum.at(fullest, place, samples.kv_blocks / np.maximum(blocks, 1))
    intervals_s = np.diff(times_us, prepend=2 * times_us[0] - times_us[1]) / US_PER_S
    tokens = _sums(place, samples.generated_tokens, times_us.size)
    ready = _num_ready(run, place, times_us.size)
    parts = _parts(times_us.size, most)
    return OverTimePlot(
        time_s=times_us[np.append(parts[1:], times_us.size) - 1] / US_PER_S,
        kv_mean_frac=np.maximum.reduceat(used / there, parts),
        kv_peak_frac=np.maximum.reduceat(fullest, parts),
        num_waiting=_largest(place, samples.num_waiting, parts, times_us.size),
        num_running=_largest(place, samples.num_running, parts, times_us.size),
        tokens_per_s=np.add.reduceat(tokens, parts) / np.add.reduceat(intervals_s, parts),
        num_instances=None if ready is None else np.maximum.reduceat(ready, parts),
        has_several=len(run.counters) > 1,
    )


def _parts(size: int, most: int) -> Int64Array:
    """Return where each of at most ``most`` parts of equal length begins."""
    each = -(-size // most)
    return np.arange(0, size, each, dtype=np.int64)


def _sums(place: Int64Array, values: Int64Array | Float64Array, size: int) -> Float64Array:
    return np.bincount(place, weights=values, minlength=size).astype(np.float64)


def _num_ready(run: RunData, place: Int64Array, size: int) -> Float64Array | None:
    """Return how many instances took requests at each time, None where that never changed."""
    samples = run.timeseries
    if samples is None or samples.num_ready is None:
        return None
    pools = np.array([each.pool for each in run.instances], dtype=np.int64)[samples.instance]
    # Every row has the number of its pool: each pool counts once.
    _, group = np.unique(place * (int(pools.max()) + 1) + pools, return_inverse=True)
    ready = _sums(place, samples.num_ready / np.bincount(group)[group], size)
    return ready if np.ptp(ready) > 0 else None


def _largest(place: Int64Array, values: Int64Array, parts: Int64Array, size: int) -> Float64Array:
    largest: Float64Array = np.maximum.reduceat(_sums(place, values, size), parts)
    return largest


def draw_over_time(plot: OverTimePlot, title: str, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    from blis_sim.report.plots.canvas import canvas
    from blis_sim.report.plots.palette import COLOURS

    length_s, unit = plot.time_unit
    times = plot.time_s / length_s
    with canvas(path, title, height=7.0, rows=3) as every:
        cache, requests, tokens = every
        cache.plot(times, 100 * plot.kv_mean_frac, color=COLOURS[0], label="KV cache in use")
        if plot.has_several:
            cache.plot(
                times,
                100 * plot.kv_peak_frac,
                color=COLOURS[5],
                linewidth=1,
                label="KV cache in use, fullest instance",
            )
        cache.set(ylabel="KV cache (%)")
        requests.plot(times, plot.num_running, color=COLOURS[2], label="running requests")
        requests.plot(times, plot.num_waiting, color=COLOURS[1], label="waiting requests")
        requests.set(ylabel="requests")
        if plot.num_instances is not None:
            steps = requests.twinx()
            steps.step(times, plot.num_instances, color=COLOURS[7], label="instances")
            steps.set(ylabel="instances", ylim=(0, None))
            steps.grid(visible=False)
        tokens.plot(
            times, plot.tokens_per_s, color=COLOURS[6], label="tokens generated per second"
        )
        tokens.set(ylabel="tok/s", xlabel=f"time ({unit})")
        for each in every:
            each.set_ylim(bottom=0)
            each.set_xlim(0, float(times[-1]))
