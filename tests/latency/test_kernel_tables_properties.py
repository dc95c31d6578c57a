"""What holds for any table: monotone, and never faster than the hardware."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.catalog.gpus import GpuSpec, load_gpu
from blis_sim.latency.kernel_tables.arrays import FloatArray, floats
from blis_sim.latency.kernel_tables.borrow import shipped_bench_data, tables_for
from blis_sim.latency.kernel_tables.precision import peak_flops_per_us
from blis_sim.latency.kernel_tables.shapes import (
    ExpandedShape,
    ExpertsShape,
    Formats,
    HeadShape,
    LatentShape,
    WeightFormat,
)
from blis_sim.latency.kernel_tables.tables import KernelTables
from blis_sim.transformer.attention import (
    DecodeAttention,
    MlaDecodeAttention,
    MlaPrefillAttention,
    PrefillAttention,
)
from blis_sim.transformer.kernels import BatchedGemm, Gemm, Kernel, MoeExperts
from tests.latency.kernel_tables_written import (
    make_gpu,
    tables_of,
    write_csv,
    write_decode,
    write_gemm,
    write_prefill,
)

TOLERANCE = 1 - 1e-9
SIZES = st.integers(1, 40_000)
WIDTHS = st.sampled_from([64, 1000, 4096, 14_336])
MICROSECONDS = st.floats(0.5, 5000).map(lambda us: round(us, 3))
HEADS = st.sampled_from([(8, 2, 128), (8, 8, 64), (32, 4, 128), (7, 1, 64)])
GPUS = st.sampled_from(
    [
        make_gpu(),
        make_gpu("Bench-2", hbm_gb_per_s=300.0, fp8_tflops_dense=None),
        make_gpu("Bench-3", num_sms=50, flash_attention_version=2),
    ]
)
SOME = settings(max_examples=60, deadline=None)


def bound_us(kernel: Kernel, compute_dtype: str, gpu: GpuSpec) -> float:
    """Return max(FLOPs / peak, bytes / bandwidth) of a kernel of a forward pass."""
    peak = peak_flops_per_us(gpu, compute_dtype)
    return max(kernel.flops / peak, kernel.bytes / (gpu.hbm_gb_per_s * 1e3))


def assert_sound(us: FloatArray, bounds: Sequence[float]) -> None:
    """Check that times do not decrease along the array and respect their bounds."""
    assert np.all(np.isfinite(us))
    assert np.all(us > 0)
    assert np.all(np.diff(us) >= -1e-9 * us[:-1])
    assert np.all(us >= floats(list(bounds)) * TOLERANCE)


def steps(sizes: list[int]) -> list[int]:
    """Return sizes in order, with neighbours."""
    return sorted(
        {each for size in sizes for each in (max(1, size - 1), size, size + 1, 3 * size)}
    )


@SOME
@given(
    points=st.dictionaries(
        st.tuples(SIZES, WIDTHS, WIDTHS), MICROSECONDS, min_size=1, max_size=12
    ),
    asked=st.tuples(WIDTHS, WIDTHS),
    sizes=st.lists(SIZES, min_size=1, max_size=6),
    dtype=st.sampled_from(["bf16", "fp8", "int4", "int8", "fp8_weight_only"]),
    gpu=GPUS,
)
def test_gemms(
    points: dict[tuple[int, int, int], float],
    asked: tuple[int, int],
    sizes: list[int],
    dtype: str,
    gpu: GpuSpec,
) -> None:
    """Any table, any shape, any weights: monotone in rows and above the bound."""
    k, n = asked
    rows = steps([*sizes, *(m for m, _, _ in points)])
    with tempfile.TemporaryDirectory() as folder:
        write_gemm(Path(folder), [(*key, us) for key, us in points.items()])
        tables = tables_of(Path(folder), gpu, on=make_gpu())
        us = tables.gemm_us(floats(rows), k, n, WeightFormat(dtype, 0.25))
    kernels = [Gemm("", m, k, n, dtype, scale_bits=0.25) for m in rows]
    assert_sound(us, [bound_us(kernel, kernel.compute_dtype, gpu) for kernel in kernels])


@SOME
@given(
    points=st.dictionaries(
        st.tuples(st.integers(1, 300), SIZES), MICROSECONDS, min_size=1, max_size=12
    ),
    measured=HEADS,
    asked=HEADS,
    batches=st.lists(st.integers(1, 400), min_size=1, max_size=3),
    sizes=st.lists(SIZES, min_size=1, max_size=4),
    gpu=GPUS,
)
def test_decode_attention(
    points: dict[tuple[int, int], float],
    measured: tuple[int, int, int],
    asked: tuple[int, int, int],
    batches: list[int],
    sizes: list[int],
    gpu: GpuSpec,
) -> None:
    """Any table, with any cells missing: monotone in batch and context, above the bound."""
    contexts = steps([*sizes, *(kv_len for _, kv_len in points)])
    all_batches = steps([*batches, *(batch for batch, _ in points)])
    with tempfile.TemporaryDirectory() as folder:
        rows = [(*key, us) for key, us in points.items()]
        write_decode(Path(folder), rows, heads="-".join(map(str, measured)))
        tables = tables_of(Path(folder), gpu, on=make_gpu())
        shape = HeadShape(*asked)
        us = np.array(
            [tables.decode_attention_us(shape, b, floats(contexts)) for b in all_batches]
        )
    for batch, of_batch in zip(all_batches, us, strict=True):
        kernels = [DecodeAttention("", *asked, batch, batch * (s - 1)) for s in contexts]
        assert_sound(of_batch, [bound_us(kernel, "bf16", gpu) for kernel in kernels])
    assert np.all(np.diff(us, axis=0) >= -1e-9 * us[:-1])


@SOME
@given(
    points=st.dictionaries(
        st.tuples(SIZES, st.integers(1, 16)), MICROSECONDS, min_size=1, max_size=10
    ),
    measured=HEADS,
    asked=HEADS,
    news=st.lists(SIZES, min_size=1, max_size=4),
    context=st.integers(0, 40_000),
    window=st.none() | st.integers(1, 10_000),
    gpu=GPUS,
)
def test_prefill_attention(
    points: dict[tuple[int, int], float],
    measured: tuple[int, int, int],
    asked: tuple[int, int, int],
    news: list[int],
    context: int,
    window: int | None,
    gpu: GpuSpec,
) -> None:
    """Any table: monotone in new tokens and in context, above the bound of the chunk."""
    sizes, shape = steps(news), HeadShape(*asked)
    with tempfile.TemporaryDirectory() as folder:
        rows = [(*key, us) for key, us in points.items()]
        name, header = "-".join(map(str, measured)), "seq_len,batch,latency_us"
        write_prefill(Path(folder), rows, heads=name, header=header)
        tables = tables_of(Path(folder), gpu, on=make_gpu())
        us = tables.prefill_attention_us(shape, floats(context), floats(sizes), window=window)
        contexts = sorted({0, context // 2, context, context + 1})
        over_context = tables.prefill_attention_us(
            shape, floats(contexts), floats(sizes[0]), window=window
        )
    kernels = [PrefillAttention("", *asked, context, new, window) for new in sizes]
    assert_sound(us, [bound_us(kernel, "bf16", gpu) for kernel in kernels])
    assert np.all(np.diff(over_context) >= -1e-9 * over_context[:-1])


@SOME
@given(
    points=st.dictionaries(SIZES, MICROSECONDS, min_size=1, max_size=8),
    asked=st.sampled_from([(8, 2, 1024, 512), (64, 8, 512, 256), (128, 1, 2048, 64)]),
    tokens=st.lists(SIZES, min_size=1, max_size=6),
    dtype=st.sampled_from(["bf16", "fp8", "int4", "mxfp4"]),
    gpu=GPUS,
)
def test_experts(
    points: dict[int, float],
    asked: tuple[int, int, int, int],
    tokens: list[int],
    dtype: str,
    gpu: GpuSpec,
) -> None:
    """Any table, any experts, any weights: monotone in tokens and above the bound."""
    sizes = steps([*tokens, *points])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "moe" / "8-2-1024-512" / "moe_bf16.csv"
        write_csv(path, "num_tokens,latency_us", points.items())
        tables = tables_of(Path(folder), gpu, on=make_gpu())
        us = tables.moe_us(floats(sizes), ExpertsShape(*asked), WeightFormat(dtype, 0.5))
    num_experts, top_k, hidden, width = asked
    kernels = [
        MoeExperts("", n, hidden, width, num_experts, top_k, dtype, scale_bits=0.5) for n in sizes
    ]
    assert_sound(us, [bound_us(kernel, kernel.compute_dtype, gpu) for kernel in kernels])


@SOME
@given(
    points=st.dictionaries(st.integers(1, 10**9), MICROSECONDS, min_size=1, max_size=8),
    sizes=st.lists(st.integers(1, 10**9), min_size=1, max_size=6),
    tp=st.sampled_from([2, 4, 8]),
)
def test_messages(points: dict[int, float], sizes: list[int], tp: int) -> None:
    """Any table: monotone in bytes, for any number of GPUs."""
    asked = steps([*sizes, *points])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "allreduce" / "allreduce_tp4.csv"
        write_csv(path, "bytes,latency_us", points.items())
        us = tables_of(Path(folder)).allreduce_us(floats(asked), tp)
    assert_sound(us, [0.0] * len(asked))


def shipped(gpu_name: str) -> KernelTables:
    if not (shipped_bench_data() / "h100").is_dir():
        pytest.skip("no measured tables are shipped")
    return tables_for(load_gpu(gpu_name)).tables


@pytest.mark.parametrize("gpu_name", ["A100-80", "H100", "L40S", "B200", "T4", "MI300X"])
def test_shipped_tables_are_sound(gpu_name: str) -> None:
    """Dense, grouped-query, latent and expert kernels of well-known models."""
    tables, gpu = shipped(gpu_name), load_gpu(gpu_name)
    rows = floats([1, 3, 16, 17, 100, 256, 1000, 8192, 40_000])
    for k, n in ((4096, 6144), (4096, 28_672), (14_336, 4096), (4096, 128_256), (896, 896)):
        for dtype in ("bf16", "fp8", "int4"):
            kernels = [Gemm("", int(m), k, n, dtype) for m in rows]
            bounds = [bound_us(kernel, kernel.compute_dtype, gpu) for kernel in kernels]
            assert_sound(tables.gemm_us(rows, k, n, dtype), bounds)
    products = [BatchedGemm("", 16, int(m), 512, 128) for m in rows]
    us = tables.batched_gemm_us(rows, 512, 128, 16)
    assert_sound(us, [bound_us(kernel, "bf16", gpu) for kernel in products])
    lengths = floats([1, 100, 1000, 5000, 30_000, 200_000])
    for heads in ((32, 8, 128), (28, 4, 128), (8, 1, 128), (5, 5, 128)):
        for batch in (1, 7, 64, 300):
            decodes = [DecodeAttention("", *heads, batch, int(s - 1) * batch) for s in lengths]
            us = tables.decode_attention_us(HeadShape(*heads), batch, lengths)
            assert_sound(us, [bound_us(kernel, "bf16", gpu) for kernel in decodes])
        prefills = [PrefillAttention("", *heads, 700, int(new)) for new in lengths]
        us = tables.prefill_attention_us(HeadShape(*heads), floats(700), lengths)
        assert_sound(us, [bound_us(kernel, "bf16", gpu) for kernel in prefills])
    latent = [MlaDecodeAttention("", 16, 512, 64, 32, int(s - 1) * 32) for s in lengths]
    us = tables.decode_attention_us(LatentShape(16, 512, 64), 32, lengths)
    assert_sound(us, [bound_us(kernel, "bf16", gpu) for kernel in latent])
    expanded = [MlaPrefillAttention("", 16, 192, 128, 0, int(s)) for s in lengths]
    us = tables.prefill_attention_us(ExpandedShape(16, 192, 128), floats(0), lengths)
    assert_sound(us, [bound_us(kernel, "bf16", gpu) for kernel in expanded])
    experts = [MoeExperts("", int(m), 2048, 768, 128, 8) for m in rows]
    us = tables.moe_us(rows, ExpertsShape(128, 8, 2048, 768))
    assert_sound(us, [bound_us(kernel, "bf16", gpu) for kernel in experts])


def test_an_fp8_cache_is_not_slower_to_bound(tmp_path: Path) -> None:
    """The bound of a kernel with an fp8 cache counts one byte per element."""
    write_decode(tmp_path, [(1, 1000, 0.001), (1, 100_000, 0.001)])
    us = tables_of(tmp_path).decode_attention_us(
        HeadShape(8, 2, 128), 1, floats(100_000), Formats("bf16", "fp8")
    )
    kernel = DecodeAttention("", 8, 2, 128, 1, 99_999, kv_dtype="fp8")
    assert float(us) == pytest.approx(bound_us(kernel, "bf16", make_gpu()))
