from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.arrays import floats
from blis_sim.latency.kernel_tables.fit import shares_around
from blis_sim.latency.kernel_tables.precision import peak_flops_per_us
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


def test_a_gemm_is_linear_between_its_rows(tmp_path: Path) -> None:
    """Half way between 64 and 128 rows it takes the mean of both times."""
    write_gemm(tmp_path, [(64, 1024, 1024, 10), (128, 1024, 1024, 16), (1, 1024, 1024, 9)])
    us = tables_of(tmp_path).gemm_us(floats([1, 64, 96, 128]), 1024, 1024)
    np.testing.assert_allclose(us, [9, 10, 13, 16], rtol=1e-12)


def test_beyond_the_largest_gemm_efficiency_stays(tmp_path: Path) -> None:
    """1000 rows at 40 % of the peak: 4000 rows take four times as long, as compute decides."""
    us_at_1000 = 2 * 1000 * 2000 * 2000 / 1e8 / 0.4
    write_gemm(tmp_path, [(1, 2000, 2000, 10), (1000, 2000, 2000, us_at_1000)])
    us = tables_of(tmp_path).gemm_us(floats([1000, 4000]), 2000, 2000)
    np.testing.assert_allclose(us, [us_at_1000, 4 * us_at_1000], rtol=1e-12)


def test_beyond_the_largest_gemm_the_bound_may_bend(tmp_path: Path) -> None:
    """Up to 8 rows memory decides, where the time hardly grows; far beyond it compute does."""
    k = n = 2000

    def bound(m: int) -> float:
        return max(2 * m * k * n / 1e8, 2 * (k * n + m * (k + n)) / 1e6)

    write_gemm(tmp_path, [(1, k, n, 2 * bound(1)), (8, k, n, 2 * bound(8))])
    us = tables_of(tmp_path).gemm_us(floats([16, 100, 5000]), k, n)
    np.testing.assert_allclose(us, [2 * bound(16), 2 * bound(100), 2 * bound(5000)], rtol=1e-12)
    assert us[0] < 1.1 * 2 * bound(8)


def test_below_the_smallest_gemm_the_time_stays(tmp_path: Path) -> None:
    """Fewer rows than measured still read all weights and start a kernel."""
    write_gemm(tmp_path, [(16, 1024, 1024, 10), (32, 1024, 1024, 12)])
    assert tables_of(tmp_path).gemm_us(floats([1, 15]), 1024, 1024).tolist() == [10, 10]


def gemm_bytes_us(k: int, n: int) -> float:
    """Return the bound of one row: memory decides."""
    return 2 * (k * n + k + n) / 1e6


def test_an_unmeasured_gemm_is_as_efficient_as_those_around_it(tmp_path: Path) -> None:
    """n 4000 is one doubling from 2000 and two from 16000: four shares of five and one."""
    narrow, wide, wanted = (gemm_bytes_us(1000, n) for n in (2000, 16_000, 4000))
    write_gemm(tmp_path, [(1, 1000, 2000, 4 * narrow), (1, 1000, 16_000, 3 * wide)])
    tables = tables_of(tmp_path)
    us = float(tables.gemm_us(floats(1), 1000, 4000))
    assert us == pytest.approx((0.8 * 4 + 0.2 * 3) * wanted)
    assert tables.gemm_fit(1000, 4000).match.shape == (1000, 2000)
    assert tables.gemm_fit(1000, 8001).match.shape == (1000, 16000)


def test_beyond_all_measured_shapes_the_nearest_answers_alone(tmp_path: Path) -> None:
    """Both shapes are narrower: the one with n 2000 hides the one with 1000."""
    narrow, wanted = gemm_bytes_us(1000, 2000), gemm_bytes_us(1000, 4000)
    write_gemm(tmp_path, [(1, 1000, 2000, 4 * narrow), (1, 1000, 1000, 90)])
    tables = tables_of(tmp_path)
    assert float(tables.gemm_us(floats(1), 1000, 4000)) == pytest.approx(4 * wanted)
    assert [part.match.shape for part in tables.gemm_fit(1000, 4000).parts] == [(1000, 2000)]


def test_the_nearest_shape_on_each_side_counts() -> None:
    """More k, less k, more n, less n; on a diagonal a shape is on two sides, but counts once."""
    around = {(2000, 1000), (500, 1000), (1000, 4000), (1000, 250)}
    behind = {(4000, 1000), (100, 1000), (1000, 8000), (8000, 8000)}
    shares = shares_around((1000, 1000), around | behind)
    assert {share.shape for share in shares} == around
    assert [share.shape for share in shares[:2]] == [(500, 1000), (2000, 1000)]
    np.testing.assert_allclose([share.weight for share in shares], [0.4, 0.4, 0.1, 0.1])
    assert shares_around((1000, 1000), {(2000, 2000), (3000, 2000)}) == [((2000, 2000), 1.0)]


def test_a_measured_shape_is_its_own_answer() -> None:
    """However near another one is."""
    assert shares_around((1000, 1000), {(1000, 1001), (1000, 1000)}) == [((1000, 1000), 1.0)]


def test_half_precisions_serve_each_other(tmp_path: Path) -> None:
    """A table in fp16 answers for bf16, and the other way round."""
    write_gemm(tmp_path / "a", [(1, 1024, 1024, 10)], dtype="fp16")
    write_gemm(tmp_path / "b", [(1, 1024, 1024, 12)], dtype="bf16")
    assert float(tables_of(tmp_path / "a").gemm_us(floats(1), 1024, 1024, "bf16")) == 10
    assert float(tables_of(tmp_path / "b").gemm_us(floats(1), 1024, 1024, "fp16")) == 12


def test_int4_without_a_table_has_the_efficiency_of_bf16(tmp_path: Path) -> None:
    """At one row the weights decide: 4.25 bits each instead of 16, at the same efficiency."""
    k = n = 4000
    write_gemm(tmp_path, [(1, k, n, 64.0)])
    weights = WeightFormat("int4", scale_bits=0.25)
    us = float(tables_of(tmp_path).gemm_us(floats(1), k, n, weights))
    bf16_bytes, int4_bytes = 2 * k * n + 2 * (k + n), 4.25 / 8 * k * n + 2 * (k + n)
    assert us == pytest.approx(64.0 * int4_bytes / bf16_bytes)


def test_fp8_weights_are_widened_without_fp8_units(tmp_path: Path) -> None:
    """Half the bytes, but the 16-bit peak and the 16-bit tables."""
    k = n = 4000
    write_gemm(tmp_path, [(1, k, n, 64.0), (100_000, k, n, 64_000.0)])
    write_gemm(tmp_path, [(1, k, n, 40.0), (100_000, k, n, 20_000.0)], dtype="fp8")
    with_fp8 = tables_of(tmp_path).gemm_us(floats([1, 100_000]), k, n, "fp8")
    np.testing.assert_allclose(with_fp8, [40, 20_000], rtol=1e-12)
    old = make_gpu(fp8_tflops_dense=None)
    us = tables_of(tmp_path, old, on=old).gemm_us(
        floats([1, 100_000]), k, n, WeightFormat("fp8_weight_only")
    )
    assert us[0] == pytest.approx(32, rel=0.01)
    assert us[1] == pytest.approx(64_000)
    assert tables_of(tmp_path, old, on=old).gemm_fit(k, n, "fp8").match.file.dtype == "bf16"


@pytest.mark.parametrize(
    ("dtype", "with_fp8", "without"),
    [("bf16", 1e8, 1e8), ("fp16", 1e8, 1e8), ("fp8", 2e8, 1e8), ("int8", 2e8, 2e8)],
)
def test_peaks_of_the_formats(dtype: str, with_fp8: float, without: float) -> None:
    """Without fp8 units fp8 meets the 16-bit peak; int8 has twice that everywhere."""
    assert peak_flops_per_us(make_gpu(), dtype) == with_fp8
    assert peak_flops_per_us(make_gpu(fp8_tflops_dense=None), dtype) == without


def test_a_gemm_is_never_faster_than_the_hardware(tmp_path: Path) -> None:
    """Figures from a warm cache, or beyond the peak, count as the bound."""
    k = n = 1000
    write_gemm(tmp_path, [(1, k, n, 0.5), (10_000, k, n, 150)])
    us = tables_of(tmp_path).gemm_us(floats([1, 10_000]), k, n)
    np.testing.assert_allclose(us, [2 * (k * n + k + n) / 1e6, 2 * 10_000 * k * n / 1e8])


def test_small_gemms_get_the_bandwidth_large_ones_reach(tmp_path: Path) -> None:
    """Weights of 2 MB from the cache in 1 us, of 800 MB from memory at 80 %: 2.5 us for 2 MB."""
    rows = [(1, 1000, 1000, 1.0), (100, 1000, 1000, 2.1), (1, 20_000, 20_000, 1000.1)]
    write_gemm(tmp_path, rows)
    us = tables_of(tmp_path).gemm_us(floats([1, 100]), 1000, 1000)
    np.testing.assert_allclose(us, [2.004 / 0.8, 2.4 / 0.8], rtol=1e-3)


def test_batched_products_are_one_kernel(tmp_path: Path) -> None:
    """16 products of 128 x 512 are as efficient as one with their 8192 columns."""
    write_gemm(tmp_path, [(1, 128, 8192, 10.0), (1, 128, 512, 9.0)])
    tables = tables_of(tmp_path)
    one_bytes, all_bytes = 2 * (128 * 8192 + 128 + 8192), 2 * 16 * (128 * 512 + 128 + 512)
    us = float(tables.batched_gemm_us(floats(1), 128, 512, 16))
    assert us == pytest.approx(10.0 * all_bytes / one_bytes)


def test_decode_is_bilinear(tmp_path: Path) -> None:
    """A quarter of the way in batch and half in context: the corners' weighted mean."""
    write_decode(tmp_path, [(1, 1000, 20), (1, 2000, 30), (5, 1000, 40), (5, 2000, 80)])
    tables = tables_of(tmp_path)
    us = tables.decode_attention_us(HEADS, 2, floats([1000, 1500]))
    np.testing.assert_allclose(us, [25, 0.75 * 25 + 0.25 * 60], rtol=1e-12)


def test_beyond_the_decode_grid_efficiency_stays(tmp_path: Path) -> None:
    """Twice the batch takes twice as long; a longer context grows with its bytes."""
    write_decode(tmp_path, [(1, 1000, 20), (1, 2000, 30), (5, 1000, 40), (5, 2000, 80)])
    tables = tables_of(tmp_path)
    np.testing.assert_allclose(tables.decode_attention_us(HEADS, 10, floats(2000)), 160)

    def request_bytes(kv_len: int) -> int:
        return 2 * (2 * 2 * 128 * kv_len + 2 * 8 * 128)

    us = tables.decode_attention_us(HEADS, 5, floats(20_000))
    np.testing.assert_allclose(us, 80 * request_bytes(20_000) / request_bytes(2000), rtol=1e-12)


def test_below_the_decode_grid_no_kernel_beats_the_smallest(tmp_path: Path) -> None:
    """A short context saves bytes, but never the launch: 20 us is the least of this table."""
    write_decode(tmp_path, [(1, 1000, 20), (1, 2000, 30), (64, 1000, 400), (64, 2000, 800)])
    tables = tables_of(tmp_path)
    assert tables.decode_attention_us(HEADS, 1, floats([1, 500])).tolist() == [20, 20]
    short = tables.decode_attention_us(HEADS, 64, floats([1, 500]))
    assert 20 <= short[0] < 22
    assert short[1] == pytest.approx((short[0] + 400) / 2, rel=0.01)


def test_missing_cells_are_not_zero(tmp_path: Path) -> None:
    """Batch 64 at 8000 tokens did not fit: its row goes on at its own efficiency."""
    rows = [(1, 1000, 20), (1, 8000, 50), (64, 1000, 300), (64, 2000, 600), (1, 2000, 25)]
    write_decode(tmp_path, rows)
    us = tables_of(tmp_path).decode_attention_us(HEADS, 64, floats([2000, 8000]))
    assert us[0] == 600
    assert us[1] == pytest.approx(2400, rel=0.01)


def test_missing_cells_never_move_measured_ones(tmp_path: Path) -> None:
    """What is filled in stays between the measured cells around it."""
    rows = [(1, 1000, 20), (1, 2000, 500), (1, 4000, 510), (2, 1000, 30), (2, 4000, 520)]
    write_decode(tmp_path, [*rows, (4, 1000, 40), (4, 2000, 511)])
    us = tables_of(tmp_path).decode_attention_us
    for batch, kv_len, measured in rows:
        assert float(us(HEADS, batch, floats(kv_len))) == measured
    assert 500 <= float(us(HEADS, 2, floats(2000))) <= 511


def test_a_row_that_goes_on_stays_below_more_work(tmp_path: Path) -> None:
    """At its own efficiency batch 1 would take 80 us at 4000 tokens; batch 2 took 30."""
    write_decode(tmp_path, [(1, 1000, 20), (2, 1000, 25), (2, 4000, 30)])
    us = tables_of(tmp_path).decode_attention_us
    assert float(us(HEADS, 1, floats(4000))) == 30
    assert float(us(HEADS, 2, floats(4000))) == 30


def test_below_the_smallest_batch_efficiency_stays(tmp_path: Path) -> None:
    """A quarter of the batch, a quarter of the time, but not less than the least measured."""
    write_decode(tmp_path, [(4, 1000, 40), (4, 8000, 320), (8, 1000, 60), (8, 8000, 600)])
    us = tables_of(tmp_path).decode_attention_us(HEADS, 1, floats([1000, 8000]))
    assert us.tolist() == [40, 80]


def test_an_outlier_is_not_slower_than_more_work(tmp_path: Path) -> None:
    """The first, cold call took 40 us; with four times the context it was 24."""
    write_decode(tmp_path, [(1, 1000, 40), (1, 4000, 24), (1, 8000, 30)])
    us = tables_of(tmp_path).decode_attention_us(HEADS, 1, floats([1000, 4000, 8000]))
    assert us.tolist() == [24, 24, 30]


def test_other_heads_answer_by_efficiency(tmp_path: Path) -> None:
    """With twice the KV heads twice the bytes: twice the time, queries aside."""
    write_decode(tmp_path, [(1, 10_000, 50), (1, 20_000, 90)], heads="8-2-128")
    us = float(tables_of(tmp_path).decode_attention_us(HeadShape(8, 4, 128), 1, floats(20_000)))
    assert us == pytest.approx(180, rel=1e-3)


def test_an_fp8_cache_halves_the_bytes_it_does_not_measure(tmp_path: Path) -> None:
    """Without a table of its own the efficiency with a 16-bit cache is carried over."""
    write_decode(tmp_path, [(1, 20_000, 90)])
    tables = tables_of(tmp_path)
    us = float(tables.decode_attention_us(HEADS, 1, floats(20_000), Formats("bf16", "fp8")))
    assert us == pytest.approx(45, rel=1e-3)
    write_decode(tmp_path, [(1, 20_000, 60)], suffix="bf16_kvfp8_tp1")
    own = tables_of(tmp_path).decode_attention_us(HEADS, 1, floats(20_000), Formats("bf16", "fp8"))
    assert float(own) == 60


def test_the_decode_line_is_the_lookup(tmp_path: Path) -> None:
    """Knots and final slope give every value to the bit, also between and beyond them."""
    write_decode(tmp_path, [(1, 1000, 20), (1, 2000, 30), (5, 1000, 40), (5, 2000, 80)])
    tables = tables_of(tmp_path)
    for batch in (1, 3, 5, 9):
        line = tables.decode_attention_line(HEADS, batch)
        kv_len = np.array([1, 999, 1000, 1234.5, 2000, 2001, 1e5])
        by_hand = np.interp(kv_len, line.x, line.us)
        by_hand += np.maximum(kv_len - line.x[-1], 0) * line.slope_us
        np.testing.assert_array_equal(tables.decode_attention_us(HEADS, batch, kv_len), by_hand)


def test_prefill_is_linear_in_its_area(tmp_path: Path) -> None:
    """Between 1000 and 3000 tokens, 2000 have 3/8 of the additional (query, key) pairs."""
    write_prefill(tmp_path, [(1000, 100), (3000, 500)])
    us = tables_of(tmp_path).prefill_attention_us(HEADS, floats(0), floats([1000, 2000, 3000]))
    np.testing.assert_allclose(us, [100, 250, 500], rtol=1e-12)


def test_a_chunk_costs_what_its_pairs_cost(tmp_path: Path) -> None:
    """1000 tokens on a context of 1500 meet 4e6 / 2 pairs: as many as a prompt of 2000."""
    write_prefill(tmp_path, [(1000, 100), (3000, 500)])
    tables = tables_of(tmp_path)
    chunk = tables.prefill_attention_us(HEADS, floats(1500), floats(1000))
    assert float(chunk) == pytest.approx(250)
    with_window = tables.prefill_attention_us(HEADS, floats(5000), floats(2000), window=1000)
    assert float(with_window) == pytest.approx(250)


def test_a_short_chunk_reads_its_whole_context(tmp_path: Path) -> None:
    """One token on 100,000: 102.4 MB of keys and values at 1e6 bytes/us."""
    write_prefill(tmp_path, [(100, 5), (3000, 500)])
    us = tables_of(tmp_path).prefill_attention_us(HEADS, floats(99_999), floats(1))
    assert float(us) == pytest.approx((100_000 * 2 * 2 * 128 * 2 + 2 * 8 * 128 * 2) / 1e6)


def test_a_window_is_all_a_chunk_reads(tmp_path: Path) -> None:
    """200 tokens with a window of 1000 read 1200 keys and values, however long the context."""
    write_prefill(tmp_path, [(10, 0.1), (3000, 200)])
    tables = tables_of(tmp_path)
    near, far = tables.prefill_attention_us(
        HEADS, floats([2000, 90_000]), floats(200), window=1000
    )
    assert near == far


def test_only_whole_prompts_are_looked_up(tmp_path: Path) -> None:
    """Rows with a context before do not mix with those without."""
    rows = [(1000, 0, 100), (2000, 0, 300), (1000, 500, 1), (500, 1500, 2000)]
    write_prefill(tmp_path, rows, header="seq_len,kv_len,latency_us")
    us = tables_of(tmp_path).prefill_attention_us(HEADS, floats(0), floats([1000, 2000]))
    assert us.tolist() == [100, 300]


def test_equal_prompts_share_a_kernel(tmp_path: Path) -> None:
    """Four prompts at once take what was measured, not four times one."""
    rows = [(1000, 1, 100), (1000, 4, 250), (2000, 1, 300), (2000, 4, 900)]
    write_prefill(tmp_path, rows, header="seq_len,batch,latency_us")
    us = tables_of(tmp_path).prefill_attention_us
    assert float(us(HEADS, floats(0), floats(1000), batch=4)) == 250
    assert float(us(HEADS, floats(0), floats(1000), batch=2)) == 150
    assert float(us(HEADS, floats(0), floats(1000), batch=8)) == 500


def test_mfu_alone_is_enough(tmp_path: Path) -> None:
    """FLOPs over peak and MFU, with the conventions of the tables."""
    write_gemm(tmp_path, [(100, 1000, 1000, 0.5)], header="m,k,n,mfu")
    write_prefill(tmp_path, [(1000, 0.25)], header="seq_len,mfu")
    path = tmp_path / "mha_decode" / "8-2-128" / "mha_decode_bf16_tp1.csv"
    write_csv(path, "batch,kv_len,mfu", [(2, 10_000, 0.02), (2, 20_000, 0)])
    tables = tables_of(tmp_path)
    assert float(tables.gemm_us(floats(100), 1000, 1000)) == pytest.approx(2e8 / 1e8 / 0.5)
    prefill = tables.prefill_attention_us(HEADS, floats(0), floats(1000))
    assert float(prefill) == pytest.approx(2 * 8 * 128 * 1e6 / 1e8 / 0.25)
    decode = tables.decode_attention_us(HEADS, 2, floats(10_000))
    assert float(decode) == pytest.approx(4 * 8 * 128 * 10_000 * 2 / 1e8 / 0.02)
    assert float(tables.decode_attention_us(HEADS, 2, floats(20_000))) < 2.01 * float(decode)


def test_latency_wins_over_mfu_and_the_user_is_told(tmp_path: Path) -> None:
    """The notice names the peak that would explain the MFU: here twice the true one."""
    rows = [(100, 1000, 1000, 4.0, 0.25), (200, 1000, 1000, 8.0, 0.25)]
    write_gemm(tmp_path, rows, header="m,k,n,latency_us,mfu")
    tables = tables_of(tmp_path)
    assert tables.notices == ()
    assert tables.gemm_us(floats([100, 200]), 1000, 1000).tolist() == [4, 8]
    (notice,) = tables.notices
    assert "in 2 of 2 rows; a peak of 200 TFLOP/s would explain it" in notice
    assert "the bf16 peak of Bench-1 is 100; latency_us is used" in notice


def test_rounded_mfu_agrees(tmp_path: Path) -> None:
    """0.010 for 0.0104 is three decimals, not a disagreement."""
    us = 2 * 1000 * 1000 / 1e8 / 0.0104
    rows = [(1, 1000, 1000, us, "0.010"), (1, 10, 10, 5, "0.000")]
    write_gemm(tmp_path, rows, header="m,k,n,latency_us,mfu")
    tables = tables_of(tmp_path)
    tables.gemm_us(floats(1), 1000, 1000)
    assert tables.notices == ()


def test_experts_are_linear_in_tokens(tmp_path: Path) -> None:
    """Inside the measured tokens; beyond them at the efficiency of the last."""
    path = tmp_path / "moe" / "8-2-1024-512" / "moe_bf16.csv"
    write_csv(path, "num_tokens,latency_us", [(1, 40), (101, 140), (100_000, 20_000)])
    tables, shape = tables_of(tmp_path), ExpertsShape(8, 2, 1024, 512)
    us = tables.moe_us(floats([1, 51, 101, 200_000]), shape)
    np.testing.assert_allclose(us, [40, 90, 140, 40_000], rtol=1e-3)


def test_experts_of_another_width_answer_by_efficiency(tmp_path: Path) -> None:
    """Half the width on each of two GPUs: half the weights, so about half the time."""
    path = tmp_path / "moe" / "8-2-1024-4096" / "moe_bf16.csv"
    write_csv(path, "num_tokens,latency_us", [(1, 100), (64, 300)])
    tables = tables_of(tmp_path)
    us = tables.moe_us(floats([1, 64]), ExpertsShape(8, 2, 1024, 2048))
    np.testing.assert_allclose(us, [50, 150], rtol=0.01)


def test_latent_attention_has_its_own_tables(tmp_path: Path) -> None:
    """Three equal numbers mean heads in one folder and latent widths in the other."""
    path = tmp_path / "mla_decode" / "16-512-64" / "mla_decode_bf16.csv"
    write_csv(path, "batch,kv_len,latency_us", [(1, 1000, 33), (1, 2000, 44)])
    write_decode(tmp_path, [(1, 1000, 250), (1, 2000, 500)], heads="16-512-64")
    tables = tables_of(tmp_path)
    assert float(tables.decode_attention_us(LatentShape(16, 512, 64), 1, floats(1500))) == 38.5
    assert float(tables.decode_attention_us(HeadShape(16, 512, 64), 1, floats(1000))) == 250


def test_messages_are_linear_in_bytes(tmp_path: Path) -> None:
    """Latency below the smallest, measured in between, proportional beyond the largest."""
    path = tmp_path / "allreduce" / "allreduce_tp2.csv"
    write_csv(path, "bytes,latency_us", [(1000, 5), (101_000, 15), (10_000_000, 100)])
    us = tables_of(tmp_path).allreduce_us(floats([1, 1000, 51_000, 20_000_000]), 2)
    np.testing.assert_allclose(us, [5, 5, 10, 200], rtol=1e-12)
    assert tables_of(tmp_path).allreduce_us(floats([5, 6]), 1).tolist() == [0, 0]
    gathered = tables_of(tmp_path).allgather_us(floats(102_000), 2)
    assert float(gathered) == 10


def test_messages_scale_with_links_and_gpus_but_not_their_latency(tmp_path: Path) -> None:
    """Links of half the rate and 2 x 3/4 instead of 2 x 1/2 per byte: three times, above 5 us."""
    path = tmp_path / "allreduce" / "allreduce_tp2.csv"
    write_csv(path, "bytes,latency_us", [(1000, 5), (101_000, 15)])
    slow = make_gpu("Bench-2", nvlink_gb_per_s=300.0)
    us = tables_of(tmp_path, slow, on=make_gpu()).allreduce_us(floats([1000, 101_000]), 4)
    np.testing.assert_allclose(us, [5, 5 + 3 * 10], rtol=1e-12)


def test_elementwise_kernels_reach_a_share_of_the_bandwidth(tmp_path: Path) -> None:
    """8 MB at 80 % of 1e6 bytes/us; a few bytes take what a launch does, 3 us."""
    write_gemm(tmp_path, [(1, 10, 10, 5)])
    us = tables_of(tmp_path).elementwise_us(floats([100, 2.4e6, 8e6]))
    np.testing.assert_allclose(us, [3, 3, 10])


def test_another_gpu_has_the_efficiency_not_the_time(tmp_path: Path) -> None:
    """Half the bandwidth doubles a memory-bound kernel, a fifth of the peak the other."""
    k = n = 4000
    write_gemm(tmp_path, [(1, k, n, 64.0), (100_000, k, n, 64_000.0)])
    gpu = make_gpu("Bench-2", hbm_gb_per_s=500.0, bf16_tflops_dense=20.0)
    us = tables_of(tmp_path, gpu, on=make_gpu()).gemm_us(floats([1, 100_000]), k, n)
    np.testing.assert_allclose(us, [128, 320_000], rtol=1e-12)


def test_a_missing_operation_is_named(tmp_path: Path) -> None:
    """Without any table of experts there is nothing to carry over."""
    write_gemm(tmp_path, [(1, 10, 10, 5)])
    with pytest.raises(CatalogError, match=r"a table of moe in bf16 or fp16; got none in .*"):
        tables_of(tmp_path).moe_us(floats(1), ExpertsShape(8, 2, 64, 64))


def test_times_are_kept_apart_by_format(tmp_path: Path) -> None:
    """Asking in one format does not change the answer in another."""
    write_gemm(tmp_path, [(1, 1024, 1024, 10)])
    write_gemm(tmp_path, [(1, 1024, 1024, 7)], dtype="fp8")
    tables = tables_of(tmp_path)
    for _ in range(2):
        assert float(tables.gemm_us(floats(1), 1024, 1024)) == 10
        assert float(tables.gemm_us(floats(1), 1024, 1024, "fp8")) == 7
