"""What ``blis compare`` is asked to compare: a grid of deployments, or whole scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from blis_sim.cli.flag_command import read_settings
from blis_sim.cli.flags import Typed
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.capacity.compare import Candidate
    from blis_sim.cli.settings import Settings
    from blis_sim.config.overrides import Override

LISTS = ("--models", "--rate", "--gpus", "--tp")
"""The lists of a grid, the outermost first."""
_MOST_RUNS = 10_000
_AS_GIVEN = "as given"
_OPENING = "[{("


@dataclass(slots=True)
class Asked:
    """What a command line asks for.

    Attributes
    ----------
    candidates : list of Candidate
        In the order of the rows.
    notices : list of str
        How flags were read.
    """

    candidates: list[Candidate] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


class _Variation(NamedTuple):
    """One value of ``--vary``."""

    name: str
    override: Override


def read_candidates(typed: Sequence[Typed], options: Mapping[str, Any]) -> Asked:
    """Return the scenarios to compare.

    Parameters
    ----------
    typed : sequence of Typed
        The flags that were given.
    options : mapping
        Those of the command itself, parsed.

    Raises
    ------
    ConfigError
        A flag is wrong, or asks for a grid where others ask for whole scenarios.
    """
    files = list(dict.fromkeys(options.get("--scenario", ())))
    others = [flag for flag in ("--vary", "--colocated") if flag in options]
    if len(files) > 1:
        others.insert(0, "several --scenario")
    if not others:
        return _grid(typed, options)
    for name in LISTS:
        values = list_of(typed, name)
        if len(values) > 1:
            raise ConfigError(_not_a_grid([one for one in values if one], others[0]))
    asked = _scenarios(typed, options, files)
    if "--colocated" in options:
        from blis_sim.capacity.colocated import with_twins

        asked.candidates = with_twins(asked.candidates)
    return asked


def _not_a_grid(values: Sequence[Typed], other: str) -> str:
    flag, spelling, _ = values[0]
    text = ",".join(one.value for one in values)
    remedy = "leave one of them out"
    if other != "--vary":
        remedy = f"leave one of them out, or use --vary {flag.path}={text}"
    return f"{spelling} must be one value with {other}; got {text}; {remedy}"


def list_of(typed: Sequence[Typed], name: str) -> Sequence[Typed | None]:
    """Return the values of a list, each once; None alone when it was not given."""
    found: dict[str, Typed] = {}
    for flag, spelling, value in typed:
        if flag.names[0] != name:
            continue
        parts = [part.strip() for part in value.split(",")]
        if not all(parts):
            raise ConfigError(f"{spelling} must be values with commas between them; got {value!r}")
        for part in parts:
            found.setdefault(part.casefold(), Typed(flag, spelling, part))
    return list(found.values()) or [None]


def _draft(typed: Sequence[Typed], options: Mapping[str, Any], file: str | None) -> Settings:
    """Return the settings of a scenario file and of the flags that hold for all rows."""
    own = {flag: value for flag, value in options.items() if flag != "--scenario"}
    settings = read_settings(own if file is None else own | {"--scenario": file})
    settings.apply(typed)
    return settings


# -- deployments as a grid --------------------------------------------------


def _grid(typed: Sequence[Typed], options: Mapping[str, Any]) -> Asked:
    """Return every combination, the rates outermost."""
    from blis_sim.capacity.compare import Candidate

    choices = [list_of(typed, name) for name in LISTS]
    num_runs = 1
    for choice in choices:
        num_runs *= len(choice)
    if num_runs > _MOST_RUNS:
        raise ConfigError(
            f"--models, --gpus, --tp and --rate must be at most {_MOST_RUNS:,} combinations; got "
            f"{num_runs:,}"
        )
    file = next(iter(options.get("--scenario", ())), None)
    asked, notices = Asked(), dict[str, None]()
    for combination in product(*choices):
        settings = _draft(typed, options, file)
        _choose(settings, combination)
        asked.candidates.append(Candidate("", settings.build()))
        notices |= dict.fromkeys(settings.notices)
    asked.notices = list(notices)
    return asked


def _choose(settings: Settings, chosen: Sequence[Typed | None]) -> None:
    """Set one value of each list."""
    for one in chosen:
        if one is not None:
            settings.draft.set(one.flag.path, one.value, one.name)


# -- whole scenarios --------------------------------------------------------


def _scenarios(typed: Sequence[Typed], options: Mapping[str, Any], files: Sequence[str]) -> Asked:
    """Return each scenario, with each value of ``--vary``."""
    from blis_sim.capacity.compare import Candidate

    variations: list[_Variation | None] = [*_variations(options.get("--vary", ""))] or [None]
    names = _file_names(files)
    if len(names) == 1 and variations != [None]:
        names = dict.fromkeys(names, "")  # all rows are of this file
    chosen = [one for name in LISTS for one in list_of(typed, name)]
    asked, notices = Asked(), dict[str, None]()
    for file, name in (names or {None: ""}).items():
        for variation in variations:
            settings = _draft(typed, options, file)
            _choose(settings, chosen)
            if variation is not None:
                _vary(settings, variation)
            parts = filter(None, [name, variation.name if variation else ""])
            asked.candidates.append(Candidate(", ".join(parts) or _AS_GIVEN, settings.build()))
            notices |= dict.fromkeys(settings.notices)
    asked.notices = list(notices)
    return asked


def _vary(settings: Settings, variation: _Variation) -> None:
    path, value = variation.override
    before = settings.draft.overridden(path)
    if before is not None:
        raise ConfigError(
            f"--vary must name a setting that nothing else sets; got one of {before[0]}; leave "
            "one of them out"
        )
    settings.draft.set(path, value, f"--vary {path}")


def _file_names(files: Sequence[str]) -> dict[str | None, str]:
    """Return what to call each file: without folder and suffix where that tells them apart."""
    stems = [Path(file).stem for file in files]
    return {
        file: stem if stems.count(stem) == 1 else file
        for file, stem in zip(files, stems, strict=True)
    }


def _variations(text: str) -> Iterator[_Variation]:
    """Yield the values of ``--vary``, each once.

    A value that is a list or a mapping is named by its number.
    """
    if not text:
        return

    from blis_sim.capacity.grid import split_list
    from blis_sim.config.overrides import parse_override

    path, equals, listed = text.partition("=")
    values = list(split_list(listed))
    if not equals or not path.strip() or not all(values):
        raise ConfigError(
            "--vary must have the form a.b=v1,v2, such as "
            f"cluster.routing=round-robin,least-loaded; got {text!r}"
        )
    if len(values) > _MOST_RUNS:
        raise ConfigError(f"--vary must have at most {_MOST_RUNS:,} values; got {len(values):,}")
    for number, value in enumerate(dict.fromkeys(values), start=1):
        try:
            override = parse_override(f"{path}={value}")
        except ConfigError as error:
            raise ConfigError(str(error).replace("--set", "--vary", 1)) from None
        last = override.path.rpartition(".")[2]
        is_simple = value[0] not in _OPENING
        yield _Variation(f"{last}={value}" if is_simple else f"{last} {number}", override)
