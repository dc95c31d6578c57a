"""A grid over settings: every combination of the values of several axes."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.study import Label, Point
from blis_sim.config.overrides import parse_override
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.config.draft import ScenarioDraft

MOST_POINTS = 100_000
REPLICATION = "replication"
"""Label of a point that says which of several seeds it has."""
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(?::(x?)({_NUMBER}))?")
_OPENING = "[{("


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting and the values it takes.

    Attributes
    ----------
    path : str
        Path of the setting: ``engine.tensor_parallel_size``.
    values : tuple
        As they would stand in YAML, at least one.
    names : tuple of Label
        How to call each of them.
    """

    path: str
    values: tuple[Any, ...]
    names: tuple[Label, ...]


def axis(path: str, values: Sequence[Any]) -> Axis:
    """Return an axis; a value that is a list or a mapping is called by its number.

    Raises
    ------
    ConfigError
        There are no values.
    """
    if isinstance(values, str) or not values:
        raise ConfigError(f"grid {path} must have a list of values, at least one; got {values!r}")
    names = tuple(
        value if value is None or isinstance(value, str | int | float | bool) else f"no. {number}"
        for number, value in enumerate(values, start=1)
    )
    return Axis(path, tuple(values), names)


def parse_axis(
    text: str, where: str = "--grid", path_of: Callable[[str], str] | None = None
) -> Axis:
    """Return the axis that ``a.b=v1,v2`` means.

    Values have commas between them and are written as for ``--set``; brackets and quotes hold
    commas together. ``2:40:2`` stands for 2, 4, ..., 40 (both ends count) and ``128:8192:x2``
    for 128, 256, ..., 8192; without a step it is 1.

    Parameters
    ----------
    text : str
        What the user wrote.
    where : str
        How the user named it.
    path_of : callable, optional
        Gives the path of a setting that is written in another way.

    Raises
    ------
    ConfigError
        It has another form, or too many values.
    """
    path, equals, listed = text.partition("=")
    path = path.strip().replace("-", "_")
    parts = list(split_list(listed))
    if not equals or not path or not all(parts):
        raise ConfigError(
            f"{where} must have the form a.b=v1,v2 or a.b=FROM:TO:STEP, such as "
            f"workload.request_rate=2:40:2; got {text!r}"
        )
    path = path if path_of is None else path_of(path)
    values: dict[str, Any] = {}  # each once; true and 1 are not the same
    for part in parts:
        matched = _RANGE.fullmatch(part)
        found = [_value(path, part, where)] if matched is None else _range(matched, where)
        for value in found:
            values.setdefault(_spelled(value), value)
        if len(values) > MOST_POINTS:
            raise ConfigError(f"{where} {path} must have at most {MOST_POINTS:,} values; got more")
    return axis(path, list(values.values()))


def _spelled(value: Any) -> str:
    """Return a text that is the same for equal values: ``2`` and ``2.0``."""
    is_whole = isinstance(value, float) and value.is_integer()
    return repr(int(value) if is_whole else value)


def split_list(listed: str) -> Iterator[str]:
    """Yield what stands between commas that no bracket or quote holds together."""
    depth, begin, quote = 0, 0, ""
    for match in re.finditer(r"[\[\](){}'\",]", listed):
        sign = match[0]
        if quote or sign in "'\"":
            quote = "" if quote == sign else quote or sign
        elif sign == "," and depth == 0:
            yield listed[begin : match.start()].strip()
            begin = match.end()
        elif sign != ",":
            depth += 1 if sign in _OPENING else -1
    yield listed[begin:].strip()


def _value(path: str, text: str, where: str) -> Any:
    try:
        return parse_override(f"{path}={text}").value
    except ConfigError as error:
        raise ConfigError(str(error).replace("--set", where, 1)) from None


def _range(match: re.Match[str], where: str) -> list[int | float]:
    """Return the numbers of a range; whole ones where all that is written is whole."""
    first, last, kind, step = match[1], match[2], match[3], match[4] or "1"
    is_whole = all(re.fullmatch(r"[+-]?\d+", each) for each in (first, last, step))
    low, high, by = float(first), float(last), float(step)
    if high < low or (by <= 1 or low <= 0 if kind else by <= 0):
        raise ConfigError(
            f"{where} range must go up, FROM:TO:STEP with a step above 0 or FROM:TO:xFACTOR with "
            f"a factor above 1 and FROM above 0; got {match[0]}"
        )
    number = math.log(high / low) / math.log(by) if kind else (high - low) / by
    if number > MOST_POINTS:
        raise ConfigError(
            f"{where} range must have at most {MOST_POINTS:,} values; got {match[0]}"
        )
    count = math.floor(number + 1e-9) + 1
    found = [low * by**n if kind else low + n * by for n in range(count)]
    return (
        [round(each) for each in found] if is_whole else [float(f"{each:.12g}") for each in found]
    )


def combinations(axes: Sequence[Axis]) -> Iterator[dict[str, tuple[Any, Label]]]:
    """Yield every combination, path -> (value, name); the first axis changes slowest.

    Raises
    ------
    ConfigError
        A setting has two axes, or there are too many combinations.
    """
    paths = [each.path for each in axes]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(
                f"--grid must name a setting once; got {path} {paths.count(path)} times; put all "
                "values in one --grid"
            )
    check_number(math.prod(len(each.values) for each in axes))
    pairs = [list(zip(each.values, each.names, strict=True)) for each in axes]
    for combination in product(*pairs):
        yield dict(zip(paths, combination, strict=True))


def check_number(number: int) -> None:
    """Check that a study has not too many points; ConfigError when it has."""
    if number > MOST_POINTS:
        raise ConfigError(
            f"a study must have at most {MOST_POINTS:,} points; got {number:,}; take fewer "
            "values, or several studies"
        )


def grid_points(
    draft: ScenarioDraft,
    axes: Sequence[Axis],
    *,
    num_replications: int = 1,
    labels: Mapping[str, Label] | None = None,
) -> list[Point]:
    """Return a point for every combination and replication.

    Replication n has the scenario's seed plus n; with one, points have no label for it.

    Parameters
    ----------
    draft : ScenarioDraft
        What all points share; it is not changed.
    axes : sequence of Axis
        The settings that differ.
    num_replications : int
        Seeds per combination, >= 1.
    labels : mapping, optional
        More labels of all points.

    Raises
    ------
    ConfigError
        A setting is unknown, a value cannot be, or something else sets it, too.
    """
    points: list[Point] = []
    for combination in combinations(axes):
        one = copy.deepcopy(draft)
        for path, (value, _) in combination.items():
            before = one.overridden(path)
            if before is not None:
                raise ConfigError(
                    f"--grid must name a setting that nothing else sets; got {path}, set by "
                    f"{before[0]}; leave one of them out"
                )
            one.set(path, value, f"--grid {path}")
        scenario = one.build()
        named = dict(labels or {}) | {path: name for path, (_, name) in combination.items()}
        if num_replications == 1:
            points.append(Point(scenario, named))
            continue
        for number in range(num_replications):
            seeded = scenario.model_copy(
                update={"seed": scenario.seed + number},
            )
            seeded.model_fields_set.add("seed")
            points.append(Point(seeded, named | {REPLICATION: number}))
    return points
