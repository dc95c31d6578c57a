"""Flags as data: from one table come the options, their help, and what they set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from blis_sim.cli.values import Parser, text
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.cli.settings import Settings

Apply = Callable[["Settings", str, str], None]
"""(the scenario in the making, what was typed, the flag as it was typed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag with all its spellings.

    Attributes
    ----------
    names : tuple of str
        vLLM's name first, then BLIS's and short ones; hyphens (underscores are read, too).
    help : str
        One sentence.
    panel : str
        Heading it stands under in the help; empty = not shown.
    path : str
        Setting of the scenario; empty = an option of the command itself.
    metavar : str
        What follows the flag, for the help; empty = a switch.
    parse : callable
        Reads what was typed.
    apply : callable or None
        What it does to the scenario; None = set ``path`` to the parsed value.
    off_names : tuple of str
        Names that switch off what ``names`` switch on.
    value : object
        What a switch sets ``path`` to; the off names set the opposite.
    is_repeatable : bool
        Whether it may be given several times with different values.
    """

    names: tuple[str, ...]
    help: str
    panel: str
    path: str = ""
    metavar: str = ""
    parse: Parser = text
    apply: Apply | None = None
    off_names: tuple[str, ...] = ()
    value: bool = True
    is_repeatable: bool = False

    @property
    def key(self) -> str:
        """Name as a Python identifier."""
        return self.names[0].lstrip("-").replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Whether nothing follows it."""
        return not self.metavar


def setting(
    panel: str, names: str, path: str, metavar: str, text_of_help: str, parse: Parser = text
) -> Flag:
    """Return a flag with a value; ``names`` are separated by blanks."""
    return Flag(
        names=tuple(names.split()),
        path=path,
        metavar=metavar,
        panel=panel,
        help=text_of_help,
        parse=parse,
    )


class Typed(NamedTuple):
    """One occurrence of a flag."""

    flag: Flag
    name: str
    """As it was typed."""
    value: str
    """What followed it; empty for a switch."""


def signature(flags: Iterable[Flag]) -> inspect.Signature:
    """Return the signature from which typer makes the options of a command.

    Every flag with a value is a list, so that giving it twice can be seen.
    """
    return inspect.Signature(
        [
            inspect.Parameter(
                flag.key,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_annotation(flag),
            )
            for flag in flags
        ]
    )


def _annotation(flag: Flag) -> Any:
    names = list(flag.names)
    if flag.off_names:
        names[0] += "/" + flag.off_names[0]
    kind = bool | None if flag.is_switch else list[str] | None
    return Annotated[kind, typer.Option(*names, help=flag.help, show_default=False)]


def collect(
    flags: Sequence[Flag], given: Mapping[str, Any], arguments: Sequence[str]
) -> list[Typed]:
    """Return the flags that were given, in the order of the table.

    Parameters
    ----------
    flags : sequence of Flag
        The table.
    given : mapping
        What typer parsed: key of a flag -> its values, or None.
    arguments : sequence of str
        The command line; it tells the spelling.

    Raises
    ------
    ConfigError
        A flag is there twice with different values.
    """
    typed = []
    for flag in flags:
        value = given.get(flag.key)
        if value is None or value == [] or value == ():
            continue
        values = [""] if flag.is_switch else [str(one) for one in value]
        names = _spellings((*flag.names, *flag.off_names), arguments)
        if flag.is_switch:
            names = _one_way(flag, names)
        if len(names) != len(values):
            names = [flag.names[0]] * len(values)
        occurrences = [Typed(flag, *pair) for pair in zip(names, values, strict=True)]
        if not flag.is_repeatable:
            _check_agree(occurrences)
            occurrences = occurrences[:1]
        typed += occurrences
    return typed


def _spellings(names: tuple[str, ...], arguments: Sequence[str]) -> list[str]:
    written = (argument.partition("=")[0] for argument in arguments)
    return [name for name in written if name in names]


def _one_way(flag: Flag, names: list[str]) -> list[str]:
    """Return the one spelling of a switch that counts."""
    on = [name for name in names if name in flag.names]
    off = [name for name in names if name in flag.off_names]
    if on and off:
        raise ConfigError(f"{on[0]} must not be given together with {off[0]}; leave one out")
    return (on or off)[:1]


def _check_agree(occurrences: list[Typed]) -> None:
    first = occurrences[0]
    for other in occurrences[1:]:
        if first.flag.parse(other.value, other.name) != first.flag.parse(first.value, first.name):
            what = "be given once" if other.name == first.name else f"agree with {first.name}"
            raise ConfigError(
                f"{other.name} must {what}; got {first.value} and {other.value}; leave one out"
            )


def check_values(flags: Iterable[Flag], arguments: Sequence[str]) -> None:
    """Check that something stands behind every flag that needs a value.

    Raises
    ------
    ConfigError
        A flag is the last argument, or another flag follows it.
    """
    with_value: set[str] = set()
    names: set[str] = set()
    for flag in flags:
        names.update(flag.names, flag.off_names)
        if not flag.is_switch:
            with_value.update(flag.names)
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument in with_value and following.partition("=")[0] in {"", *names}:
            before = f" before {following}" if following else ""
            raise ConfigError(f"{argument} must have a value; got none{before}")


def _takes_more(done: Sequence[str], spread: set[str]) -> bool:
    """Return whether the last argument is a value of a flag that takes several."""
    if len(done) > 1 and done[-2] in spread:
        return True
    return bool(done) and any(done[-1].startswith(f"{name}=") for name in spread)


def normalized(arguments: Sequence[str], flags: Iterable[Flag] = ()) -> list[str]:
    """Return a command line with flags in one spelling.

    Underscores in flags become hyphens, and the values that vLLM's ``--goodput`` takes one
    after the other become one.
    """
    spread = {name for flag in flags if flag.key == "goodput" for name in flag.names}
    done: list[str] = []
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument.partition("=")
            done.append(name.replace("_", "-") + equals + value)
        elif ":" in argument and _takes_more(done, spread):
            done[-1] += f" {argument}"
        else:
            done.append(argument)
    return done
