"""What the time of a kernel rests on, in a few words and in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.catalog.locate import shown_path
from blis_sim.latency.kernel_tables import explain
from blis_sim.latency.kernel_tables.shapes import ExpertsShape, WeightFormat
from blis_sim.latency.roofline_v2.kernel_time import decode_shape, prefill_shape
from blis_sim.transformer.kernels import (
    AllGather,
    AllReduce,
    BatchedGemm,
    DecodeAttention,
    Gemm,
    Kernel,
    MlaDecodeAttention,
    MlaPrefillAttention,
    MoeExperts,
    PrefillAttention,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blis_sim.latency.kernel_tables.explain import Explanation
    from blis_sim.latency.kernel_tables.tables import KernelTables

MEASURED = "measured"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a time comes from.

    Attributes
    ----------
    summary : str
        ``measured`` = this kernel on this GPU, interpolated at most; else what was carried
        over: from another GPU, shape or format, or beyond the table.
    measured_on, file, measured_shape, how : str or None
        GPU, table and shapes that answered (the greatest share first), and where in their grid;
        None = no table did.
    link_us : float or None
        Of communication: what the links allow at best.
    """

    summary: str
    measured_on: str | None = None
    file: str | None = None
    measured_shape: str | None = None
    how: str | None = None
    link_us: float | None = None


def evidence_of(tables: KernelTables, kernel: Kernel) -> Evidence:
    """Return what the time of a kernel in these tables rests on."""
    if isinstance(kernel, BatchedGemm):
        fit = tables.gemm_fit(kernel.k, kernel.n, kernel.dtype, kernel.batch)
        match = fit.match
        measured_on = match.source.gpu.name
        words = [] if measured_on == tables.gpu.name else [f"borrowed from {measured_on}"]
        return Evidence(
            ", ".join((*words, "one product of this width")),
            measured_on,
            shown_path(match.file.path),
            _joined(part.match.shape for part in fit.parts),
        )
    found = _explained(tables, kernel)
    if found is None:
        return Evidence("assumed share of bandwidth")
    explanation, asked_shape = found
    return Evidence(
        _summary(explanation, asked_shape),
        explanation.measured_on,
        explanation.file,
        _joined(used.shape for used in explanation.shapes),
        explanation.how,
        explanation.bound_us if isinstance(kernel, AllReduce | AllGather) else None,
    )


def _summary(explanation: Explanation, asked_shape: tuple[int, ...]) -> str:
    words = []
    if explanation.measured_on != explanation.gpu:
        words.append(f"borrowed from {explanation.measured_on}")
    if len(explanation.shapes) > 1:
        words.append("nearest shapes")
    elif explanation.shapes[0].shape != asked_shape:
        words.append("nearest shape")
    elif _asked_format(explanation) != explanation.table_format and not explanation.is_same_kernel:
        words.append(f"efficiency of {explanation.table_format}")
    if explanation.how in {explain.BEYOND, explain.BELOW}:
        words.append("extrapolated")
    if explanation.context_us:
        words.append("context in tiles")
    return ", ".join(words) or MEASURED


def _explained(tables: KernelTables, kernel: Kernel) -> tuple[Explanation, tuple[int, ...]] | None:
    """Return what answers for a kernel and the shape asked for; None when no table does."""
    match kernel:
        case Gemm():
            found = explain.explain_gemm(tables, kernel.m, kernel.k, kernel.n, _weights(kernel))
            return found, (kernel.k, kernel.n)
        case MoeExperts():
            shape = ExpertsShape(kernel.num_experts, kernel.top_k, kernel.hidden, kernel.width)
            found = explain.explain_moe(tables, kernel.num_tokens, shape, _weights(kernel))
            return found, shape.key
        case DecodeAttention() | MlaDecodeAttention():
            heads, formats = decode_shape(kernel)
            mean = max(1, round(kernel.kv_tokens / kernel.batch))
            found = explain.explain_decode(tables, heads, kernel.batch, mean, formats)
            return found, heads.key
        case PrefillAttention() | MlaPrefillAttention():
            prompt_heads, formats = prefill_shape(kernel)
            window = kernel.window if isinstance(kernel, PrefillAttention) else None
            found = explain.explain_prefill(
                tables,
                prompt_heads,
                kernel.context_tokens,
                kernel.new_tokens,
                formats,
                window=window,
            )
            return found, prompt_heads.key
        case AllReduce():
            return explain.explain_allreduce(tables, kernel.bytes, kernel.tp), (kernel.tp,)
        case AllGather():
            # As many bytes cross the links as in an all-reduce of half the size.
            half = max(1, kernel.bytes // 2)
            return explain.explain_allreduce(tables, half, kernel.tp), (kernel.tp,)
    return None


def _asked_format(explanation: Explanation) -> str:
    dtype = str(explanation.request.get("dtype", explanation.table_format))
    kv_dtype = explanation.request.get("kv_dtype", dtype)
    return dtype if kv_dtype == dtype else f"{dtype}, KV {kv_dtype}"


def _weights(kernel: Gemm | MoeExperts) -> WeightFormat:
    return WeightFormat(kernel.weight_dtype, kernel.scale_bits, kernel.activation_dtype)


def _joined(shapes: Iterable[tuple[int, ...]]) -> str:
    return ", ".join("-".join(map(str, shape)) for shape in shapes)
