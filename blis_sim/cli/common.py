"""What all commands share: notes on stderr, tables of text, exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

import typer

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def one_line(text: str) -> str:
    """Return ``text`` on one line."""
    return " ".join(text.split())


def error_line(text: str) -> None:
    """Print an error: one line on stderr."""
    print(f"blis: error: {one_line(text)}", file=sys.stderr)  # noqa: T201 (this is the output)


def note(text: str) -> None:
    """Print something the user should know: one line on stderr."""
    print(f"blis: note: {one_line(text)}", file=sys.stderr)  # noqa: T201 (this is the output)


def out(text: str) -> None:
    """Print a result on stdout."""
    try:
        print(text, flush=True)  # noqa: T201 (this is the output)
    except BrokenPipeError:
        raise typer.Exit(forget_stdout()) from None


def forget_stdout() -> int:
    """Let nothing more reach a pipe that its reader has closed; return the exit code for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return columns of text: the first flush left, the others flush right.

    Two blanks stand between columns and none at the end of a line.
    """
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
