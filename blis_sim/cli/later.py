"""Flags of vLLM and BLIS for what this version does not simulate.

They are read, so that a command line from there gets one clear answer: a value that asks for
nothing new is fine, everything else is an error.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from blis_sim.cli.flags import Flag
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.cli.settings import Settings

_ONLY = {
    "--pipeline-parallel-size --pp -pp": "1",
}
_NOTHING = ("--ramp-up-strategy", "--ramp-up-start-rps", "--ramp-up-end-rps")


def later_flags() -> tuple[Flag, ...]:
    """Return the flags; none is shown in the help."""
    return (
        *(_flag(names, only) for names, only in _ONLY.items()),
        *(_flag(name, "") for name in _NOTHING),
        Flag(
            names=("--enable-expert-parallel",),
            off_names=("--no-enable-expert-parallel",),
            panel="",
            help="Not in this version.",
            apply=_refuse_switch,
        ),
    )


def _flag(names: str, only: str) -> Flag:
    return Flag(
        names=tuple(names.split()),
        metavar="VALUE",
        panel="",
        help="Not in this version.",
        apply=partial(_refuse, only),
    )


def _refuse(only: str, settings: Settings, value: str, name: str) -> None:
    if only and _is_same(value, only):
        return
    wanted = f"be {only}" if only else "not be given"
    raise ConfigError(f"{name} must {wanted} in this version; got {value}; leave it out")


def _refuse_switch(settings: Settings, value: str, name: str) -> None:
    if not name.startswith("--no-"):
        raise ConfigError(f"{name} must not be given in this version; leave it out")


def _is_same(value: str, only: str) -> bool:
    try:
        return float(value) == float(only)
    except ValueError:
        return value.strip().lower() == only
