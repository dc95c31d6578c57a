"""A matplotlib figure with one set of axes, saved whole or not at all."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from blis_sim.atomic import atomic_write
from blis_sim.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_WIDTH, _HEIGHT = 8.5, 5.2
"""Inches."""
_MAX_TITLE, _TITLE_WIDTH, _NOTE_WIDTH, _NAME_WIDTH = 260, 92, 110, 60
_LEGEND_WIDTH = 105
"""Characters that fit side by side below the axes."""
_LEGEND_ROW_IN = 0.18
_OFFSETS = ((6, 6), (6, -10), (-6, 6), (-6, -10), (0, 9), (0, -13), (14, 0), (-14, 0))
"""Where a label may stand beside its point, in points of print."""
_BESIDE = "beside"
_BOXES_PER_PIECE, _CLEAR = 25, 3.0
"""How finely lines are kept clear of labels; pixels."""


@contextmanager
def canvas(
    path: str | Path, title: str, note: str = "", *, height: float = _HEIGHT, rows: int = 1
) -> Iterator[list[Axes]]:
    """Give axes above each other to draw on, with a title above and legend and note below.

    Parameters
    ----------
    path : str or Path
        Its suffix says the format: ``.png`` or ``.svg``.
    title, note : str
        Stand above and below.
    height : float
        Inches without the legend.
    rows : int
        How many axes.

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
        raise MissingExtraError("matplotlib", "plots", "a plot") from None

    suffix = Path(path).suffix.lower().removeprefix(".") or "png"
    # No clock and no random names inside: the same study gives the same file.
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "blis_sim", "font.size": 9, "axes.grid": True}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        figure.suptitle("\n".join(_wrapped(title, _TITLE_WIDTH)), fontsize=10)
        every: list[Axes] = list(figure.subplots(rows, 1, squeeze=False)[:, 0])
        for axes in every:
            axes.grid(color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.set_major_formatter("{x:,g}")
            axes.yaxis.set_major_formatter("{x:,g}")
        yield every
        figure.set_figheight(height + _add_legend(every, note))
        _place_labels(every[0])
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=120, metadata=metadata)


def plain(text: str) -> str:
    """Return text that is not read as mathematics."""
    return text.replace("$", r"\$")


def _wrapped(text: str, width: int) -> list[str]:
    lines = (textwrap.shorten(line, _MAX_TITLE, placeholder=" ...") for line in text.split("\n"))
    return [part for line in lines for part in textwrap.wrap(plain(line), width)]


def _add_legend(every: Sequence[Axes], note: str) -> float:
    """Put the note and the names of all lines below the axes; return the inches this takes."""
    figure = every[0].get_figure(root=True)
    assert figure is not None
    entries: dict[str, Artist] = {}
    for axes in every:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(textwrap.shorten(label, _NAME_WIDTH, placeholder=" ..."), handle)
    lines = _wrapped(note, _NOTE_WIDTH)
    if not entries:
        figure.supxlabel("\n".join(lines), fontsize=8, color="#555555")
        return _LEGEND_ROW_IN * len(lines)
    columns = max(1, min(4, _LEGEND_WIDTH // (max(map(len, entries)) + 6)))
    legend = figure.legend(
        list(entries.values()),
        [plain(name) for name in entries],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=8,
        title="\n".join(lines),
        title_fontsize=8,
    )
    legend.get_title().set_color("#555555")
    return _LEGEND_ROW_IN * (-(-len(entries) // columns) + len(lines))


def plain_logarithm(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with numbers as people write them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    (axes.set_yscale if which == "y" else axes.set_xscale)("log")
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = axis.get_view_interval()
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    # Labels between the decades only where they have room.
    axis.set_minor_formatter("{x:,g}" if high < 2000 * low else NullFormatter())


def label_point(axes: Axes, x: float, y: float, text: str) -> None:
    """Write beside a point, later, where nothing else is written; else not at all."""
    label = axes.annotate(
        plain(text), (x, y), xytext=_OFFSETS[0], textcoords="offset points", fontsize=7
    )
    label.set_gid(_BESIDE)


def _place_labels(axes: Axes) -> None:
    """Move each label beside a point to where it covers nothing, or take it away."""
    from matplotlib.text import Annotation

    labels = [t for t in axes.texts if isinstance(t, Annotation) and t.get_gid() == _BESIDE]
    if not labels:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    taken = list(_boxes_along_lines(axes))
    for label in labels:
        box = _free_place(label, axes, taken)
        if box is None:
            label.remove()
        else:
            taken.append(box)


def _boxes_along_lines(axes: Axes) -> Iterator[Bbox]:
    import numpy as np
    from matplotlib.transforms import Bbox

    for line in axes.lines:
        points = axes.transData.transform(np.column_stack(line.get_data()))
        for begin, end in pairwise(points):
            for share in np.linspace(0, 1, _BOXES_PER_PIECE):
                place = begin + share * (end - begin)
                yield Bbox([place - _CLEAR, place + _CLEAR])


def _free_place(label: Annotation, axes: Axes, taken: Sequence[Bbox]) -> Bbox | None:
    for x, y in _OFFSETS:
        label.set_position((x, y))
        label.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
        box = label.get_window_extent()
        is_inside = all(axes.bbox.contains(*corner) for corner in (box.min, box.max))
        if is_inside and not any(box.overlaps(other) for other in taken):
            return box
    return None
