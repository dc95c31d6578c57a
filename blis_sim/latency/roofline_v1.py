"""Roofline v1: one calibrated efficiency per phase.

Formulas: each request contributes tensor FLOPs G, vector FLOPs S and bytes Y, each phase
reads the weights W once; a phase lasts the longer of its compute and its memory time. With
L layers, d hidden, H heads, K key-value heads, h = d / H, F intermediate, n new tokens on
a context of s, and the mean context c = s + (n - 1) / 2::

    G = L (2 n (d^2 + 2 d K h) + 2 n d^2 + 4 H n c h + 6 n d F)
    S = L (5 H n c + 2 n d)
    W = L b (d (d + 2 K h) + d^2 + 3 d F)
    Y = 2 L K h b (s + n) + L d b n
    phase = max(G / tp / (peak mfu) + S / tp / (0.1 peak), (W + Y) / tp / (bandwidth eff))
    step = round_half_up(prefill + decode + L per_layer + [tp > 1] 2 L allreduce + fixed)

Everything is summed in integers before the first division, so that a sum over requests
does not depend on their order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from blis_sim.units import US_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blis_sim.catalog.gpus import RooflineV1Constants
    from blis_sim.catalog.model_spec import ModelSpec
    from blis_sim.latency.base import Batch, Int64Array, RequestLike

VECTOR_PEAK_FRACTION = 0.1
"""Vector units reach this share of the tensor peak."""


@dataclass(frozen=True, slots=True)
class V1Shape:
    """What the formulas need of a model; element counts are per layer."""

    num_layers: int
    hidden_size: int
    num_attention_heads: int
    attention_weights: int
    """Elements of the QKV and output projections: d (d + 2 K h) + d^2, or MLA's."""
    kv_elements_per_token: int
    """2 K h, or the latent width of MLA."""
    active_mlp_width: int
    """F, or for a mixture of experts the width one token passes through."""
    dense_mlp_width: int
    """The width whose weights every step reads."""
    num_experts: int
    experts_per_token: int
    expert_width: int
    weight_bytes: float
    """b of the weights: bytes per element."""
    activation_bytes: float
    """b of activations and KV cache: bytes per element."""

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> V1Shape:
        """Reduce a model to the shape of the v1 formulas.

        The formulas know one kind of layer: a mixture of experts with some dense layers is
        taken with its widths averaged over the layers.
        """
        d = spec.hidden_size
        head = d // spec.num_attention_heads
        kv = 2 * spec.num_kv_heads * head
        attention = d * (d + kv) + d * d
        if spec.mla is not None:
            kv = spec.mla.kv_lora_rank + spec.mla.qk_rope_head_dim
            attention = _mla_weights(spec)
        dense_width, experts, per_token, expert_width = spec.intermediate_size, 0, 0, 0
        if spec.moe is not None:
            moe, layers = spec.moe, spec.num_layers
            dense_width = round(
                (
                    spec.intermediate_size * moe.num_dense_layers
                    + moe.shared_intermediate_size * moe.num_moe_layers
                )
                / layers
            )
            experts, per_token = moe.num_experts, moe.experts_per_token
            expert_width = round(moe.moe_intermediate_size * moe.num_moe_layers / layers)
        return cls(
            num_layers=spec.num_layers,
            hidden_size=d,
            num_attention_heads=spec.num_attention_heads,
            attention_weights=attention,
            kv_elements_per_token=kv,
            active_mlp_width=dense_width + per_token * expert_width,
            dense_mlp_width=dense_width,
            num_experts=experts,
            experts_per_token=per_token,
            expert_width=expert_width,
            weight_bytes=spec.bytes_per_weight,
            activation_bytes=spec.dtype_bytes,
        )

    def weights_read_bytes(self, num_tokens: int) -> float:
        """Return W: the weight bytes a phase of ``num_tokens`` tokens reads.

        Of a mixture of experts, the expected number of distinct experts that
        ``num_tokens`` independent uniform choices touch: E (1 - (1 - k/E)^tokens).
        """
        width: float = self.dense_mlp_width
        if self.num_experts:
            miss = 1.0 - self.experts_per_token / self.num_experts
            width += self.expert_width * self.num_experts * (1.0 - miss**num_tokens)
        mlp = 3 * self.hidden_size * width
        return self.num_layers * self.weight_bytes * (self.attention_weights + mlp)


def _mla_weights(spec: ModelSpec) -> int:
    """Return the projection elements of one multi-head latent attention layer."""
    mla, d, heads = spec.mla, spec.hidden_size, spec.num_attention_heads
    assert mla is not None
    qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    rank = mla.q_lora_rank
    query = d * rank + rank * heads * qk if rank else d * heads * qk
    latent = d * (mla.kv_lora_rank + mla.qk_rope_head_dim)
    expand = mla.kv_lora_rank * heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    return query + latent + expand + heads * mla.v_head_dim * d


class RooflineV1Model:
    """Roofline with one calibrated efficiency per phase.

    Parameters
    ----------
    shape : V1Shape
        The model.
    constants : RooflineV1Constants
        The GPU: dense peak in TFLOP/s, bandwidth in TB/s, efficiencies, overheads in us.
    tp : int
        Tensor-parallel degree, >= 1.
    """

    def __init__(self, shape: V1Shape, constants: RooflineV1Constants, tp: int) -> None:
        self.shape = shape
        self.constants = constants
        self.tp = tp
        c, layers = constants, shape.num_layers
        peak = c.peak_tflops * 1e12
        self._compute_split = float(tp) ** c.tp_scaling_exponent
        self._vector_rate = VECTOR_PEAK_FRACTION * peak
        bandwidth = c.bandwidth_tb_per_s * 1e12 * c.bandwidth_efficiency
        self._tensor_rate = (peak * c.mfu_prefill, peak * c.mfu_decode)
        self._byte_rate = (bandwidth * c.prefill_bw_factor, bandwidth * c.decode_bw_factor)
        self._overhead_us = layers * c.per_layer_overhead_us
        if tp > 1:
            self._overhead_us += 2 * layers * c.allreduce_us
        self._overhead_us += c.fixed_overhead_us
        d, heads = shape.hidden_size, shape.num_attention_heads
        # Per token and per unit of 2 n c (an integer): the coefficients of G, S and Y.
        self._tensor_per_token = layers * (
            2 * shape.attention_weights + 6 * d * shape.active_mlp_width
        )
        self._tensor_per_2nc = 2 * layers * heads * (d // heads)
        self._vector_per_token = 2 * layers * d
        self._vector_per_2nc = 2.5 * layers * heads
        self._bytes_per_token = layers * d * shape.activation_bytes
        self._bytes_per_kv = layers * shape.kv_elements_per_token * shape.activation_bytes
        self._dense_weights = None if shape.num_experts else shape.weights_read_bytes(1)

    def _weights(self, num_tokens: int) -> float:
        if self._dense_weights is not None:
            return self._dense_weights
        return self.shape.weights_read_bytes(num_tokens)

    def _phase_s(self, phase: int, num_tokens: int, sum_2nc: int, sum_kv: int) -> float:
        """Return a phase's seconds (0 = prefill, 1 = decode) from its integer sums."""
        compute_s = (
            self._tensor_per_token * num_tokens + self._tensor_per_2nc * sum_2nc
        ) / self._compute_split / self._tensor_rate[phase] + (
            self._vector_per_token * num_tokens + self._vector_per_2nc * sum_2nc
        ) / self._compute_split / self._vector_rate
        num_bytes = self._weights(num_tokens) + (
            self._bytes_per_kv * sum_kv + self._bytes_per_token * num_tokens
        )
        return float(max(compute_s, num_bytes / self.tp / self._byte_rate[phase]))

    def _to_us(self, busy_s: float) -> int:
        return max(1, math.floor(busy_s * US_PER_S + self._overhead_us + 0.5))

    def step_time(self, batch: Batch) -> int:
        """Return the duration of one step in microseconds, >= 1."""
        busy_s = 0.0
        if batch.prefills:
            busy_s = self._phase_s(0, *_prefill_sums(batch.prefills))
        if batch.num_decodes:
            n, context = batch.num_decodes, batch.sum_decode_context
            busy_s += self._phase_s(1, n, 2 * context, context + n)
        return self._to_us(busy_s)

    def uniform_decode_time(self, batch: Batch) -> int | None:
        """Return None: a step grows with the context."""
        return None

    def decode_run(self, batch: Batch, num_steps: int) -> Int64Array:
        """Return the step times of a decode-only batch, int64[num_steps].

        The same operations as ``step_time`` in the same order, on float64 arrays: equal to
        the bit.
        """
        n = batch.num_decodes
        context = batch.sum_decode_context + n * np.arange(num_steps, dtype=np.int64)
        compute_s = (
            self._tensor_per_token * n + self._tensor_per_2nc * (2 * context)
        ) / self._compute_split / self._tensor_rate[1] + (
            self._vector_per_token * n + self._vector_per_2nc * (2 * context)
        ) / self._compute_split / self._vector_rate
        num_bytes = self._weights(n) + (
            self._bytes_per_kv * (context + n) + self._bytes_per_token * n
        )
        busy_s: npt.NDArray[np.float64] = np.maximum(
            compute_s, num_bytes / self.tp / self._byte_rate[1]
        )
        steps = np.floor(busy_s * US_PER_S + self._overhead_us + 0.5).astype(np.int64)
        return np.maximum(steps, 1)

    def queueing_time(self, request: RequestLike) -> int:
        """Return 0: v1 has no frontend."""
        return 0

    def output_token_time(self) -> int:
        """Return 0: v1 has no output processing."""
        return 0

    def scheduling_time(self) -> int:
        """Return 0: the overheads are part of the step."""
        return 0

    def preemption_time(self) -> int:
        """Return 0: v1 knows no cost of preemption."""
        return 0


def _prefill_sums(prefills: Iterable[tuple[int, int]]) -> tuple[int, int, int]:
    """Return (sum of n, sum of 2 n c, sum of s + n), with 2 n c = n (2 s + n - 1)."""
    tokens = sum_2nc = sum_kv = 0
    for context, new in prefills:
        tokens += new
        sum_2nc += new * (2 * context + new - 1)
        sum_kv += context + new
    return tokens, sum_2nc, sum_kv
