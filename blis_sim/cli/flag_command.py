"""Commands whose options come from the table of flags."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import out
from blis_sim.cli.flag_help import flag_help
from blis_sim.cli.flags import Flag, Typed, collect, signature
from blis_sim.cli.run_flags import run_flags
from blis_sim.errors import BlisError

if TYPE_CHECKING:
    from blis_sim.cli.settings import Settings

STDOUT = "-"
SCENARIO_FILES = ("--scenario", "--policy-config")
"""Options that name a file of settings."""


def make_command(
    name: str,
    about: str,
    flags: tuple[Flag, ...],
    arguments: Sequence[str],
    run: Callable[[Sequence[Typed]], None],
) -> Callable[..., None]:
    """Return a command; typer reads its options off its signature.

    Parameters
    ----------
    name : str
        How it is called: ``blis step``.
    about : str
        What it does, paragraphs with an empty line between them.
    flags : tuple of Flag
        Its flags, ``--help`` among them.
    arguments : sequence of str
        The normalised command line: it tells in which spelling a flag was given.
    run : callable
        Gets the flags that were given. Settings in the errors it raises are renamed to the
        flags that were typed.
    """

    def command(**given: Any) -> None:
        if given.get("help"):
            out(flag_help(f"{name} [FLAGS]", about, flags))
            return
        typed = collect(flags, given, arguments)
        try:
            run(typed)
        except BlisError as error:
            from blis_sim.cli.settings import in_flags

            error.args = (in_flags(str(error), typed),)
            raise

    vars(command)["__signature__"] = signature(flags)
    return command


def flags_of_run(keys: Collection[str]) -> tuple[Flag, ...]:
    """Return the flags of ``blis run`` with these keys (first names), in its order."""
    return tuple(flag for flag in run_flags() if flag.names[0] in keys)


def own_options(typed: Sequence[Typed]) -> dict[str, Any]:
    """Return the options that set nothing in the scenario, parsed, by their first names.

    Those of a repeatable flag are a list.
    """
    options: dict[str, Any] = {}
    for flag, name, value in typed:
        if flag.path or flag.apply is not None:
            continue
        parsed = True if flag.is_switch else flag.parse(value, name)
        if flag.is_repeatable:
            options.setdefault(flag.names[0], []).append(parsed)
        else:
            options[flag.names[0]] = parsed
    return options


def read_settings(options: Mapping[str, Any]) -> Settings:
    """Return the settings of ``--scenario``, ``--policy-config`` and ``--set``.

    Raises
    ------
    ConfigError
        A file or an override is wrong.
    """
    from blis_sim.cli.settings import read_draft

    scenario, policies = (
        Path(options[flag]) if flag in options else None for flag in SCENARIO_FILES
    )
    return read_draft(scenario, options.get("--set", ()), policies)


def write_text(text: str, path: str) -> None:
    """Write a report, whole or not at all; ``-`` is standard output."""
    if path == STDOUT:
        out(text.rstrip("\n"))
        return

    from blis_sim.atomic import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
