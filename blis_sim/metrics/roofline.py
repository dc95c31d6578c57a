"""How well a run used its GPUs: operational intensity, MFU, MBU, and what bound its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from blis_sim.roofline.step_costs import Bound, Cost
from blis_sim.units import US_PER_S

if TYPE_CHECKING:
    from blis_sim.metrics.work import StepBook, WorkLog
    from blis_sim.roofline.step_costs import StepCosts

PHASES = ("whole", "prefill", "decode")
_LEAST_EXCESS = 1e-6
"""Share by which steps may be shorter than the bounds before it is said: rounding."""

ROOFLINE_DEFINITIONS = {
    "flops": "operations of the kernels of all steps, on all GPUs; a multiply-add is two",
    "bytes": "bytes these must move through the memory of all GPUs: every operand read once and "
    "every result written once; weights once per step",
    "intensity": "flops / bytes, FLOP/byte",
    "ridge": "intensity above which arithmetic bounds: dense peak of the formats computed in / "
    "bandwidth of the memory, FLOP/byte",
    "gpu_s": "time of steps * GPUs, seconds",
    "time_frac": "gpu_s / gpu_s of the whole",
    "mfu": "flops / (gpu_s * dense peak of the format they are computed in)",
    "mbu": "bytes / (gpu_s * bandwidth of the memory)",
    "bound_frac": "share of gpu_s by what bounds it: compute, bandwidth (of the memory), "
    "communication (between GPUs), overhead (launches, and kernels that take more than twice "
    "their bound), host; they add up to 1",
    "idle_frac": "1 - gpu_busy_frac: time without a step / time the instances were there",
    "num_steps": "engine steps",
    "prefill, decode": "attention, LM head and host by request, all else by token: in a step with "
    "both, a prompt's tokens and the decodes share the weights in proportion",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRoofline:
    """What the steps of a run, or one phase in them, did with the GPUs.

    Attributes
    ----------
    flops : int
        On all GPUs.
    bytes : float
        Moved through the memory of all GPUs; messages between them do not count.
    intensity, ridge : float or None
        FLOP per byte: of the work; from which on arithmetic bounds. None without work.
    gpu_s : float
        Time of the steps times their GPUs, seconds.
    time_frac : float or None
        Of that of the whole run, from 0 to 1; None without steps.
    mfu, mbu : float or None
        FLOPs and bytes against peak and bandwidth in that time, from 0 to 1; None without steps.
    bound_frac : dict of str to float or None
        Share of the time by the words of `Bound`; they add up to 1. None without steps, and
        the host's where the latency model tells nothing of it.
    """

    flops: int
    bytes: float
    intensity: float | None
    ridge: float | None
    gpu_s: float
    time_frac: float | None
    mfu: float | None
    mbu: float | None
    bound_frac: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRoofline:
    """A run, or a pool of it, against the roofs of its GPUs.

    Attributes
    ----------
    whole, prefill, decode : PhaseRoofline
        All steps; of these what prompts, and what decodes take.
    num_steps : int
        Engine steps.
    idle_frac : float or None
        Share of the time of the instances without a step, from 0 to 1.
    notes : tuple of str
        What the figures rest on, where that is not the latency model's own kernels.
    per_pool : dict of str to RunRoofline
        By the names of the pools of a cluster; empty without one.
    """

    whole: PhaseRoofline
    prefill: PhaseRoofline
    decode: PhaseRoofline
    num_steps: int
    idle_frac: float | None
    notes: tuple[str, ...] = ()
    per_pool: dict[str, RunRoofline] = field(default_factory=dict)

    def to_json_dict(self) -> dict[str, Any]:
        """Return everything as plain values, with definitions."""
        return {**_plain(asdict(self)), "definitions": ROOFLINE_DEFINITIONS}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    pools = values.pop("per_pool")
    values["notes"] = list(values["notes"])
    for pool in pools.values():
        _plain(pool)
    return {**values, "per_pool": pools}


@dataclass(slots=True)
class Spent:
    """What steps cost on all GPUs, by phase.

    Attributes
    ----------
    prefill, decode : Cost
        Times are GPU-microseconds.
    num_steps : int
        Engine steps.
    knows_host : bool
        Whether the host's share is known.
    is_too_short : bool
        Whether steps are shorter than the least time the GPUs allow.
    """

    prefill: Cost = field(default_factory=Cost)
    decode: Cost = field(default_factory=Cost)
    num_steps: int = 0
    knows_host: bool = False
    is_too_short: bool = False

    def add(self, other: Spent) -> None:
        """Add what other instances spent."""
        self.prefill.add(other.prefill)
        self.decode.add(other.decode)
        self.num_steps += other.num_steps
        self.knows_host |= other.knows_host
        self.is_too_short |= other.is_too_short


def spent_of(log: WorkLog, costs: StepCosts, num_gpus: int) -> Spent:
    """Return what counted steps cost.

    Parameters
    ----------
    log : WorkLog
        The steps of instances of one kind.
    costs : StepCosts
        What one of their GPUs does in a step.
    num_gpus : int
        GPUs of an instance, >= 1.

    Notes
    -----
    Where the latency model knows kernels, what a step takes beyond them is the host's, besides
    rounding to whole microseconds and preemptions. Elsewhere kernels count with their bounds, and
    the rest is overhead. In steps with prompts that rest is shared as the known time is.
    """
    spent = Spent(num_steps=log.decoding.num_steps + log.prompting.num_steps)
    spent.knows_host = costs.knows_kernels
    for book in (log.decoding, log.prompting):
        prefill, decode = parts_of(book, costs)
        spent.is_too_short |= _fill_up((prefill, decode), book.time_us, costs)
        spent.prefill.add(prefill, num_gpus)
        spent.decode.add(decode, num_gpus)
    return spent


def parts_of(book: StepBook, costs: StepCosts) -> tuple[Cost, Cost]:
    """Return what prompts and what decodes cost on one GPU, as far as parts of steps are known.

    FLOPs are exact, and bytes but for their rounding, as both are linear in the context within a
    bucket (see `work`); a sliding window whose end lies within one makes a difference below
    0.1 %. The time of decode attention is piecewise linear: below 0.1 % of a step, too.
    """
    prefill, decode = Cost(), Cost()
    for counts, cost_of in ((book.tokens, costs.tokens), (book.rows, costs.rows)):
        for number, (num_steps, num_decodes) in counts.items():
            cost = cost_of(number)
            decode.add(cost, num_decodes, number)
            prefill.add(cost, num_steps * number - num_decodes, number)
    for (num_decodes, _), (num_steps, context) in book.decodes.items():
        # Two neighbouring whole contexts whose mean is that of the steps.
        low, num_high = divmod(context, num_steps)
        decode.add(costs.decodes(num_decodes, low), num_steps - num_high)
        if num_high:
            decode.add(costs.decodes(num_decodes, low + 1), num_high)
    for chunk, times in book.chunks.items():
        prefill.add(costs.chunk(*chunk), times)
    prefill.times_us[Bound.OVERHEAD] += book.launch_us
    return prefill, decode


def _fill_up(parts: tuple[Cost, Cost], time_us: int, costs: StepCosts) -> bool:
    """Make times add up to that of the steps; return whether the bounds take longer than that."""
    known_us = sum(part.time_us for part in parts)
    if not known_us:
        return False
    rest_us = time_us - known_us
    bound = Bound.HOST if costs.knows_kernels else Bound.OVERHEAD
    for part in parts:
        if rest_us >= 0:
            part.times_us[bound] += rest_us * part.time_us / known_us
        else:
            part.stretch(time_us / known_us)
    return rest_us < -_LEAST_EXCESS * known_us and not costs.knows_kernels


def roofline_of(
    spent: Spent,
    busy_frac: float | None,
    notes: tuple[str, ...] = (),
    per_pool: Mapping[str, RunRoofline] | None = None,
) -> RunRoofline:
    """Return the figures of a run or a pool.

    Parameters
    ----------
    spent : Spent
        What its steps cost.
    busy_frac : float or None
        Share of the time of its instances in steps.
    notes : tuple of str
        What the figures rest on.
    per_pool : mapping of str to RunRoofline, optional
        Those of the pools.
    """
    whole = Cost()
    whole.add(spent.prefill)
    whole.add(spent.decode)
    phases = {
        name: _phase(cost, whole.time_us, knows_host=spent.knows_host)
        for name, cost in zip(PHASES, (whole, spent.prefill, spent.decode), strict=True)
    }
    return RunRoofline(
        **phases,
        num_steps=spent.num_steps,
        idle_frac=None if busy_frac is None else min(1.0, max(0.0, 1.0 - busy_frac)),
        notes=notes,
        per_pool=dict(per_pool or {}),
    )


def _phase(cost: Cost, whole_us: float, *, knows_host: bool) -> PhaseRoofline:
    time_us = cost.time_us
    has_work = bool(cost.flops and cost.bytes)
    shares: dict[str, float | None] = {
        bound.value: cost.times_us[bound] / time_us if time_us else None for bound in Bound
    }
    if not knows_host:
        shares[Bound.HOST.value] = None
    return PhaseRoofline(
        flops=cost.flops,
        bytes=cost.bytes,
        intensity=cost.flops / cost.bytes if has_work else None,
        ridge=(cost.flops / cost.peak_us) / (cost.bytes / cost.stream_us) if has_work else None,
        gpu_s=time_us / US_PER_S,
        time_frac=time_us / whole_us if whole_us else None,
        mfu=min(1.0, cost.peak_us / time_us) if time_us else None,
        mbu=min(1.0, cost.stream_us / time_us) if time_us else None,
        bound_frac=shares,
    )
