"""What the rows of a comparison are called, and what should be known about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blis_sim.capacity.compared import ComparedPool, ComparedRun, comparability


def short_model(model: str) -> str:
    """Return models without their organisations."""
    return " + ".join(each.rpartition("/")[2] for each in model.split(" + "))


def deployment(row: ComparedRun, *, with_tp: bool = True) -> str:
    """Return what a row runs on in words: ``2 x H100 + 1 x A100-80``.

    Pools that look alike are counted together, a single engine is not counted. Roles are named,
    the model where pools have different ones, and TP above 1.

    Parameters
    ----------
    row : ComparedRun
    with_tp : bool
        Whether TP is to be named even where all pools have the same one.
    """
    several_models = len({pool.model for pool in row.pools}) > 1
    with_tp = with_tp or row.tensor_parallel_size is None
    fixed: dict[str, int] = {}
    scaled: dict[str, list[str]] = {}
    for pool in row.pools:
        kind = " ".join(_kind(pool, with_tp=with_tp, with_model=several_models))
        if pool.scaled is None:
            fixed[kind] = fixed.get(kind, 0) + pool.num_instances
        else:
            scaled.setdefault(kind, []).append("{} to {} x".format(*pool.scaled))
    if list(fixed.values()) == [1] and not scaled:
        return next(iter(fixed))
    counted = [f"{number} x {kind}" for kind, number in fixed.items()]
    counted += [f"{number} {kind}" for kind, numbers in scaled.items() for number in numbers]
    return " + ".join(counted)


def _kind(pool: ComparedPool, *, with_tp: bool, with_model: bool) -> Iterator[str]:
    yield pool.gpu
    if with_tp and pool.tensor_parallel_size > 1:
        yield f"TP{pool.tensor_parallel_size}"
    about = [short_model(pool.model)] * with_model
    about += [pool.role] * (pool.role != "mixed")
    if about:
        yield f"({', '.join(about)})"


def label(row: ComparedRun, *, with_model: bool) -> str:
    """Return the name of a row, or what is deployed where it has none."""
    if row.name:
        return row.name
    place = deployment(row, with_tp=False)
    if row.tensor_parallel_size is not None:
        place += f" TP {row.tensor_parallel_size}"
    return f"{short_model(row.model)} on {place}" if with_model else place


def notes_of(rows: Sequence[ComparedRun]) -> list[str]:
    """Return what the reader should know, each thing once.

    Whether rows are comparable; what was not simulated, and why; and the notices of the runs.
    Those that only some rows have name them.
    """
    several = len({row.model for row in rows}) > 1
    places: dict[str, dict[str, None]] = {}
    for row in rows:
        said = row.notices if row.is_simulated else [f"not simulated: {row.reason}"]
        for text in said:
            places.setdefault(text, {})[label(row, with_model=several)] = None
    everywhere = {label(row, with_model=several) for row in rows if row.is_simulated}
    notes = list(filter(None, [comparability(rows)]))
    # What could not be simulated comes first.
    for text in sorted(places, key=lambda text: not text.startswith("not simulated: ")):
        names = places[text]
        # Names hold commas where rows have names.
        between = "; " if rows[0].name else ", "
        notes.append(text if set(names) == everywhere else f"{between.join(names)}: {text}")
    return notes
