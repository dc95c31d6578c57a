"""Text in columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def text_columns(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Return a line per row, two blanks between columns, none at the end of a line.

    Parameters
    ----------
    rows : sequence of sequences of str
        Cells; all rows have equally many.
    left : collection of int
        Columns that are flush left; the others are flush right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return lines
