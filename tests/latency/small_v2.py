"""A tiny roofline-v2 model: real tables over a few written rows, steps of tens of microseconds."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.kernel_tables.tables import KernelTables
from blis_sim.latency.roofline_v2.host import HostModel
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.transformer.forward_pass import ForwardPass
from tests.latency.kernel_tables_written import (
    tables_of,
    write_csv,
    write_decode,
    write_gemm,
    write_prefill,
)

SPEC = ModelSpec(
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


def small_model(tp: int, tables: KernelTables | None = None) -> RooflineV2Model:
    """Return the model on ``tp`` GPUs."""
    return RooflineV2Model(
        ForwardPass(SPEC, tp), tables or small_tables(), HostModel(3.0, 0.7, 0.4)
    )
