"""Which measured runs are compared: those of one engine, or a few of each deployment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from blis_sim.errors import ConfigError, unknown_name
from blis_sim.validation.experiment import Case, case_of
from blis_sim.validation.records import RunRecord

VLLM = "vllm"


def engine_key(engine: str | None) -> str:
    """Return the name of an engine without its version, in lower case; vLLM when none is given."""
    if engine is None or VLLM in engine.lower():
        return VLLM
    return engine.split()[0].lower()


def cases_of(
    records: Sequence[RunRecord], engine: str | None = None, sample: int | None = None
) -> list[Case]:
    """Return what is simulated for the runs that are asked for.

    Parameters
    ----------
    records : sequence of RunRecord
        A table.
    engine : str, optional
        Only runs of this engine. Another one than vLLM is simulated as if it were vLLM, which
        each case says; without it runs of other engines have a problem.
    sample : int, optional
        So many experiments of each model, GPU and tensor parallel size; None = all.

    Returns
    -------
    list of Case
        In the order of the table.

    Raises
    ------
    ConfigError
        The table has no run of the engine.
    """
    chosen = list(records)
    if engine is not None:
        known = sorted({engine_key(record.engine) for record in records})
        if engine.lower() not in known:
            raise ConfigError(unknown_name("--engine", engine, known))
        chosen = [record for record in records if engine_key(record.engine) == engine.lower()]
    if sample is not None:
        chosen = sampled(chosen, sample)
    if engine is None or engine.lower() == VLLM:
        return [case_of(record) for record in chosen]
    return [_as_vllm(record) for record in chosen]


def sampled(records: Sequence[RunRecord], num_each: int) -> list[RunRecord]:
    """Return so many experiments of each model, GPU and tensor parallel size, in their order.

    They are the first by the SHA-256 of their names: always the same ones, whatever else is in
    the table, and in no relation to their loads.
    """
    groups: dict[tuple[str, str, int], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.model, record.gpu, record.tp), []).append(record)
    kept = {
        id(record) for group in groups.values() for record in sorted(group, key=_draw)[:num_each]
    }
    return [record for record in records if id(record) in kept]


def _draw(record: RunRecord) -> str:
    return hashlib.sha256(f"{record.dataset}\n{record.exp_id}".encode()).hexdigest()


def _as_vllm(record: RunRecord) -> Case:
    case = case_of(replace(record, engine=None))
    notice = f"the server was {record.engine}; vLLM is simulated"
    return replace(case, notices=(*case.notices, notice))
