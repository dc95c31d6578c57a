from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.latency.kernel_tables.arrays import floats
from blis_sim.latency.kernel_tables.explain import (
    BELOW,
    BEYOND,
    INSIDE,
    ON_POINT,
    Explanation,
    explain_allreduce,
    explain_decode,
    explain_gemm,
    explain_moe,
    explain_prefill,
)
from blis_sim.latency.kernel_tables.shapes import (
    ExpertsShape,
    Formats,
    HeadShape,
    LatentShape,
    WeightFormat,
)
from tests.latency.kernel_tables_written import (
    make_gpu,
    tables_of,
    write_csv,
    write_decode,
    write_gemm,
    write_prefill,
)

HEADS = HeadShape(8, 2, 128)


def from_points(explanation: Explanation) -> float:
    looked_up = sum(point.us * point.weight for point in explanation.points)
    return looked_up + explanation.context_us


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gemm(tmp_path, [(1, 1024, 1024, 10), (64, 1024, 1024, 12), (64, 4096, 1024, 30)])
    write_decode(tmp_path, [(1, 1000, 20), (1, 2000, 30), (5, 1000, 40), (9, 2000, 80)])
    write_prefill(tmp_path, [(1000, 100), (3000, 500)])
    write_csv(
        tmp_path / "moe" / "8-2-1024-512" / "moe_bf16.csv",
        "num_tokens,latency_us",
        [(1, 40), (101, 140)],
    )
    write_csv(
        tmp_path / "allreduce" / "allreduce_tp2.csv",
        "bytes,latency_us",
        [(1000, 5), (101_000, 15)],
    )
    return tmp_path


def test_a_gemm_says_what_it_used(folder: Path) -> None:
    """File, points with their times, weights of the interpolation, bound."""
    explained = explain_gemm(tables_of(folder), 32, 1024, 1024)
    assert explained.file == str(folder / "gemm_bench" / "gemm_bf16.csv")
    assert explained.measured_on == explained.gpu == "Bench-1"
    assert explained.how == INSIDE
    assert explained.is_same_kernel
    assert not explained.is_at_bound
    assert explained.limited_by == "memory"
    assert [(p.size, p.measured_us, p.us) for p in explained.points] == [(1, 10, 10), (64, 12, 12)]
    assert explained.us == pytest.approx(10 + 2 * 31 / 63)
    assert explained.bound_us == pytest.approx(2 * (1024**2 + 2 * 32 * 1024) / 1e6)
    assert explained.efficiency == pytest.approx(explained.bound_us / explained.us)


def test_a_carried_gemm_names_the_measured_shape(tmp_path: Path) -> None:
    """The points show both what was measured and what it means for the shape asked for."""
    write_gemm(tmp_path, [(1, 1024, 1024, 10), (64, 1024, 1024, 12)])
    explained = explain_gemm(tables_of(tmp_path), 64, 1024, 1500)
    assert explained.shapes == (((1024, 1024), 1.0),)
    assert not explained.is_same_kernel
    (point,) = explained.points
    assert point.measured_us == 12
    assert point.us == explained.us > 12


def test_a_gemm_between_shapes_names_all_of_them(folder: Path) -> None:
    """k 2048 is half way from 1024 to 4096: half the points of either."""
    explained = explain_gemm(tables_of(folder), 64, 2048, 1024)
    assert [used.shape for used in explained.shapes] == [(1024, 1024), (4096, 1024)]
    assert [used.weight for used in explained.shapes] == pytest.approx([0.5, 0.5])
    assert not explained.is_same_kernel
    shown = [(point.shape, point.measured_us) for point in explained.points]
    assert shown == [((1024, 1024), 12), ((4096, 1024), 30)]
    assert from_points(explained) == pytest.approx(explained.us)


def test_places_in_the_grid_are_told_apart(folder: Path) -> None:
    """On a point, between, beyond and below."""
    tables = tables_of(folder)
    hows = [explain_gemm(tables, m, 1024, 1024).how for m in (1, 2, 64, 65)]
    assert hows == [ON_POINT, INSIDE, ON_POINT, BEYOND]
    assert explain_decode(tables, HEADS, 1, 999).how == BELOW
    assert explain_decode(tables, HEADS, 10, 2000).how == BEYOND
    assert explain_prefill(tables, HEADS, 0, 1000).how == ON_POINT


def test_cells_filled_in_are_marked(folder: Path) -> None:
    """Batch 5 was not measured at 2000 tokens."""
    explained = explain_decode(tables_of(folder), HEADS, 5, 2000)
    (point,) = explained.points
    assert np.isnan(point.measured_us)
    assert point.us == explained.us


def test_the_bound_is_said_to_decide(tmp_path: Path) -> None:
    """A figure faster than memory allows is replaced, and that is told."""
    write_gemm(tmp_path, [(1, 1000, 1000, 0.5)])
    explained = explain_gemm(tables_of(tmp_path), 1, 1000, 1000)
    assert explained.is_at_bound
    assert explained.us == explained.bound_us


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 200),
    batch=st.integers(1, 12),
    kv_len=st.integers(1, 4000),
    new=st.integers(1, 4000),
    context=st.integers(0, 2000),
    tokens=st.integers(1, 300),
    size=st.integers(1, 300_000),
)
def test_explanation_and_lookup_agree(
    tmp_path_factory: pytest.TempPathFactory, **asked: int
) -> None:
    """The time told is the time looked up; inside the grid the points add up to it."""
    folder = tmp_path_factory.mktemp("tables")
    rows = [(1, 1024, 1024, 10), (64, 1024, 1024, 12), (100, 1024, 1024, 30)]
    write_gemm(folder, [*rows, (3, 1024, 4096, 20), (80, 2048, 2048, 60)])
    write_decode(folder, [(1, 1000, 20), (1, 2000, 30), (5, 1000, 40), (9, 2000, 80)])
    write_prefill(folder, [(1000, 100), (3000, 500)])
    path = folder / "moe" / "8-2-1024-512" / "moe_bf16.csv"
    write_csv(path, "num_tokens,latency_us", [(1, 40), (101, 140)])
    path = folder / "allreduce" / "allreduce_tp2.csv"
    write_csv(path, "bytes,latency_us", [(1000, 5), (101_000, 15)])
    other = make_gpu("Bench-2", hbm_gb_per_s=700.0, num_sms=20, flash_attention_version=2)
    experts = ExpertsShape(8, 2, 1024, 256)
    for tables in (tables_of(folder), tables_of(folder, other, on=make_gpu())):
        m, batch, kv_len = floats(asked["m"]), asked["batch"], floats(asked["kv_len"])
        context, new = floats(asked["context"]), floats(asked["new"])
        tokens, size = floats(asked["tokens"]), floats(asked["size"])
        heads, formats, weights = (
            HeadShape(8, 1, 128),
            Formats("bf16", "fp8"),
            WeightFormat("int4"),
        )
        pairs = [
            (
                explain_gemm(tables, asked["m"], 1024, 3000, weights),
                tables.gemm_us(m, 1024, 3000, weights),
            ),
            (
                explain_decode(tables, heads, batch, asked["kv_len"], formats),
                tables.decode_attention_us(heads, batch, kv_len, formats),
            ),
            (
                explain_prefill(tables, heads, asked["context"], asked["new"], window=2500),
                tables.prefill_attention_us(heads, context, new, window=2500),
            ),
            (explain_moe(tables, asked["tokens"], experts), tables.moe_us(tokens, experts)),
            (explain_allreduce(tables, asked["size"], 4), tables.allreduce_us(size, 4)),
        ]
        for explanation, us in pairs:
            assert explanation.us == float(us)
            assert explanation.bound_us <= explanation.us * (1 + 1e-9) or (
                explanation.limited_by == "link"
            )
            if explanation.how in {INSIDE, ON_POINT} and not explanation.is_at_bound:
                assert from_points(explanation) == pytest.approx(float(us), rel=1e-9)
                assert sum(point.weight for point in explanation.points) == pytest.approx(1)


def test_latent_attention_is_explained(tmp_path: Path) -> None:
    """Its operation is told apart from that of plain heads."""
    path = tmp_path / "mla_decode" / "16-512-64" / "mla_decode_bf16.csv"
    write_csv(path, "batch,kv_len,latency_us", [(1, 1000, 33), (1, 2000, 44)])
    explained = explain_decode(tables_of(tmp_path), LatentShape(16, 512, 64), 1, 1500)
    assert explained.operation == "mla_decode"
    assert explained.us == 38.5
    assert explained.request["kv_lora_rank"] == 512
