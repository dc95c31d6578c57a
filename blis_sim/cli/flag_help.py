"""The help of a command, made from its flags."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator

from blis_sim.cli.flags import Flag

_MAX_WIDTH = 100
_INDENT = 6


def flag_help(usage: str, about: str, flags: Iterable[Flag]) -> str:
    """Return the help: every flag with all its names, under the heading of its panel.

    Parameters
    ----------
    usage : str
        How to call the command.
    about : str
        What it does, paragraphs with an empty line between them.
    flags : iterable of Flag
        Its flags; those without a panel are left out.
    """
    width = min(_MAX_WIDTH, shutil.get_terminal_size().columns)
    lines = [f"Usage: {usage}"]
    for paragraph in about.strip().split("\n\n"):
        lines += ["", *textwrap.wrap(" ".join(paragraph.split()), width)]
    panel = ""
    for flag in flags:
        if not flag.panel:
            continue
        if flag.panel != panel:
            panel = flag.panel
            lines += ["", f"{panel}:"]
        lines += _entry(flag, width)
    return "\n".join(lines)


def _entry(flag: Flag, width: int) -> Iterator[str]:
    names = ", ".join((*flag.names, *flag.off_names))
    yield f"  {names} {flag.metavar}".rstrip()
    yield from textwrap.wrap(
        flag.help,
        width,
        initial_indent=" " * _INDENT,
        subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
    )
