"""``blis roofline``: where prefill and decode stand against the roofs of GPUs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import typer

from blis_sim.cli import roofline_ncu
from blis_sim.cli.flag_command import flags_of_run, make_command
from blis_sim.cli.flags import Flag, Typed, signature

HELP = "Show where a workload stands against the roofs of GPUs, and what would help."
_OF_RUN = ("--debug", "--help")


def roofline_flags() -> tuple[Flag, ...]:
    """Return the flags of the command without a subcommand."""
    return flags_of_run(_OF_RUN)


def make_roofline(arguments: Sequence[str]) -> typer.Typer:
    """Return the group for a normalised command line; without a subcommand it analyses."""
    group = typer.Typer(help=HELP, rich_markup_mode=None)
    analyse = make_command("blis roofline", HELP, roofline_flags(), arguments, _run)
    group.callback(invoke_without_command=True, add_help_option=False)(_unless_sub(analyse))
    # Subcommands are registered here, one line each:
    group.command("ncu", help=roofline_ncu.HELP)(roofline_ncu.ncu)
    # group.command("measure", help=roofline_measure.HELP)(roofline_measure.measure)
    return group


def _unless_sub(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as the callback of a group: it does nothing before a subcommand."""

    def callback(context: typer.Context, **given: Any) -> None:
        if context.invoked_subcommand is None:
            command(**given)

    first = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    options = signature(roofline_flags()).parameters.values()
    vars(callback)["__signature__"] = inspect.Signature([first, *options])
    return callback


def _run(typed: Sequence[Typed]) -> None:
    del typed
