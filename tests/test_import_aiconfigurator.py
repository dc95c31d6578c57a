from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.catalog.gpus import GpuSpec, list_gpus, load_gpu
from blis_sim.errors import ConfigError

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

from bench_import.attention import EqualWork, equal_work_error
from bench_import.clean import clean_grid, isotonic, monotone_surface, without_spikes
from bench_import.cold import from_memory
from bench_import.context import Context
from bench_import.grid import Grid, as_text, grid_from_frame, round_to_digits
from bench_import.kernels import bound_and_flops, decode_work, gemm_work, prefill_work
from bench_import.moe import expected_distinct_experts, uniform_routing
from bench_import.needs import Needs, bundled_needs, enclosing_shapes, nearest_heads
from bench_import.tables import import_all_reduce
from bench_import.thin import Limits, apply_thinning, interpolated, thin_grid
from bench_import.wheel import DATA, Wheel, version_key

BENCH_DATA = Path(__file__).resolve().parent.parent / "bench_data"
positive = st.floats(min_value=0.5, max_value=500.0, allow_nan=False)


def make_grid(latency_us, rows=None, columns=None, shapes=None) -> Grid:
    values = np.array(latency_us, float)
    values = values.reshape((1, 1, -1)) if values.ndim == 1 else values
    values = values[None] if values.ndim == 2 else values
    rows = np.arange(1, values.shape[1] + 1) if rows is None else rows
    columns = np.arange(1, values.shape[2] + 1) if columns is None else columns
    shapes = [(i,) for i in range(values.shape[0])] if shapes is None else shapes
    return Grid(shapes, np.array(rows, float), np.array(columns, float), values)


def make_wheel(folder: Path, tables: dict[str, pd.DataFrame]) -> Wheel:
    path = folder / "aiconfigurator_core-0.12.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, frame in tables.items():
            buffer = io.BytesIO()
            frame.to_parquet(buffer)
            archive.writestr(str(DATA / name), buffer.getvalue())
    return Wheel(path)


class TestGrid:
    def test_milliseconds_become_microseconds_and_the_fastest_kernel_counts(self):
        """Two kernels measured at one point: the smaller latency stays, in us."""
        frame = pd.DataFrame(
            {
                "n": [8, 8, 8],
                "k": [4, 4, 4],
                "m": [1, 1, 2],
                "kernel_source": ["slow", "fast", "slow"],
                "latency": [0.02, 0.015, 0.03],
            }
        )
        grid = grid_from_frame(frame, ("n", "k"), "m")
        assert grid.shapes == [(8, 4)]
        assert grid.latency_us.tolist() == [[[15.0, 30.0]]]

    def test_rows_without_a_sound_latency_are_left_out(self):
        """Zero, negative and missing latencies are no measurements."""
        frame = pd.DataFrame(
            {
                "H": [1] * 4,
                "b": [1, 1, 2, 2],
                "s": [1, 2, 1, 2],
                "latency": [0.001, 0.0, np.nan, -1],
            }
        )
        grid = grid_from_frame(frame, ("H",), "s", "b")
        assert np.count_nonzero(~np.isnan(grid.latency_us)) == 1

    @pytest.mark.parametrize(
        ("value", "text"),
        [(12.34567, "12.35"), (1234567.0, "1235000"), (0.000012346, "0.00001235"), (4.0, "4")],
    )
    def test_numbers_are_written_with_four_digits_and_no_exponent(self, value, text):
        """A spreadsheet and a person can read every number."""
        assert as_text(value) == text
        assert float(as_text(value)) == pytest.approx(round_to_digits(np.array([value]))[0])


class TestClean:
    def test_neighbours_that_fall_become_their_mean(self):
        """Pool adjacent violators, worked by hand."""
        assert isotonic(np.array([1.0, 4.0, 2.0, 3.0, 9.0])).tolist() == [1, 3, 3, 3, 9]

    @given(st.lists(positive, min_size=2, max_size=12))
    def test_isotonic_is_monotone_and_keeps_the_mean(self, values):
        """The least-squares fit does not fall and has the mean of the data."""
        fitted = isotonic(np.array(values))
        assert np.all(np.diff(fitted) >= -1e-9)
        assert fitted.mean() == pytest.approx(np.mean(values))

    @given(st.lists(st.lists(positive, min_size=4, max_size=4), min_size=3, max_size=5))
    def test_a_surface_becomes_monotone_along_both_axes(self, values):
        """No latency falls with the row or with the column; a hole stays a hole."""
        surface = np.array(values)
        surface[-1, -1] = np.nan
        fitted = monotone_surface(surface)
        assert np.isnan(fitted[-1, -1])
        steps = np.concatenate([np.diff(fitted, axis=0).ravel(), np.diff(fitted, axis=1).ravel()])
        assert np.nanmin(steps) >= -1e-9

    def test_a_monotone_surface_is_not_touched(self):
        """Cleaning changes nothing where there is nothing to clean."""
        grid = make_grid(np.add.outer(np.arange(1.0, 5), np.arange(1.0, 7)))
        cleaned, stats = clean_grid(grid)
        np.testing.assert_allclose(cleaned.latency_us, grid.latency_us)
        assert (stats.num_spikes, stats.changed_frac) == (0, 0.0)

    def test_a_single_spike_becomes_its_nearer_neighbour(self):
        """A point far above both neighbours says something about the day, not the kernel."""
        smooth, count = without_spikes(np.array([[5.0, 14.8, 6.0, 7.0]]))
        assert smooth.tolist() == [[5.0, 6.0, 6.0, 7.0]]
        assert count == 1


class TestThin:
    def test_the_error_of_what_is_left_out_stays_within_the_limits(self):
        """Every point predicted from the kept lines is as near as the limits say."""
        columns = np.unique(np.geomspace(1, 8192, 60).astype(int))
        rng = np.random.default_rng(7)
        latency = 5 + np.maximum(columns[None, :], 300) * rng.uniform(0.01, 0.1, (20, 1))
        grid = make_grid(latency[:, None, :], columns=columns)
        limits = Limits(median=0.01, p95=0.03, line_p95=0.05)
        keep_rows, keep_columns, stats = thin_grid(grid, limits, always_columns=(8,))
        assert keep_columns.sum() < len(columns) / 2
        assert keep_columns[[0, -1]].all()
        assert keep_columns[np.flatnonzero(columns == 8)].all()
        error = np.abs(interpolated(grid, keep_rows, keep_columns) / grid.latency_us - 1)
        left_out = error[:, :, ~keep_columns]
        assert np.median(left_out) == pytest.approx(stats.median)
        assert np.quantile(left_out, 0.95) <= limits.p95
        kept = apply_thinning(grid, keep_rows, keep_columns)
        assert kept.latency_us.shape == (20, 1, keep_columns.sum())

    def test_lines_are_kept_where_the_table_is_rough(self):
        """A table of steps gives up nothing."""
        grid = make_grid([1.0, 10.0, 11.0, 100.0, 101.0])
        _, keep_columns, _ = thin_grid(grid, Limits())
        assert keep_columns.all()

    def test_no_point_may_fall_into_a_hole(self):
        """A line stays when one of its points has no measured neighbour behind it."""
        surface = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, np.nan], [3.0, 4.0, np.nan]])
        keep_rows, keep_columns, _ = thin_grid(make_grid(surface), Limits(1, 1, 1))
        assert keep_columns.all()
        assert not keep_rows[1]


class TestKernels:
    def test_gemm_work_by_hand(self):
        """2mnk FLOPs; weights, inputs and outputs once."""
        grid = make_grid([1.0, 1.0], columns=[1, 10], shapes=[(4, 3)])
        bound, flops = bound_and_flops(grid, gemm_work("bf16"), 1e30, 1e6)
        assert flops[0, 0].tolist() == [24, 240]
        assert bound[0, 0].tolist() == pytest.approx([24 + 6 + 8, 24 + 60 + 80])

    def test_attention_work_by_hand(self):
        """Prefill counts the causal half; decode reads keys and values of every token."""
        rows, columns = np.array([[2.0]]), np.array([[8.0]])
        assert prefill_work(2)((4, 2, 16), rows, columns)[0] == 2 * 4 * 16 * 64 * 2
        flops, moved = decode_work(1)((4, 2, 16), rows, columns)
        assert flops == 4 * 4 * 16 * 8 * 2
        assert moved == 2 * 8 * 2 * 2 * 16 + 2 * 2 * 4 * 16 * 2

    def test_points_served_from_the_cache_are_raised_to_memory_speed(self):
        """Small problems get launch plus bytes at the large ones' bandwidth; large ones stay."""
        columns = np.array([1.0, 1e3, 1e6])
        launch_us, bytes_per_us = 10.0, 1e3

        def work_of(shape, rows, columns):
            return None, rows * columns * 1e3

        grid = make_grid([launch_us, 11.0, launch_us + 1e6], columns=columns)
        raised, stats = from_memory(grid, work_of, l2_bytes=1e7)
        at_memory = launch_us + (1e6 - 1e3) / bytes_per_us
        assert raised.latency_us[0, 0].tolist() == pytest.approx(
            [launch_us, at_memory, launch_us + 1e6], rel=1e-4
        )
        assert stats.raised_frac == pytest.approx(1 / 3)

    def test_equal_work_follows_request_and_kv_head(self):
        """A kernel whose time depends on batch x KV heads gives back the other shape exactly."""
        batch = np.array([1.0, 2, 4, 8, 16, 32])
        kv_len = np.array([16.0, 64, 256])
        surface = [5 + k * np.outer(batch, kv_len) for k in (2, 8)]
        shapes = [(8, 2, 128), (32, 8, 128)]
        full = make_grid(np.array(surface), batch, kv_len, shapes)
        assert equal_work_error(full) == "median 0.0%, p95 0.0%"
        rule = EqualWork.of({(16, 4, 128), (32, 8, 128), (28, 4, 128), (4, 1, 128)}, shapes)
        assert rule.shapes == {(16, 4, 128): (8, 2, 128)}
        added = rule.added_to(full, full)
        computed = added.latency_us[added.shapes.index((16, 4, 128))]
        np.testing.assert_allclose(computed[:5], 5 + 4 * np.outer(batch, kv_len)[:5])
        assert np.isnan(computed[5]).all()


class TestRouting:
    def test_random_tokens_touch_fewer_experts_than_spread_ones(self):
        """One token touches top k; very many touch all."""
        touched = expected_distinct_experts(128, 8, np.array([1.0, 16, 1e4]))
        assert touched.tolist() == pytest.approx([8, 128 * (1 - (15 / 16) ** 16), 128])

    def test_uniform_routing_lies_below_spread_tokens_and_meets_them(self):
        """Equal for one token and for many, lower between, monotone."""
        tokens = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256])
        spread = 10 + 25 * np.minimum(tokens * 8, 128) + 0.1 * tokens
        grid = make_grid(spread, columns=tokens, shapes=[(128, 8, 2048, 768)])
        routed = uniform_routing(grid).latency_us[0, 0]
        assert routed[0] == pytest.approx(spread[0])
        assert routed[-1] == pytest.approx(spread[-1], rel=1e-3)
        assert routed[4] < 0.7 * spread[4]
        assert np.all(routed <= spread + 1e-9)
        assert np.all(np.diff(routed) >= 0)


class TestNeeds:
    def test_a_needed_gemm_keeps_the_corners_around_it(self):
        """Shapes on the grid keep themselves, others up to four neighbours."""
        measured = [(n, k) for n in (128, 256, 512) for k in (64, 128)]
        assert enclosing_shapes([(256, 128)], measured) == {(256, 128)}
        assert enclosing_shapes([(300, 100)], measured) == {
            (256, 64), (256, 128), (512, 64), (512, 128),
        }  # fmt: skip
        assert enclosing_shapes([(9999, 64)], measured) == {(512, 64)}

    def test_the_nearest_heads_share_head_dim_and_kv_heads_first(self):
        """What is read decides: KV heads before query heads, head_dim always."""
        measured = [(8, 4, 64), (16, 4, 128), (32, 4, 128), (28, 2, 128)]
        assert nearest_heads((28, 4, 128), measured) == (32, 4, 128)
        assert nearest_heads((28, 4, 256), measured) is None

    def test_the_shapes_of_known_models_are_there(self):
        """Llama-3.1-8B at TP 1 and 8, Mixtral at TP 2, DeepSeek-V3's heads at TP 8."""
        needs = bundled_needs()
        assert {(6144, 4096), (4096, 14336), (28672, 4096), (3584, 4096)} <= needs.gemm
        assert {(32, 8, 128), (4, 1, 128)} <= needs.heads
        assert (8, 2, 4096, 7168) in needs.moe
        assert 16 in needs.mla_heads


class TestWheel:
    def test_versions_sort_by_number(self):
        """rc20 is newer than rc9, 0.24 than 0.9."""
        assert version_key("1.3.0rc20") > version_key("1.3.0rc9")
        assert version_key("0.24.0") > version_key("0.9.2")

    def test_something_else_than_a_wheel_is_a_clear_error(self, tmp_path):
        """A file that is no zip names itself."""
        path = tmp_path / "no.whl"
        path.write_text("no wheel")
        with pytest.raises(ConfigError, match=r"--wheel must be a wheel.*no\.whl"):
            Wheel(path)

    def test_all_reduce_takes_the_newest_graph_rows_in_bytes(self, tmp_path):
        """Sizes are elements of two bytes; the graph's rows count, not the eager ones."""
        pytest.importorskip("pyarrow")
        rows = {
            "kernel_source": ["graph", "eager", "graph"],
            "num_gpus": [2, 2, 2],
            "message_size": [128, 128, 1024],
            "backend": ["vllm_graph", "vllm_eager", "vllm_graph"],
        }
        file = "custom_allreduce_perf.parquet"
        old = pd.DataFrame({**rows, "latency": [0.9, 0.001, 0.9]})
        new = pd.DataFrame({**rows, "latency": [0.004, 0.001, 0.0061234]})
        wheel = make_wheel(
            tmp_path, {f"sys/comm/vllm/0.9.0/{file}": old, f"sys/comm/vllm/0.24.0/{file}": new}
        )
        context = Context(
            wheel, "sys", load_gpu("H100"), tmp_path, Needs(), limits=Limits(), l2_bytes=5e7
        )
        report = import_all_reduce(context, 2)
        assert report is not None
        assert "0.24.0" in report.source
        written = (tmp_path / "allreduce" / "allreduce_tp2.csv").read_text()
        assert written == "bytes,latency_us\n256,4\n2048,6.123\n"
        assert import_all_reduce(context, 4) is None


SHIPPED = sorted(path.parent for path in BENCH_DATA.glob("*/gemm_bench"))
HEADERS = {
    "gemm_bench": ["m", "k", "n", "latency_us", "mfu"],
    "mha_prefill": ["seq_len", "batch", "latency_us", "mfu"],
    "mla_prefill": ["seq_len", "batch", "latency_us", "mfu"],
    "mha_decode": ["batch", "kv_len", "latency_us", "mfu"],
    "mla_decode": ["batch", "kv_len", "latency_us", "mfu"],
    "moe": ["num_tokens", "latency_us"],
    "allreduce": ["bytes", "latency_us"],
}
SORTED_BY = {**{kind: names[:2] for kind, names in HEADERS.items()}, "gemm_bench": ["n", "k", "m"]}
SORTED_BY |= {"moe": ["num_tokens"], "allreduce": ["bytes"]}


class Folder(NamedTuple):
    path: Path
    gpu: GpuSpec
    tables: dict[Path, tuple[str, pd.DataFrame]]


@pytest.fixture(scope="module", params=SHIPPED, ids=lambda path: path.name)
def folder(request) -> Folder:
    """Read one GPU's folder: the kind and the rows of every table."""
    path = request.param
    files = sorted(path.rglob("*.csv"))
    tables = {file: (file.relative_to(path).parts[0], pd.read_csv(file)) for file in files}
    return Folder(path, load_gpu(path.name), tables)


def flops_of(kind: str, path: Path, table: pd.DataFrame) -> pd.Series:
    if kind == "gemm_bench":
        return 2.0 * table["m"] * table["n"] * table["k"]
    heads, _, width = (int(part) for part in path.parent.name.split("-"))
    if kind == "mha_prefill":
        return 2.0 * heads * width * table["seq_len"] ** 2 * table["batch"]
    if kind == "mha_decode":
        return 4.0 * heads * width * table["kv_len"] * table["batch"]
    if kind == "mla_prefill":
        return 320.0 * heads * table["seq_len"] ** 2 * table["batch"]
    return 2.0 * (576 + 512) * heads * table["kv_len"] * table["batch"]


def peak_of(gpu: GpuSpec, path: Path) -> float:
    is_fp8 = path.stem.startswith("gemm_fp8")
    peak = gpu.fp8_tflops_dense if is_fp8 else gpu.bf16_tflops_dense
    assert peak is not None
    return peak * 1e12


class TestShippedTables:
    def test_files_are_sorted_positive_and_have_their_headers(self, folder):
        """Every CSV has the documented columns, ascending keys without repeats, values > 0."""
        assert folder.tables
        for path, (kind, table) in folder.tables.items():
            assert list(table.columns) == HEADERS[kind], path
            assert (table.to_numpy() > 0).all(), path
            keys = list(zip(*(table[key].tolist() for key in SORTED_BY[kind]), strict=True))
            assert keys == sorted(set(keys)), path

    def test_no_table_is_a_single_point(self, folder):
        """All else would be that point's efficiency: one token says nothing of a thousand."""
        for path, (_, table) in folder.tables.items():
            assert len(table) > 1, path

    def test_latency_does_not_fall_as_work_grows(self, folder):
        """Along each axis of every table, the other key held."""
        for path, (kind, table) in folder.tables.items():
            keys = SORTED_BY[kind]
            for axis in ["m"] if kind == "gemm_bench" else keys:
                held = [key for key in keys if key != axis]
                ordered = table.sort_values([*held, axis])
                same = (np.diff(ordered[held].to_numpy(), axis=0) == 0).all(axis=1)
                assert not (same & (np.diff(ordered["latency_us"]) < 0)).any(), (path, axis)

    def test_mfu_agrees_with_latency(self, folder):
        """FLOPs over latency and dense peak, within 2 %."""
        for path, (kind, table) in folder.tables.items():
            if "mfu" in table:
                second_flops = table["latency_us"] * 1e-6 * peak_of(folder.gpu, path)
                expected = flops_of(kind, path, table) / second_flops
                np.testing.assert_allclose(table["mfu"], expected, rtol=0.02, err_msg=str(path))

    def test_decode_attention_is_not_faster_than_memory(self, folder):
        """Keys and values of all tokens at the peak bandwidth take at most the latency."""
        bytes_per_us = folder.gpu.hbm_gb_per_s * 1e3
        for path, (kind, table) in folder.tables.items():
            if kind == "mha_decode":
                _, kv_heads, width = (int(part) for part in path.parent.name.split("-"))
                element = 1 if "_kvfp8" in path.name else 2
                moved = 2.0 * kv_heads * width * element * table["batch"] * table["kv_len"]
                assert (table["latency_us"] >= moved / bytes_per_us * 0.999).all(), path

    def test_the_source_is_stated(self, folder):
        """The note names the wheel and every kind of table; the folder is a catalog name."""
        note = (folder.path / "SOURCE.md").read_text(encoding="utf-8")
        assert "aiconfigurator-core` 0.12.0" in note
        for kind in {kind for kind, _ in folder.tables.values()}:
            assert f"`{kind}/" in note
        assert folder.path.name in {gpu.name.casefold() for gpu in list_gpus()}


def test_the_shipped_tables_are_small():
    """A checkout and the wheel carry less than 20 MB of tables."""
    assert sum(path.stat().st_size for path in BENCH_DATA.rglob("*") if path.is_file()) < 20e6
