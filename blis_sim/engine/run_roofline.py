"""The roofline of a run, from the steps its instances counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.limits import truncation_of
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.metrics.roofline import RunRoofline, Spent, roofline_of, spent_of
from blis_sim.metrics.work import WorkLog
from blis_sim.roofline.step_costs import StepCosts
from blis_sim.transformer.forward_pass import ForwardPass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blis_sim.engine.resolved import Deployed, Resolved
    from blis_sim.metrics.result import Result


def run_roofline(result: Result, resolved: Resolved) -> RunRoofline | None:
    """Return the roofline of a run; None where its steps were not counted.

    Parameters
    ----------
    result : Result
        Of a run with ``count_work``.
    resolved : Resolved
        What was simulated.
    """
    run = result.run
    if run.work is None:
        return None
    busy_frac = result.summary["gpu_busy_frac"]
    if not resolved.pools:
        spent = _spent(resolved.deployed, run.work)
        return roofline_of(spent, busy_frac, _notes(resolved.deployed, spent))
    whole, pools = Spent(), {}
    for number, pool in enumerate(resolved.pools):
        pairs = zip(run.instances, run.work, strict=True)
        logs = [log for instance, log in pairs if instance.pool == number]
        spent = _spent(pool.deployed, logs)
        whole.add(spent)
        pools[pool.name] = roofline_of(
            spent, result.per_pool[pool.name]["gpu_busy_frac"], _notes(pool.deployed, spent)
        )
    return roofline_of(whole, busy_frac, _joined(pools), pools)


def _spent(deployed: Deployed, logs: Sequence[WorkLog]) -> Spent:
    log = WorkLog()
    for each in logs:
        log.add(each)
    return spent_of(log, costs_of(deployed), deployed.settings.tensor_parallel_size)


def costs_of(deployed: Deployed) -> StepCosts:
    """Return what a step of an engine costs: by its latency model, or else by the bounds."""
    settings, model, gpu = deployed.settings, deployed.latency.model, deployed.gpu
    if isinstance(model, RooflineV2Model):
        return StepCosts(model.forward, gpu, model)
    forward = ForwardPass(
        deployed.spec,
        settings.tensor_parallel_size,
        kv_cache_dtype=settings.kv_cache_dtype,
        has_fp8=gpu.fp8_tflops_dense is not None,
        truncation=truncation_of(deployed.spec, settings),
    )
    return StepCosts(forward, gpu)


def _notes(deployed: Deployed, spent: Spent) -> tuple[str, ...]:
    """Return what the figures of an engine rest on."""
    name = deployed.latency.name.value
    if isinstance(deployed.latency.model, RooflineV2Model):
        return ()
    notes = [
        f"{name} knows no kernels: time is bound by compute, bandwidth or communication as far as "
        "the peak, bandwidth and links of the GPU demand it, and all else, the host's share "
        "too, is overhead"
    ]
    if spent.is_too_short:
        notes.append(
            f"some steps of {name} are shorter than the GPU's peak and bandwidth allow: its "
            "figures do not fit this deployment, and MFU and MBU are at most 1"
        )
    return tuple(notes)


def _joined(pools: dict[str, RunRoofline]) -> tuple[str, ...]:
    """Return the notes of all pools, each once; those of some pools name them."""
    names: dict[str, list[str]] = {}
    for name, pool in pools.items():
        for note in pool.notes:
            names.setdefault(note, []).append(name)
    return tuple(_of_pools(note, found, len(pools)) for note, found in names.items())


def _of_pools(note: str, names: Iterable[str], num_pools: int) -> str:
    found = list(names)
    return note if len(found) == num_pools else f"[{', '.join(found)}] {note}"
