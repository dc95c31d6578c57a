"""How many KV cache blocks one engine instance has.

vLLM profiles one forward pass of the largest batch when it starts and gives to the KV cache
what is left of its share of the GPU's memory::

    |<----------- gpu_memory_utilization * memory ------------>|
    |  weights / TP  |   reserve   |  KV blocks ...            |  not used by the engine

The reserve is estimated here by one function, `memory_reserve_bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blis_sim.catalog.gpus import GpuSpec
from blis_sim.catalog.model_spec import ModelSpec, valid_tensor_parallel
from blis_sim.engine.limits import engine_release
from blis_sim.errors import ConfigError
from blis_sim.units import GB, GIB

_LOGIT_BYTES = 4  # samplers work in float32 whatever the model's dtype


@dataclass(frozen=True, slots=True)
class ReserveConstants:
    """What the reserve of one engine generation is made of.

    Attributes
    ----------
    fixed_gib : float
        CUDA context, library workspaces, rotary tables, the slack of the allocator, and CUDA
        graphs where the engine counts them (since 0.21; no term of their own is visible in
        the measured deployment), GiB.
    tensor_parallel_gib : float
        Communication buffers of a GPU in a group (tp > 1), GiB.
    num_logit_copies : float
        Arrays of max_num_seqs x vocabulary float32 alive at the sampler's peak.
    """

    fixed_gib: float
    tensor_parallel_gib: float
    num_logit_copies: float


@dataclass(frozen=True, slots=True)
class KvSettings:
    """The engine settings that decide how much memory is left for the KV cache.

    Attributes
    ----------
    tp : int
        Tensor-parallel degree, >= 1.
    max_num_batched_tokens : int
        Token budget of one step, >= 1.
    max_num_seqs : int
        Most requests in the running batch, >= 1.
    engine_version : str
        ``0.15.1``, ``v0.8.4`` or ``vllm/vllm-openai:v0.8.4``.
    gpu_memory_utilization : float
        Share of the GPU's memory the engine may use, in (0, 1].
    block_size : int
        Tokens per block, >= 1.
    kv_cache_dtype : {"auto", "fp8"}
        Type of a cached element; ``auto`` = the model's dtype.
    """

    tp: int
    max_num_batched_tokens: int
    max_num_seqs: int
    engine_version: str
    gpu_memory_utilization: float = 0.9
    block_size: int = 16
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"


@dataclass(frozen=True, slots=True)
class KvCapacity:
    """The memory of one GPU of an instance, divided.

    Attributes
    ----------
    num_blocks : int
        KV blocks of the instance, >= 1.
    weight_bytes, reserve_bytes, block_bytes : int
        Weights, reserve and one block on one GPU.
    usable_bytes : int
        Share of the GPU's memory the engine may use.
    note : str
        What the figure leaves out; empty = nothing.
    """

    num_blocks: int
    weight_bytes: int
    reserve_bytes: int
    block_bytes: int
    usable_bytes: int
    note: str = ""


def reserve_constants(engine_version: str) -> ReserveConstants:
    """Return the reserve constants of an engine's generation.

    ``fixed_gib`` and ``tensor_parallel_gib`` are a least-squares fit (rounded) to the block
    counts that vLLM 0.15 reports for twelve deployments of nine models, TP 1 to 4. The copies
    are not fitted: up to 0.16 the sampler sorts whole rows of logits, for which vLLM's
    developers measured 1.25 GB at 256 x 131,072, about nine arrays; the kernels that came
    with 0.17 took 0.38 GB there, three arrays (vLLM pull requests 32558 and 33538).

    Raises
    ------
    ConfigError
        The version has no ``major.minor``.
    """
    sorts_logits = engine_release(engine_version) < (0, 17)
    return ReserveConstants(
        fixed_gib=0.55, tensor_parallel_gib=0.15, num_logit_copies=9.0 if sorts_logits else 3.0
    )


def memory_reserve_bytes(
    spec: ModelSpec,
    engine_version: str,
    *,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    tp: int,
) -> int:
    """Return the memory on one GPU that is neither weights nor KV cache.

    The engine profiles a step of ``max_num_batched_tokens`` tokens that samples
    ``max_num_seqs`` requests. Hidden states and residual are alive throughout; the rest of
    the peak is in an MLP or in the sampler, never in both::

        reserve = fixed + [tp > 1]*communication + tokens*2d*bytes + max(mlp, sampler)
        mlp     = tokens * widest layer * bytes
        sampler = copies * min(max_num_seqs, tokens) * V * 4

    with tokens = max_num_batched_tokens and bytes those of the model's dtype. The widest layer
    is 3F/tp (gate, up and their product; 2F/tp without a gate); in an MoE layer that for each
    chosen expert, with its output d, and for the shared experts.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    engine_version : str
        Selects the constants, see `reserve_constants`.
    max_num_batched_tokens, max_num_seqs, tp : int
        As in `KvSettings`.

    Returns
    -------
    int
        Bytes on each GPU.

    Raises
    ------
    ConfigError
        The version has no ``major.minor``.
    """
    constants = reserve_constants(engine_version)
    fixed_gib = constants.fixed_gib + (constants.tensor_parallel_gib if tp > 1 else 0.0)
    token_bytes = max_num_batched_tokens * spec.dtype_bytes
    mlp = token_bytes * (_mlp_elements(spec) / tp + _expert_output_elements(spec))
    sampled = min(max_num_seqs, max_num_batched_tokens)
    sampler = constants.num_logit_copies * sampled * spec.vocab_size * _LOGIT_BYTES
    return round(fixed_gib * GIB + token_bytes * 2 * spec.hidden_size + max(mlp, sampler))


def _mlp_elements(spec: ModelSpec) -> int:
    """Return the widest MLP's elements per token, before they are split over the GPUs."""
    matrices = 3 if spec.gated_mlp else 2
    moe = spec.moe
    if moe is None:
        return matrices * spec.intermediate_size
    width = moe.experts_per_token * moe.moe_intermediate_size + moe.shared_intermediate_size
    if moe.num_dense_layers:
        width = max(width, spec.intermediate_size)
    return matrices * width


def _expert_output_elements(spec: ModelSpec) -> int:
    """Return the elements per token of the chosen experts' outputs, which are not split."""
    return 0 if spec.moe is None else spec.moe.experts_per_token * spec.hidden_size


def compute_num_kv_blocks(spec: ModelSpec, gpu: GpuSpec, settings: KvSettings) -> KvCapacity:
    """Return how many KV blocks fit beside the weights and the reserve.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    gpu : GpuSpec
        The GPU; its ``memory_gib`` is what the driver reports.
    settings : KvSettings
        The engine's settings.

    Returns
    -------
    KvCapacity
        The blocks and what the memory is used for.

    Raises
    ------
    ConfigError
        The GPU's memory is not known, or the weights do not fit: with the missing GB and the
        smallest tensor-parallel degree that fits.
    """
    if gpu.memory_gib is None:
        raise ConfigError(
            f"MemoryGiB of {gpu.name} must be given (GiB, as the driver reports it) to compute "
            f"the KV blocks; {gpu.source or 'its specification'} has none; add it, or set "
            "num_gpu_blocks_override"
        )
    capacity = _divide(spec, gpu, gpu.memory_gib, settings, settings.tp)
    if capacity.num_blocks < 1:
        raise ConfigError(_does_not_fit(spec, gpu, gpu.memory_gib, settings, capacity))
    return capacity


def _divide(
    spec: ModelSpec, gpu: GpuSpec, memory_gib: float, settings: KvSettings, tp: int
) -> KvCapacity:
    usable = int(settings.gpu_memory_utilization * memory_gib * GIB)
    weights = spec.weight_bytes(tp)
    reserve = memory_reserve_bytes(
        spec,
        settings.engine_version,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_seqs=settings.max_num_seqs,
        tp=tp,
    )
    element_bytes = 1 if settings.kv_cache_dtype == "fp8" else None
    block = spec.kv_bytes_per_token(tp, element_bytes) * settings.block_size
    blocks = (usable - weights - reserve) // block
    return KvCapacity(blocks, weights, reserve, block, usable, _note(spec, gpu))


def _note(spec: ModelSpec, gpu: GpuSpec) -> str:
    notes = []
    if spec.sliding_window is not None:
        kept = spec.num_layers - spec.num_full_attention_layers
        notes.append(
            f"{kept} of {spec.num_layers} layers attend to {spec.sliding_window} tokens only but "
            "are counted as full, so the real capacity may be larger"
        )
    if spec.num_vision_parameters:
        notes.append("the memory vLLM reserves for images is not counted")
    if gpu.memory_gib_is_estimate:
        notes.append(f"the memory of {gpu.name} ({gpu.memory_gib} GiB) is an estimate")
    return "; ".join(notes)


def _does_not_fit(
    spec: ModelSpec, gpu: GpuSpec, memory_gib: float, settings: KvSettings, capacity: KvCapacity
) -> str:
    needed = capacity.weight_bytes + capacity.reserve_bytes + capacity.block_bytes
    share = (
        f"each GPU lacks {(needed - capacity.usable_bytes) / GB:.1f} GB: weights "
        f"{capacity.weight_bytes / GB:.1f} + reserve {capacity.reserve_bytes / GB:.1f} GB of "
        f"{capacity.usable_bytes / GB:.1f} GB usable"
    )
    for tp in valid_tensor_parallel(spec):
        if tp > settings.tp and _divide(spec, gpu, memory_gib, settings, tp).num_blocks >= 1:
            return (
                f"tensor_parallel_size must be >= {tp} (the smallest that fits) to hold "
                f"{spec.name} on {gpu.name}; got {settings.tp}; {share}"
            )
    return (
        f"hardware must hold the weights of {spec.name}; got {gpu.name} at tensor_parallel_size "
        f"{settings.tp}; {share}; no larger tensor_parallel_size fits; take a GPU with more "
        "memory or quantise the weights"
    )
