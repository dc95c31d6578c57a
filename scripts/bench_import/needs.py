"""The kernel shapes of the bundled models on one rank, at tensor parallelism 1, 2, 4 and 8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from blis_sim.catalog.model_spec import ModelSpec, valid_tensor_parallel
from blis_sim.catalog.models import list_models, load_model

TENSOR_PARALLEL = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Needs:
    """Shapes that occur: GEMM (n, k), heads (H, K, h), MoE (E, top k, d, F) and MLA heads.

    ``moe_mxfp4`` holds the experts of models published with MXFP4 weights, ``moe`` all others.
    """

    gemm: set[tuple[int, ...]] = field(default_factory=set)
    heads: set[tuple[int, ...]] = field(default_factory=set)
    moe: set[tuple[int, ...]] = field(default_factory=set)
    moe_mxfp4: set[tuple[int, ...]] = field(default_factory=set)
    mla_heads: set[int] = field(default_factory=set)


def bundled_needs() -> Needs:
    """Return the shapes of every model of the catalog."""
    needs = Needs()
    for entry in list_models():
        spec = load_model(entry.name)
        for tp in valid_tensor_parallel(spec, at_most=max(TENSOR_PARALLEL)):
            if tp in TENSOR_PARALLEL:
                _add(needs, spec, tp)
    return needs


def _add(needs: Needs, spec: ModelSpec, tp: int) -> None:
    d, heads = spec.hidden_size, spec.num_attention_heads // tp
    needs.gemm.add((-(-spec.vocab_size // tp), d))
    needs.gemm.update(_mlp(d, spec.intermediate_size // tp))
    if spec.mla is not None:
        needs.mla_heads.add(heads)
        needs.gemm.update(_mla(spec, heads))
    else:
        kv_heads, h = spec.kv_heads_on_gpu(tp), spec.head_dim
        needs.heads.add((heads, kv_heads, h))
        needs.gemm.update({((heads + 2 * kv_heads) * h, d), (d, heads * h)})
    if spec.moe is not None:
        moe = spec.moe
        width = moe.moe_intermediate_size // tp
        experts = needs.moe_mxfp4 if spec.quantization == "mxfp4" else needs.moe
        experts.add((moe.num_experts, moe.experts_per_token, d, width))
        needs.gemm.add((moe.num_experts, d))
        if moe.shared_intermediate_size:
            needs.gemm.update(_mlp(d, moe.shared_intermediate_size // tp))


def _mlp(d: int, width: int) -> set[tuple[int, ...]]:
    return {(2 * width, d), (d, width)}


def _mla(spec: ModelSpec, heads: int) -> Iterator[tuple[int, ...]]:
    mla = spec.mla
    assert mla is not None
    d, qk = spec.hidden_size, mla.qk_nope_head_dim + mla.qk_rope_head_dim
    yield (mla.kv_lora_rank + mla.qk_rope_head_dim + (mla.q_lora_rank or 0), d)
    yield (heads * qk, mla.q_lora_rank or d)
    yield (heads * (mla.qk_nope_head_dim + mla.v_head_dim), mla.kv_lora_rank)
    yield (d, heads * mla.v_head_dim)


def enclosing_shapes(
    needed: Iterable[tuple[int, ...]], measured: Iterable[tuple[int, ...]]
) -> set[tuple[int, ...]]:
    """Return the measured (n, k) at the corners of the grid cells around the needed ones.

    A needed shape beyond the grid takes the nearest edge; corners not measured are left out.
    """
    there = set(measured)
    axes = [sorted({shape[i] for shape in there}) for i in (0, 1)]
    corners = set()
    for shape in needed:
        sides = [_sides(axis, value) for axis, value in zip(axes, shape, strict=True)]
        corners |= {(n, k) for n in sides[0] for k in sides[1]}
    return corners & there


def _sides(axis: list[int], value: int) -> tuple[int, int]:
    right = int(np.searchsorted(axis, value))
    right = min(max(right, 0), len(axis) - 1)
    left = right if axis[right] <= value or right == 0 else right - 1
    return axis[left], axis[right]


def nearest_heads(
    wanted: tuple[int, ...], measured: Iterable[tuple[int, ...]]
) -> tuple[int, ...] | None:
    """Return the measured (H, K, h) nearest to ``wanted`` with the same head_dim, or None.

    Distance: the ratio of KV heads (what is read), then that of query heads per KV head.
    """
    same = [shape for shape in measured if shape[2] == wanted[2]]

    def distance(shape: tuple[int, ...]) -> tuple[float, float]:
        group, wanted_group = shape[0] / shape[1], wanted[0] / wanted[1]
        return abs(np.log(shape[1] / wanted[1])), abs(np.log(group / wanted_group))

    return min(sorted(same), key=distance, default=None)
