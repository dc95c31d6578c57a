"""Models of roofline-v2 for tests: a tiny one over written tables, and those of the catalog."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from blis_sim.catalog.gpus import GpuSpec, load_gpu
from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.catalog.models import load_model
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.kernel_tables.borrow import tables_for
from blis_sim.latency.kernel_tables.precision import peak_flops_per_us
from blis_sim.latency.kernel_tables.tables import KernelTables
from blis_sim.latency.roofline_v2.host import HostModel, shipped_host
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import Kernel
from tests.latency.kernel_tables_written import (
    tables_of,
    write_csv,
    write_decode,
    write_gemm,
    write_prefill,
)

SMALL_SPEC = ModelSpec(
    name="small",
    num_layers=2,
    hidden_size=64,
    num_attention_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=128,
    vocab_size=100,
    max_position_embeddings=1000,
    sliding_window=24,
    num_full_attention_layers=1,
)
"""One layer attends to everything and one to the last 24 tokens."""


@cache
def small_tables() -> KernelTables:
    """Return tables whose attention takes microseconds more with every few tokens."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_gemm(folder, [(1, 64, 64, 1.1), (16, 64, 64, 1.7), (64, 64, 64, 4.3)])
        decode = [(1, 8, 2.3), (1, 40, 9.1), (4, 8, 4.7), (4, 40, 17.9), (8, 8, 8.1), (8, 40, 33)]
        write_decode(folder, decode, heads="4-2-16")
        write_prefill(folder, [(4, 2.9), (16, 6.1), (64, 41.0)], heads="4-2-16")
        rows = [(64, 1.3), (4096, 5.7)]
        write_csv(folder / "allreduce" / "allreduce_tp2.csv", "bytes,latency_us", rows)
        tables = tables_of(folder)
        for tp in (1, 2):  # files are read when first needed, and now they are there
            small_model(tp, tables).step_time(Batch(2, 9, [PrefillChunk(0, 5)]))
    return tables


def small_model(tp: int = 1, tables: KernelTables | None = None) -> RooflineV2Model:
    """Return a model whose steps take tens of microseconds and vary."""
    return RooflineV2Model(
        ForwardPass(SMALL_SPEC, tp),
        tables or small_tables(),
        HostModel(constant_us=3.0, per_request_us=0.7, per_layer_us=0.4),
    )


@cache
def shipped_tables(gpu: str) -> KernelTables:
    return tables_for(load_gpu(gpu)).tables


@cache
def real_model(name: str, gpu: str, tp: int = 1, *, has_host: bool = True) -> RooflineV2Model:
    """Return the model of a deployment with the shipped tables."""
    forward = ForwardPass(load_model(name), tp, has_fp8=load_gpu(gpu).fp8_tflops_dense is not None)
    host = shipped_host() if has_host else HostModel()
    return RooflineV2Model(forward, shipped_tables(gpu), host)


def bound_us(kernel: Kernel, gpu: GpuSpec) -> float:
    """Return max(FLOPs / peak, bytes / bandwidth) of one execution."""
    us = kernel.bytes / (gpu.hbm_gb_per_s * 1e3)
    dtype = getattr(kernel, "compute_dtype", None)
    return us if dtype is None else max(us, kernel.flops / peak_flops_per_us(gpu, dtype))


def kernels_of(model: RooflineV2Model, batch: Batch) -> tuple[Kernel, ...]:
    """Return the kernels of a step."""
    return model.forward.kernels(
        prefills=[tuple(chunk) for chunk in batch.prefills],
        num_decodes=batch.num_decodes,
        sum_decode_context=batch.sum_decode_context,
    )


def step_bound_us(model: RooflineV2Model, batch: Batch) -> float:
    """Return the sum of the bounds of all kernels of a step."""
    gpu = model.timer.gpu
    return sum(kernel.count * bound_us(kernel, gpu) for kernel in kernels_of(model, batch))
