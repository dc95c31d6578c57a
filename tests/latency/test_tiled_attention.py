"""Attention divided into tiles, on a GPU of ten SMs with four query heads: by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.kernel_tables.arrays import floats
from blis_sim.latency.kernel_tables.explain import explain_prefill
from blis_sim.latency.kernel_tables.lines import Line
from blis_sim.latency.kernel_tables.shapes import ExpandedShape, Formats, HeadShape
from blis_sim.latency.kernel_tables.tables import KernelTables
from blis_sim.latency.kernel_tables.tiles import Tiles
from blis_sim.latency.roofline_v2.host import HostModel
from blis_sim.latency.roofline_v2.kernel_time import ChunkTimes, QuickLine
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.latency.roofline_v2.tiled_attention import TiledAttention
from blis_sim.report.step_breakdown import DecodeSet, break_down
from blis_sim.transformer.forward_pass import ForwardPass

from .kernel_tables_written import make_gpu, tables_of, write_decode, write_gemm, write_prefill
from .roofline_v2_built import SMALL_SPEC, real_model

HEADS = HeadShape(4, 2, 16)
AREA_US = 0.001
TILES = Tiles(num_heads=4, num_sms=10, area_us=AREA_US, request_us=2.0)
ROWS = 64 * 10 / 4  # of all heads that occupy every SM once
LAUNCH_US = 5.0


def make_tables(folder: Path, **changes: object) -> KernelTables:
    """The largest prompt takes 0.001 us per unit of area; 15 more of 16 tokens take 30 us."""
    rows = [(16, 1, LAUNCH_US), (16, 16, LAUNCH_US + 30), (1000, 1, 1000), (1000, 16, 16_000)]
    write_prefill(folder, rows, heads="4-2-16", header="seq_len,batch,latency_us")
    write_decode(folder, [(1, 8, 2.0), (1, 40, 3.0), (4, 8, 4.0), (4, 40, 7.0)], heads="4-2-16")
    write_gemm(folder, [(1, 64, 64, 1.1), (16, 64, 64, 1.7)])
    gpu = make_gpu(**({"num_sms": 10, "flash_attention_version": 2} | changes))
    return tables_of(folder, gpu)


def test_what_tables_say_about_tiles(tmp_path: Path) -> None:
    """The rate of the largest prompt, and what a further short one adds."""
    assert make_tables(tmp_path).tiles(HEADS) == Tiles(4, 10, pytest.approx(AREA_US), 2.0)


@pytest.mark.parametrize(
    "changes",
    [{"flash_attention_version": 3}, {"flash_attention_version": None}, {"num_sms": None}],
)
def test_other_kernels_have_no_tiles(tmp_path: Path, changes: dict[str, object]) -> None:
    """Hopper, other vendors, and GPUs of which too little is known."""
    assert make_tables(tmp_path, **changes).tiles(HEADS) is None


def test_eight_bit_caches_and_latent_attention_have_no_tiles() -> None:
    """They have kernels of their own."""
    tables = real_model("DeepSeek-V2-Lite", "L40S").timer.tables
    assert tables.tiles(HeadShape(32, 8, 128), Formats("bf16", "fp8")) is None
    assert tables.tiles(ExpandedShape(16, 192, 128)) is None
    assert tables.tiles(HeadShape(32, 8, 128)) is not None


def test_a_short_chunk_takes_a_whole_wave(tmp_path: Path) -> None:
    """1 to 128 new tokens of 4 heads are at most 8 blocks on 10 SMs: one pass over the context."""
    us = make_tables(tmp_path).prefill_attention_us(HEADS, floats(500), floats([1, 64, 128, 129]))
    own_us = make_tables(tmp_path).prefill_attention_us(
        HEADS, floats(0), floats([1, 64, 128, 129])
    )
    wave_us = 2 * ROWS * 500 * AREA_US
    np.testing.assert_allclose(us - own_us, [wave_us, wave_us, wave_us, 2 * wave_us])


def test_equal_chunks_fill_a_wave_together(tmp_path: Path) -> None:
    """Two short chunks are 8 blocks: no longer than one; three are 12."""
    tables = make_tables(tmp_path)

    def added_us(batch: int) -> float:
        chunk, own = (
            float(tables.prefill_attention_us(HEADS, floats(s), floats(20), batch=batch))
            for s in (500, 0)
        )
        return chunk - own

    assert added_us(2) == pytest.approx(added_us(1))
    assert added_us(3) == pytest.approx(2 * added_us(1))


def test_a_whole_prompt_is_looked_up(tmp_path: Path) -> None:
    """Without context nothing is added to what was measured."""
    us = make_tables(tmp_path).prefill_attention_us(HEADS, floats(0), floats([16, 1000]))
    np.testing.assert_allclose(us, [LAUNCH_US, 1000])


def test_a_window_bounds_the_keys(tmp_path: Path) -> None:
    """A wave passes at most the window, however long the context."""
    tables = make_tables(tmp_path)
    far, own = (
        float(tables.prefill_attention_us(HEADS, floats(s), floats(8), window=100))
        for s in (50_000, 0)
    )
    assert far - own == pytest.approx(2 * ROWS * 100 * AREA_US)


def test_the_context_is_explained(tmp_path: Path) -> None:
    """Points are those of the new tokens; the context is apart."""
    explained = explain_prefill(make_tables(tmp_path), HEADS, 500, 16)
    assert explained.context_us == pytest.approx(2 * ROWS * 500 * AREA_US)
    assert [point.size for point in explained.points] == [16]
    assert explained.us == pytest.approx(LAUNCH_US + explained.context_us)


def make_attention(window: int | None = None) -> TiledAttention:
    line = make_line()
    return TiledAttention(ChunkTimes(line, window, 0.0, 0.0, 0.0, TILES), executions=1)


def make_line() -> QuickLine:
    return QuickLine(Line(floats([0, 16**2, 1e6]), floats([LAUNCH_US, LAUNCH_US, 1000]), AREA_US))


def test_requests_share_the_sms() -> None:
    """A chunk and three decodes: their work, half of the longest block, and the launch."""
    us = make_attention().step_ns([PrefillChunk(300, 16)], 3, 3 * 200, 0) / 1000
    tile_us, wave_us = 2 * 64 * AREA_US, 2 * ROWS * AREA_US
    work_us = 300 * tile_us + 3 * 2.0 + 600 * tile_us
    assert us == pytest.approx(LAUNCH_US + work_us + 300 * wave_us / 2)


def test_the_longest_request_bounds_the_launch() -> None:
    """Beside a context of 50,000 tokens one short decode costs nothing."""
    attention = make_attention()
    alone_ns = attention.step_ns([PrefillChunk(50_000, 16)], 0, 0, 0)
    assert attention.step_ns([PrefillChunk(50_000, 16)], 1, 50, 0) == alone_ns
    assert attention.step_ns([PrefillChunk(0, 16)], 1, 50_000, 0) == alone_ns


def test_decodes_take_at_least_what_they_take_alone() -> None:
    """When memory decides, their measured attention is more than their tiles."""
    us = make_attention().step_ns([PrefillChunk(0, 16)], 3, 30, 90_000) / 1000
    assert us >= 90


def test_decodes_see_a_window() -> None:
    """Tokens outside it are neither work nor length."""
    attention = make_attention(window=100)
    inside, beyond = (
        attention.step_ns([PrefillChunk(0, 16)], 4, 4 * length, 0) for length in (100, 9000)
    )
    assert inside == beyond


def test_steps_are_the_sum_of_their_lines(tmp_path: Path) -> None:
    """What idle SMs cost is in the line of the launch, with and without tiles."""
    model = RooflineV2Model(ForwardPass(SMALL_SPEC, 1), make_tables(tmp_path), HostModel())
    cases: list[tuple[list[PrefillChunk], list[DecodeSet]]] = [
        ([PrefillChunk(900, 3)], []),
        ([PrefillChunk(0, 300)], []),
        ([PrefillChunk(900, 3), PrefillChunk(20, 70)], [DecodeSet(5, 33)]),
        ([PrefillChunk(0, 1)], [DecodeSet(2, 900)]),
    ]
    for each in (model, real_model("gemma-3-1b-it", "L4"), real_model("gemma-3-1b-it", "H100")):
        for chunks, decodes in cases:
            step = break_down(each, chunks, decodes)
            assert step.total.time_us == pytest.approx(step.step_time_us, abs=0.51)


def test_mixed_steps_cost_more_with_tiles() -> None:
    """Beside a prompt decodes take longer than by themselves on an A100, not on an H100."""

    def added_us(gpu: str) -> int:
        model = real_model("Llama-3.1-8B-Instruct", gpu)
        chunk = [PrefillChunk(0, 16)]
        return model.step_time(Batch(48, 48 * 2000, chunk)) - model.step_time(Batch(48, 48 * 2000))

    assert added_us("A100-80") > 3000
    assert added_us("H100") < 1500
