from __future__ import annotations

import pytest
from bench_collect.estimate import total_minutes
from bench_collect.grids import FULL, QUICK, plan_all_reduce, plan_tables
from bench_collect.memory import MAX_COPIES, Memory, num_copies, outlasts_cache
from bench_collect.points import DecodePoint, GemmPoint, PrefillPoint
from bench_collect.shapes import Shapes, shapes_from_text, shapes_of_models
from bench_collect.timing import THOROUGH
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.errors import ConfigError
from blis_sim.latency.kernel_tables.shapes import HeadShape
from tests.collect_bench.simulated_gpu import (
    H200,
    HEADS,
    L2,
    MEMORY,
    gemm,
)


class TestPlan:
    def test_shapes_of_a_model_are_those_of_one_rank(self):
        """Llama-3.1-8B at TP 2: QKV (32+2*8)*128/2 wide, O from 4096/2, heads 16-4-128."""
        shapes = shapes_of_models(["meta-llama/Llama-3.1-8B-Instruct"], [2])
        assert shapes.gemm == {
            (4096, 3072), (2048, 4096), (4096, 14336), (7168, 4096), (4096, 64128),
        }  # fmt: skip
        assert shapes.quantised == shapes.gemm - {(4096, 64128)}
        assert shapes.heads == {HeadShape(16, 4, 128)}
        assert shapes.not_measured == {}

    def test_models_with_kernels_that_are_not_measured_are_named(self):
        """Latent attention and routed experts have no measurement; their GEMMs do."""
        shapes = shapes_of_models(["deepseek-ai/DeepSeek-V2-Lite"], [1])
        name = load_model("deepseek-ai/DeepSeek-V2-Lite").name
        assert shapes.not_measured == {name: "latent attention, routed experts"}
        assert shapes.gemm
        assert not shapes.heads

    def test_a_degree_that_splits_no_named_model_is_an_error(self):
        """Nothing would be measured for that model."""
        with pytest.raises(ConfigError, match="--tp must hold a degree that splits"):
            shapes_of_models(["meta-llama/Llama-3.1-8B-Instruct"], [7])

    @pytest.mark.parametrize("text", ["32-8", "8x", "0-1-128", "32-5-128", "a-b-c"])
    def test_a_malformed_shape_is_an_error(self, text):
        """Heads are three numbers that fit together, GEMMs two."""
        with pytest.raises(ConfigError, match=r"--shapes must (hold|have) heads"):
            shapes_from_text([text])

    @pytest.mark.parametrize("grid", [FULL, QUICK])
    def test_points_are_unique_and_within_the_limits(self, grid):
        """A point stands once in its table, batches end at the limit of tokens."""
        plans = plan_tables(
            shapes_of_models(None, (1, 2, 4, 8)),
            ("gemm", "prefill", "decode", "copy"),
            ("bf16", "fp8"),
            grid,
        )
        assert [plan.table.operation for plan in plans][:2] == ["copy", "decode"]
        assert [plan.table.path for plan in plans][-2:] == [
            "gemm_bench/gemm_bf16.csv", "gemm_bench/gemm_fp8.csv",
        ]  # fmt: skip
        assert len({plan.table.path for plan in plans}) == len(plans)
        for plan in plans:
            assert len({point.key for point in plan.points}) == len(plan.points)
            for point in plan.points:
                if isinstance(point, DecodePoint):
                    assert point.batch * point.kv_len <= grid.max_kv_tokens
                elif isinstance(point, PrefillPoint) and point.batch > 1:
                    assert point.batch * point.seq_len <= grid.max_prefill_tokens
                elif isinstance(point, GemmPoint) and point.dtype == "fp8":
                    assert point.k % 16 == point.n % 16 == 0

    def test_attention_takes_the_first_16_bit_type(self):
        """fp8 alone leaves nothing but GEMMs."""
        shapes = Shapes(gemm={(64, 64)}, quantised={(64, 64)}, heads={HEADS})
        operations = ("copy", "decode", "prefill", "gemm")
        only_fp8 = plan_tables(shapes, operations, ["fp8"], QUICK)
        assert [plan.table.path for plan in only_fp8] == ["gemm_bench/gemm_fp8.csv"]
        with_fp16 = plan_tables(shapes, operations, ["fp8", "fp16"], QUICK)
        assert "mha_decode/8-2-128/mha_decode_fp16_tp1.csv" in {
            plan.table.path for plan in with_fp16
        }

    def test_work_follows_the_conventions_of_bench_data(self):
        """GEMM 2mnk; prefill half of the square; decode 4 H h kv batch; KV cache rotates."""
        assert gemm(3, 5, 7).flops == 2 * 3 * 5 * 7
        assert PrefillPoint(HEADS, "bf16", 10, 3).flops == 3 * 2 * 8 * 128 * 10 * 10
        decode = DecodePoint(HEADS, "bf16", 3, 10)
        assert decode.flops == 4 * 8 * 128 * 10 * 3
        assert decode.rotating_bytes == 2 * 2 * 128 * 10 * 3 * 2
        assert gemm(1, 32, 64, "fp8").rotating_bytes == 32 * 64

    def test_all_reduce_is_a_table_of_its_degree(self):
        """Four processes measure allreduce_tp4.csv."""
        plan = plan_all_reduce(4, "bf16")
        assert plan.table.path == "allreduce/allreduce_tp4.csv"
        assert plan.table.header == ("bytes", "latency_us")

    def test_a_slower_gpu_takes_longer(self):
        """The estimate follows peak and bandwidth."""
        points = [gemm(8192), DecodePoint(HEADS, "bf16", 64, 8192)]
        slow = total_minutes(points, load_gpu("L4"), L2, THOROUGH)
        assert 0 < total_minutes(points, H200, L2, THOROUGH) < slow


class TestMemory:
    @given(st.integers(1, 10**11), st.integers(10**6, 2 * 10**8))
    def test_between_two_uses_of_a_copy_twice_the_cache_passes(self, rotating, l2_bytes):
        """The others exceed 2 x L2; or each is used once per sweep; or a single one streams."""
        copies = num_copies(rotating, l2_bytes)
        assert 1 <= copies <= MAX_COPIES
        others = (copies - 1) * rotating
        if copies == 1:
            assert rotating >= 32 * l2_bytes
        elif copies < MAX_COPIES:
            assert others > 2 * l2_bytes
            assert others - rotating <= 2 * l2_bytes
        assert outlasts_cache(rotating, copies, l2_bytes) == (copies == 1 or others > 2 * l2_bytes)

    def test_what_the_kernel_before_wrote_does_not_rotate(self):
        """Prompts' queries, keys and values have one copy."""
        assert num_copies(PrefillPoint(HEADS, "bf16", 64, 1).rotating_bytes, L2) == 1

    def test_points_beyond_nine_tenths_of_the_free_memory_are_left_out(self):
        """A KV cache of 4 GB with its copy fits into 10 GB, not into 9."""
        point = DecodePoint(HeadShape(8, 8, 128), "bf16", 8, 131072)
        need = MEMORY.needed_bytes(point)
        assert need > point.rotating_bytes
        assert Memory(int(need / 0.9) + 10, L2).fits(point)
        assert not Memory(int(need / 0.9) - 10, L2).fits(point)
