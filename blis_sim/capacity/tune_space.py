"""What a search chooses from: values of settings, and instances split over two roles."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from blis_sim import api
from blis_sim.capacity.grid import Axis, axis
from blis_sim.capacity.names import check_names
from blis_sim.capacity.study import Label
from blis_sim.errors import CatalogError, ConfigError, SimulationError

if TYPE_CHECKING:
    from blis_sim.config.cluster import PoolSettings
    from blis_sim.config.draft import ScenarioDraft
    from blis_sim.config.scenario import Scenario
    from blis_sim.engine.resolved import Deployed, Resolved

Choice = tuple[int, ...]
"""Of each axis the position of one value."""
PD_RATIO = "pd_ratio"
"""Axis of how many instances compute prompts and how many generate answers: ``1:3``."""
_POOLS = "cluster.pools"
_NAMES = ("model", "hardware")
_DEPLOYMENT = (*_NAMES, "engine", "cluster")
"""Parts of a scenario that say what is deployed; the others say what for."""
_USUAL: Mapping[str, tuple[int, ...]] = {
    "engine.max_num_seqs": (32, 64, 128, 256, 512, 1024),
    "engine.max_num_batched_tokens": (1024, 2048, 4096, 8192, 16384),
    "engine.tensor_parallel_size": (1, 2, 4, 8),
}


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """All combinations of the values of some settings.

    Attributes
    ----------
    draft : ScenarioDraft
        The scenario as it was given; it is not changed.
    axes : tuple of Axis
        The settings and their values.
    where : str
        How the user named the axes, for messages.
    """

    draft: ScenarioDraft
    axes: tuple[Axis, ...]
    where: str = "search"

    @property
    def size(self) -> int:
        """Combinations in all."""
        return math.prod(len(each.values) for each in self.axes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of each axis."""
        return tuple(len(each.values) for each in self.axes)

    @property
    def is_ordered(self) -> tuple[bool, ...]:
        """Of each axis whether its values are numbers that go up or down."""
        return tuple(_is_ordered(each) for each in self.axes)

    def labels(self, choice: Choice) -> dict[str, Label]:
        """Return what a combination is called, by the paths of its settings."""
        return {
            each.path: each.names[place] for each, place in zip(self.axes, choice, strict=True)
        }

    def scenario(self, choice: Choice) -> Scenario:
        """Return the scenario with a combination of values; ConfigError when it cannot be."""
        draft = copy.deepcopy(self.draft)
        for each, place in zip(self.axes, choice, strict=True):
            _set(draft, each, place, self.where)
        return draft.build()


def _is_ordered(one: Axis) -> bool:
    if one.path == PD_RATIO:
        return True
    values = one.values
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return False
    return all(a < b for a, b in pairwise(values)) or all(a > b for a, b in pairwise(values))


def _set(draft: ScenarioDraft, one: Axis, place: int, where: str) -> None:
    if one.path != PD_RATIO:
        draft.set(one.path, one.values[place], f"{where} {one.path}")
        return
    numbers = dict(zip(("prefill", "decode"), one.values[place], strict=True))
    pools = [dict(pool) for pool in copy.deepcopy(draft.get(_POOLS))]
    for pool in pools:
        if pool.get("role") in numbers:
            pool["num_instances"] = numbers[pool["role"]]
    draft.replace(_POOLS, pools)


# -- what may be searched ---------------------------------------------------


def search_space(
    draft: ScenarioDraft, axes: Sequence[Axis], *, splits: bool = False, where: str = "search"
) -> SearchSpace:
    """Return the space that some axes span; without any, the usual one.

    The usual one has ``max_num_seqs`` 32..1024 and ``max_num_batched_tokens`` 1024..16384, each
    value twice the one before, ``tensor_parallel_size`` 1, 2, 4, 8, and the split of prefill and
    decode instances where there are such; without what a flag or a pool sets.

    Parameters
    ----------
    draft : ScenarioDraft
        The scenario as it was given.
    axes : sequence of Axis
        Settings and their values.
    splits : bool
        Vary the split of instances over prefill and decode pools, too.
    where : str
        How the user named the axes.

    Raises
    ------
    ConfigError
        A setting is unknown, set by something else, or no part of a deployment; a value cannot
        be; or there are no instances to be split.
    CatalogError
        A model or GPU to choose from is unknown.
    """
    given = draft.build()
    chosen = list(axes)
    if not axes and not splits:
        chosen = list(_usual_axes(draft, given))
        splits = _why_no_split(given) == ""
    if splits:
        chosen.append(_split(given, where))
    if not chosen:
        raise ConfigError(
            f"{where} must name a setting; got none, and all that is searched by default is set "
            f"by flags or pools; give {where} engine.block_size=16,32 or leave a flag out"
        )
    for number, one in enumerate(chosen):
        _check(one, chosen[:number], draft, given, where)
        if one.path in _NAMES:
            alone = SearchSpace(draft, (one,), where)
            check_names(alone.scenario((place,)) for place in range(len(one.values)))
    return SearchSpace(draft, tuple(chosen), where)


def _usual_axes(draft: ScenarioDraft, given: Scenario) -> Iterator[Axis]:
    for path, values in _USUAL.items():
        if draft.overridden(path) is None and not any(_own(given, path)):
            yield axis(path, values)


def _check(
    one: Axis, before: Sequence[Axis], draft: ScenarioDraft, given: Scenario, where: str
) -> None:
    path = one.path
    for other in before:
        if path == other.path:
            raise ConfigError(
                f"{where} must name a setting once; got {path} twice; put all values in one"
            )
        if _POOLS in {path, other.path} and PD_RATIO in {path, other.path}:
            raise ConfigError(f"{where} must not name {_POOLS} beside {PD_RATIO}; leave one out")
    if path != PD_RATIO:
        _check_free(path, draft, given, where)
    for place in range(len(one.values)):
        SearchSpace(draft, (one,), where).scenario((place,))


def _check_free(path: str, draft: ScenarioDraft, given: Scenario, where: str) -> None:
    """Check that a setting is one of the deployment, and that nothing else sets it."""
    first = path.partition(".")[0]
    if first in type(given).model_fields and first not in _DEPLOYMENT:
        raise ConfigError(
            f"{where} must name a setting of what is deployed ({', '.join(_DEPLOYMENT)}); got "
            f"{path}; vary the load with blis sweep --grid {path}"
        )
    flag = draft.overridden(path)
    if flag is not None:
        raise ConfigError(
            f"{where} must name a setting that nothing else sets; got one of {flag[0]}; leave one "
            "of them out"
        )
    for place in _own(given, path):
        raise ConfigError(
            f"{where} must name a setting that no pool has for itself; got {path} beside {place}; "
            "take it out of the pool"
        )


def _own(given: Scenario, path: str) -> Iterator[str]:
    """Yield where pools set something for themselves: the common setting does not reach them."""
    first, _, name = path.partition(".")
    for number, pool in enumerate(given.cluster.pools or ()):
        part: Any = pool if not name else getattr(pool, first, None)
        if part is not None and part.is_given(name or first):
            yield f"{_POOLS}[{number}].{path}"


# -- prefill and decode -----------------------------------------------------


def _pair(given: Scenario) -> tuple[list[PoolSettings], list[PoolSettings]]:
    pools = given.cluster.pools or ()
    return (
        [pool for pool in pools if pool.role == "prefill"],
        [pool for pool in pools if pool.role == "decode"],
    )


def _why_no_split(given: Scenario) -> str:
    """Return what is there instead of two pools between which instances can move."""
    prefill, decode = _pair(given)
    if len(prefill) != 1 or len(decode) != 1:
        return f"{len(prefill)} prefill and {len(decode)} decode pools"
    one, other = prefill[0], decode[0]
    if one.autoscaling is not None or other.autoscaling is not None:
        return "pools that are autoscaled"
    if one.num_instances + other.num_instances < 3:
        return "one instance each, of which none can move"
    common = given.engine.tensor_parallel_size
    kinds = [
        (
            pool.hardware or given.hardware,
            pool.engine.tensor_parallel_size
            if pool.engine.is_given("tensor_parallel_size")
            else common,
        )
        for pool in (one, other)
    ]
    if kinds[0] != kinds[1]:
        words = " and ".join(f"{gpu} TP {degree}" for gpu, degree in kinds)
        return f"pools of {words}"
    return ""


def _split(given: Scenario, where: str) -> Axis:
    why = _why_no_split(given)
    if why:
        raise ConfigError(
            f"{where} {PD_RATIO} must come with one prefill and one decode pool of the same GPU "
            f"and tensor_parallel_size, with three fixed instances or more in all; got {why}; "
            "give --prefill-instances and --decode-instances, or cluster.pools"
        )
    prefill, decode = _pair(given)
    total = prefill[0].num_instances + decode[0].num_instances
    values = tuple((number, total - number) for number in range(1, total))
    return Axis(PD_RATIO, values, tuple(f"{p}:{d}" for p, d in values))


# -- the scenario as it was given -------------------------------------------


@dataclass(frozen=True, slots=True)
class GivenScenario:
    """The scenario without any choice.

    Attributes
    ----------
    scenario : Scenario
        As it was written.
    labels : mapping of str to Label
        Of each axis what is in force; None = it is not one value, or not known.
    choice : Choice or None
        The combination that it is; None = it lies outside the space.
    """

    scenario: Scenario
    labels: Mapping[str, Label]
    choice: Choice | None


def given_scenario(space: SearchSpace) -> GivenScenario:
    """Return what is in force when nothing is chosen.

    Raises
    ------
    TraceError
        The trace is wrong.
    """
    scenario = space.draft.build()
    try:
        resolved: Resolved | None = api.resolve(scenario)
    except (ConfigError, CatalogError, SimulationError):
        resolved = None
    labels: dict[str, Label] = {}
    places: list[int | None] = []
    for one in space.axes:
        label = _in_force(one.path, scenario, resolved)
        place = _place(one, label, scenario, space)
        labels[one.path] = label if place is None else one.names[place]
        places.append(place)
    known = [place for place in places if place is not None]
    choice = tuple(known) if len(known) == len(places) else None
    return GivenScenario(scenario, labels, choice)


def _in_force(path: str, scenario: Scenario, resolved: Resolved | None) -> Label:
    if path == PD_RATIO:
        prefill, decode = _pair(scenario)
        return f"{prefill[0].num_instances}:{decode[0].num_instances}"
    if resolved is not None and (found := _deployed_value(path, resolved)) is not None:
        return found
    value = _written(path, scenario)
    return value if value is None or isinstance(value, str | int | float) else None


def _deployed_value(path: str, resolved: Resolved) -> Label:
    """Return what all engines have in force, None where they differ or it is none of theirs."""
    deployed = [pool.deployed for pool in resolved.pools] or [resolved.deployed]
    found = {_engine_value(path, each) for each in deployed}
    return found.pop() if len(found) == 1 else None


def _engine_value(path: str, deployed: Deployed) -> Label:
    if path == "model":
        return deployed.spec.name
    if path == "hardware":
        return deployed.gpu.name
    first, _, name = path.partition(".")
    found = deployed.engine_settings().get(name) if first == "engine" else None
    return found if isinstance(found, str | int | float) else None


def _written(path: str, scenario: Scenario) -> Any:
    value: Any = scenario
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def _place(one: Axis, label: Label, scenario: Scenario, space: SearchSpace) -> int | None:
    """Return which value of an axis is in force already."""
    for place, name in enumerate(one.names):
        if label is not None and str(name).casefold() == str(label).casefold():
            return place
    if one.path == PD_RATIO:
        return None
    alone = replace(space, axes=(one,))
    written = _written(one.path, scenario)
    for place in range(len(one.values)):
        if written is not None and _written(one.path, alone.scenario((place,))) == written:
            return place
    return None
