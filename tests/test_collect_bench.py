from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.catalog.gpus import list_gpus, load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.errors import ConfigError, SimulationError
from blis_sim.latency.kernel_tables.layout import columns_of, find_folder
from blis_sim.latency.kernel_tables.points import read_points
from blis_sim.latency.kernel_tables.shapes import HeadShape

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

import collect_bench
from bench_collect.compare import compare, report
from bench_collect.estimate import total_minutes
from bench_collect.grids import FULL, QUICK, plan_all_reduce, plan_tables
from bench_collect.memory import MAX_COPIES, Memory, num_copies, outlasts_cache
from bench_collect.note import SessionNote, check_folder, session_lines, write_note
from bench_collect.points import CopyPoint, DecodePoint, GemmPoint, PrefillPoint
from bench_collect.session import Clock, Session
from bench_collect.shapes import Shapes, shapes_from_text, shapes_of_models
from bench_collect.store import TableStore
from bench_collect.timing import QUICK as QUICK_EFFORT
from bench_collect.timing import THOROUGH, measure, schedule
from bench_collect.torch_backend import Device, DeviceFacts, load_torch
from bench_collect.torch_kernels import AttentionLibrary, TorchKernels, attention_library

H200 = load_gpu("H200")
L2 = 50_000_000
HEADS = HeadShape(8, 2, 128)
MEMORY = Memory(free_bytes=140 * 10**9, l2_bytes=L2)


class SimulatedGpu:
    """A GPU in arithmetic: a call lasts ``call_us(point)``, and singly at least ``launch_us``.

    Calls inside a captured graph have no launch.
    """

    def __init__(self, call_us: Callable[[object], float], launch_us: float = 15.0) -> None:
        self.call_us, self.launch_us = call_us, launch_us
        self.indices: list[int] = []
        self.copies: list[int] = []
        self.captures = self.releases = self.replays = 0
        self._now_us = 0.0
        self._in_capture = False
        self._recorded_us = 0.0

    def prepare(self, point, copies):
        latency_us = self.call_us(point)
        self.copies.append(copies)

        def call(index: int) -> None:
            assert 0 <= index < copies
            self.indices.append(index)
            if self._in_capture:
                self._recorded_us += latency_us
            else:
                self._now_us += max(latency_us, self.launch_us)

        return call

    def capture(self, enqueue):
        self._in_capture, self._recorded_us = True, 0.0
        enqueue()
        self._in_capture = False
        self.captures += 1
        duration_us = self._recorded_us

        def replay() -> None:
            self.replays += 1
            self._now_us += duration_us

        return replay

    def time_us(self, enqueue, repetitions):
        times = []
        for _ in range(repetitions):
            before = self._now_us
            enqueue()
            times.append(self._now_us - before)
        return times

    def agree(self, value):
        return value

    def release(self):
        self.releases += 1


def held(call: Callable[[int], object], name: str):
    """The buffer a call uses under this name."""
    return call.__closure__[call.__code__.co_freevars.index(name)].cell_contents


def gemm(m=1, k=4096, n=4096, dtype="bf16") -> GemmPoint:
    return GemmPoint(dtype, m, k, n)


def make_session(folder: Path, **changes) -> Session:
    settings = {"memory": MEMORY, "effort": QUICK_EFFORT, "clock": Clock(None)}
    return Session(folder=folder, gpu=H200, **{**settings, **changes})


def small_plan():
    shapes = shapes_from_text(["8-2-128", "1024x2048"])
    grid = replace(QUICK, m=(1, 64), seq_len=(16, 256), decode_batch=(1, 4), kv_len=(32, 512))
    return plan_tables(shapes, ("decode", "prefill", "gemm"), ("bf16",), grid)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


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


class TestTiming:
    def test_latency_is_that_of_the_call_without_its_launch(self):
        """A kernel of 4 us launched every 15 us is measured as 4 us, through a graph."""
        gpu = SimulatedGpu(lambda _: 4.0)
        measured = measure(gpu, gemm(), L2, THOROUGH)
        assert measured.latency_us == pytest.approx(4.0)
        assert measured.schedule.captured
        assert (gpu.captures, gpu.releases) == (1, 1)
        assert gpu.replays == measured.schedule.repetitions + 1

    def test_long_kernels_are_launched_singly(self):
        """Above a millisecond a launch does not matter."""
        gpu = SimulatedGpu(lambda _: 2500.0)
        measured = measure(gpu, gemm(), L2, THOROUGH)
        assert measured.latency_us == pytest.approx(2500.0)
        assert gpu.captures == 0
        assert measured.schedule.calls == 1

    def test_calls_go_around_all_copies(self):
        """With weights of 33.6 MB there are four copies, and each is used as often."""
        gpu = SimulatedGpu(lambda _: 100.0, launch_us=0.0)
        measure(gpu, gemm(), L2, THOROUGH)
        assert gpu.copies == [4]
        warm_up, calls = THOROUGH.warm_up_calls, gpu.indices[3 * THOROUGH.warm_up_calls :]
        assert gpu.indices[:warm_up] == [0, 1, 2]
        assert calls == [i % 4 for i in range(10)]

    def test_copies_too_small_to_fill_the_cache_are_used_once(self):
        """512 copies of 512 bytes stay in the cache: one round per sweep."""
        point = gemm(1, 16, 16)
        gpu = SimulatedGpu(lambda _: 0.5, launch_us=0.0)
        measured = measure(gpu, point, L2, THOROUGH)
        assert gpu.copies == [MAX_COPIES]
        assert measured.schedule.calls == MAX_COPIES
        one_each = gpu.indices[3 * THOROUGH.warm_up_calls :]
        assert sorted(one_each) == list(range(MAX_COPIES))

    @given(st.floats(0.01, 1e6), st.integers(1, MAX_COPIES), st.booleans())
    def test_schedules_respect_their_limits(self, call_us, copies, outlasts):
        """Repetitions within bounds; no copy twice unless it outlasts the cache."""
        plan = schedule(call_us, copies, outlasts=outlasts, effort=THOROUGH)
        assert plan.calls >= 1
        assert outlasts or plan.calls <= copies
        assert THOROUGH.least_repetitions <= plan.repetitions <= THOROUGH.repetitions
        if plan.repetitions > THOROUGH.least_repetitions:
            assert plan.repetitions * plan.calls * call_us <= THOROUGH.budget_us * 1.0001
        assert plan.captured == (call_us < THOROUGH.capture_below_us)

    def test_the_median_ignores_an_outlier(self):
        """A repetition the system disturbed does not count."""

        class Disturbed(SimulatedGpu):
            def time_us(self, enqueue, repetitions):
                times = super().time_us(enqueue, repetitions)
                return [times[0] * 50, *times[1:]] if repetitions > 4 else times

        measured = measure(Disturbed(lambda _: 10.0), gemm(), L2, THOROUGH)
        assert measured.latency_us == pytest.approx(10.0)

    def test_buffers_are_freed_after_a_failure(self):
        """A kernel that cannot run leaves no memory behind."""

        class Failing(SimulatedGpu):
            def capture(self, enqueue):
                raise RuntimeError("capture failed")

        gpu = Failing(lambda _: 1.0)
        with pytest.raises(RuntimeError, match="capture failed"):
            measure(gpu, gemm(), L2, THOROUGH)
        assert gpu.releases == 1


class TestStore:
    def test_files_are_sorted_and_read_by_the_loader(self, tmp_path):
        """MFU is FLOPs / (latency x peak); GEMM rows stand by n, k, m."""
        store = TableStore(tmp_path, gemm().table, H200, resume=False)
        for point in (gemm(64, 128, 256), gemm(1, 256, 128), gemm(1, 128, 256)):
            store.add(point, 3.14159)
        store.save()
        rows = rows_of(store.path)
        assert [(row["m"], row["k"], row["n"]) for row in rows] == [
            ("1", "256", "128"), ("1", "128", "256"), ("64", "128", "256"),
        ]  # fmt: skip
        assert rows[0]["latency_us"] == "3.142"
        expected = 2 * 64 * 128 * 256 / (3.14159e-6 * 989.5e12)
        assert float(rows[2]["mfu"]) == pytest.approx(expected, rel=5e-3)
        assert len(read_points(store.path, columns_of("gemm"))) == 3

    def test_resume_keeps_rows_and_adds_to_them(self, tmp_path):
        """Rows of before stay to the letter, also those outside the plan."""
        first = TableStore(tmp_path, gemm().table, H200, resume=False)
        first.add(gemm(7), 12.34)
        first.save()
        before = first.path.read_text().splitlines()
        again = TableStore(tmp_path, gemm().table, H200, resume=True)
        assert gemm(7).key in again
        assert gemm(8).key not in again
        again.add(gemm(8), 13.0)
        again.save()
        assert again.path.read_text().splitlines()[:2] == before
        assert len(rows_of(again.path)) == 2

    def test_nothing_new_leaves_the_file_alone(self, tmp_path):
        """An empty table writes no file."""
        store = TableStore(tmp_path, gemm().table, H200, resume=True)
        store.save()
        assert not store.path.exists()


class TestSession:
    def test_tables_end_where_the_loader_finds_them(self, tmp_path):
        """The folder is usable by the latency model: GEMM, prefill and decode are there."""
        session = make_session(tmp_path / "h200")
        session.run(SimulatedGpu(lambda _: 5.0), small_plan())
        folder = find_folder(tmp_path, H200, list_gpus())
        assert folder is not None
        assert folder.is_usable
        assert not folder.unknown
        assert {file.shape for file in folder.files if file.operation == "decode"} == {(8, 2, 128)}

    def test_resume_measures_only_what_is_missing(self, tmp_path):
        """A second session over a wider grid takes the rows of the first as they are."""
        gpu = SimulatedGpu(lambda _: 5.0)
        plans = small_plan()
        half = [replace(plan, points=plan.points[:2]) for plan in plans]
        make_session(tmp_path).run(gpu, half)
        session = make_session(tmp_path, resume=True)
        session.run(SimulatedGpu(lambda _: 50.0), plans)
        kept, new = (
            sum(getattr(result, name) for result in session.results)
            for name in ("num_kept", "num_measured")
        )
        assert (kept, new) == (6, 2)
        rows = rows_of(tmp_path / "mha_decode/8-2-128/mha_decode_bf16_tp1.csv")
        assert sorted(float(row["latency_us"]) for row in rows) == [5.0, 5.0, 50.0, 50.0]

    def test_an_interrupt_leaves_what_was_measured(self, tmp_path):
        """Ctrl-C in the second table: the first is whole, the second has its first rows."""

        def latency(point):
            if isinstance(point, PrefillPoint) and point.seq_len == 256:
                raise KeyboardInterrupt
            return 5.0

        session = make_session(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            session.run(SimulatedGpu(latency), small_plan())
        decode = rows_of(tmp_path / "mha_decode/8-2-128/mha_decode_bf16_tp1.csv")
        prefill = rows_of(tmp_path / "mha_prefill/8-2-128/mha_prefill_bf16.csv")
        assert (len(decode), len(prefill)) == (4, 1)
        assert not (tmp_path / "gemm_bench").exists()
        assert not list(tmp_path.rglob("*.tmp"))

    def test_the_time_limit_stops_between_points(self, tmp_path):
        """What is not reached is counted."""
        ticks = iter(range(10**6))
        clock = Clock(0.2, now=lambda: float(next(ticks)))
        session = make_session(tmp_path, clock=clock)
        plans = small_plan()
        session.run(SimulatedGpu(lambda _: 5.0), plans)
        done = sum(result.num_measured for result in session.results)
        left = sum(result.num_left for result in session.results)
        assert 0 < done < 10
        assert done + left == sum(len(plan.points) for plan in plans)

    def test_points_without_memory_are_left_out(self, tmp_path):
        """They are not tried, and counted with what they need."""
        memory = Memory(free_bytes=10**9, l2_bytes=L2)
        points = (DecodePoint(HEADS, "bf16", 1, 32), DecodePoint(HEADS, "bf16", 256, 8192))
        plan = replace(small_plan()[0], points=points)
        session = make_session(tmp_path, memory=memory)
        session.run(SimulatedGpu(lambda _: 5.0), [plan])
        assert session.results[0].too_large == [points[1]]
        assert session.results[0].num_measured == 1
        needs = collect_bench.largest_needs(session)
        assert needs == {"mha_decode/*/mha_decode_bf16_tp1.csv": memory.needed_bytes(points[1])}

    def test_a_failing_point_does_not_stop_the_others(self, tmp_path):
        """Its first line of the reason is kept."""

        def latency(point):
            if point.key == (4, 32):
                raise RuntimeError("no kernel for this\nlong trace")
            return 5.0

        session = make_session(tmp_path)
        session.run(SimulatedGpu(latency), small_plan()[:1])
        result = session.results[0]
        assert [(point.key, reason) for point, reason in result.failed] == [
            ((4, 32), "no kernel for this")
        ]
        assert result.num_measured == 3

    def test_a_dead_device_ends_the_session(self, tmp_path):
        """Nothing but failures in five tables."""

        def dead(point):
            raise RuntimeError("CUDA error: unspecified launch failure")

        shapes = Shapes(heads={HeadShape(heads, 1, 128) for heads in range(1, 8)})
        plans = plan_tables(shapes, ("decode",), ("bf16",), FULL)
        session = make_session(tmp_path)
        with pytest.raises(SimulationError, match="got only failures in it and the 4 tables"):
            session.run(SimulatedGpu(dead), plans)
        assert len(session.results) == 5


class TestNote:
    def note(self, **changes) -> SessionNote:
        kernels = dict.fromkeys(("decode", "prefill", "gemm"), "a kernel")
        values = {
            "date": "2026-01-02 03:04 UTC", "device": "NVIDIA H200", "software": "PyTorch 2.9",
            "kernels": kernels, "method": "Median.", "before": "clocks.sm 1980 MHz", "after": "-",
        }  # fmt: skip
        return SessionNote(**{**values, **changes})

    def test_sessions_follow_each_other(self, tmp_path):
        """The second session leaves the first one's section as it was."""
        session = make_session(tmp_path)
        session.run(SimulatedGpu(lambda _: 5.0), small_plan())
        path = tmp_path / "SOURCE.md"
        write_note(path, H200, session_lines(self.note(), session.results, {}))
        first = path.read_text()
        later = self.note(
            date="2026-02-02 03:04 UTC", kernels={**self.note().kernels, "gemm": "x"}
        )
        write_note(path, H200, session_lines(later, session.results, {}))
        assert path.read_text().startswith(first.rstrip("\n"))
        assert path.read_text().count("## Session ") == 2
        assert "| `gemm_bench/gemm_bf16.csv` | a kernel | 2 | 0 | 0 | 0 | 0 | 2 | 0.0% |" in first
        assert "989.5 TFLOP/s" in first

    def test_tables_of_other_origin_are_not_touched(self, tmp_path):
        """A folder like bench_data/h200 is refused, with and without resume."""
        store = TableStore(tmp_path, gemm().table, H200, resume=False)
        store.add(gemm(), 5.0)
        store.save()
        for resume in (False, True):
            with pytest.raises(ConfigError, match="--out must not lead to tables of other origin"):
                check_folder(tmp_path, resume=resume)
        write_note(tmp_path / "SOURCE.md", H200, ["## Session 1"])
        check_folder(tmp_path, resume=True)
        with pytest.raises(ConfigError, match="add --resume to complete them"):
            check_folder(tmp_path, resume=False)

    def test_a_new_folder_is_welcome(self, tmp_path):
        """It need not exist."""
        check_folder(tmp_path / "new", resume=False)


class TestCompare:
    def collected(self, folder: Path, latency: Callable[[object], float]) -> Path:
        session = make_session(folder / "h200")
        session.run(SimulatedGpu(latency, launch_us=0.0), small_plan())
        return folder

    def test_differences_are_relative_to_the_other_tables(self, tmp_path):
        """Everything 10 % slower, one of four decode points twice as slow."""

        def theirs(point):
            # Well above the roofline, and growing with the work, as the lookup keeps both.
            return 20.0 + point.moved_bytes / 1e5 + point.flops / 1e7

        def ours(point):
            return theirs(point) * (2.0 if point.key == (4, 512) else 1.1)

        reference = self.collected(tmp_path / "theirs", theirs)
        mine = self.collected(tmp_path / "ours", ours)
        found = {d.name: d for d in compare(mine, reference, H200)}
        assert set(found) == {"gemm bf16", "prefill bf16", "decode bf16"}
        for name, number in (("gemm bf16", 2), ("prefill bf16", 2), ("decode bf16", 4)):
            assert len(found[name].common) == len(found[name].lookup) == number
            assert np.median(found[name].common) == pytest.approx(0.1, abs=2e-3)
            assert np.median(found[name].lookup) == pytest.approx(0.1, abs=2e-3)
        assert max(found["decode bf16"].common) == pytest.approx(1.0, abs=2e-3)
        text = "\n".join(report(list(found.values())))
        assert "gemm bf16" in text
        assert "+10.0%" in text

    def test_a_folder_without_tables_of_the_gpu_is_an_error(self, tmp_path):
        """The flag at fault is named."""
        mine = self.collected(tmp_path / "ours", lambda _: 5.0)
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigError, match="--compare must be a folder with tables of H200"):
            compare(mine, tmp_path / "empty", H200)

    def test_compare_only_needs_no_gpu(self, tmp_path, capsys):
        """The GPU is the one folder in --out; the shipped tables are understood."""
        mine = self.collected(tmp_path / "ours", lambda _: 5.0)
        shipped = Path(__file__).resolve().parent.parent / "bench_data"
        arguments = ["--out", str(mine), "--compare", str(shipped), "--compare-only"]
        assert collect_bench.main(arguments) == 0
        assert "decode bf16" in capsys.readouterr().out


class TestCommandLine:
    def failure(self, capsys, *arguments: str) -> str:
        assert collect_bench.main(arguments) == 2
        text = capsys.readouterr().err
        assert text.startswith("error: ")
        assert text.count("\n") == 1
        return text

    def test_without_torch_it_says_how_to_install_it(self, capsys, monkeypatch, tmp_path):
        """One line, exit 2, nothing written."""
        monkeypatch.setitem(sys.modules, "torch", None)
        text = self.failure(capsys, "--out", str(tmp_path / "out"))
        assert "needs PyTorch" in text
        assert "pip install torch" in text
        assert "--dry-run" in text
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("cuda", "reason"), [("13.0", "sees no GPU"), (None, "is a build without CUDA")]
    )
    def test_without_a_gpu_it_says_what_to_check(self, capsys, monkeypatch, cuda, reason):
        """A build without CUDA is another fault than a driver that does not answer."""
        torch = SimpleNamespace(
            __version__="2.9.0",
            version=SimpleNamespace(cuda=cuda, hip=None),
            cuda=SimpleNamespace(is_available=lambda: False),
        )
        monkeypatch.setitem(sys.modules, "torch", torch)
        with pytest.raises(ConfigError, match=reason):
            load_torch()
        assert reason in self.failure(capsys, "--out", "unused")

    def test_dry_run_needs_neither(self, capsys, monkeypatch, tmp_path):
        """It prints points, memory and minutes per table, and writes nothing."""
        monkeypatch.setitem(sys.modules, "torch", None)
        arguments = ["--out", str(tmp_path / "out"), "--dry-run", "--gpu", "nvidia h200"]
        arguments += ["--shapes", "32-8-128", "4096x6144", "--ops", "gemm,decode"]
        assert collect_bench.main(arguments) == 0
        text = capsys.readouterr().out
        decode = next(line for line in text.splitlines() if line.startswith("mha_decode"))
        expected = sum(b * s <= FULL.max_kv_tokens for b in FULL.decode_batch for s in FULL.kv_len)
        assert decode.split()[1:5] == ["1", str(expected), "0", "0"]
        assert "gemm_bench/gemm_fp8.csv" in text
        assert "mha_prefill" not in text
        assert f"{expected + 2 * len(FULL.m)} points to measure" in text
        assert not (tmp_path / "out").exists()

    def test_dry_run_counts_what_does_not_fit(self, capsys, tmp_path):
        """A T4 has 14.6 GiB and multiplies in fp16; 34 GB of KV cache are beyond it."""
        arguments = ["--out", str(tmp_path), "--dry-run", "--gpu", "T4", "--shapes", "128-128-128"]
        assert collect_bench.main([*arguments, "--ops", "decode"]) == 0
        line = capsys.readouterr().out.splitlines()[2]
        assert line.startswith("mha_decode/*/mha_decode_fp16_tp1.csv ")
        assert int(line.split()[4]) > 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--ops", "gem"], "--ops must be a known name; got 'gem'; nearest: gemm"),
            (["--ops", ","], "--ops must name at least one"),
            (["--dtypes", "int8"], "--dtypes must be a known name"),
            (["--tp", "1,x"], "--tp must hold whole numbers >= 1"),
            (["--max-minutes", "-1"], "--max-minutes must be > 0 minutes"),
            (["--compare-only"], "--compare-only needs --compare DIR"),
            (["--dry-run"], "--gpu must name a GPU"),
            (["--dry-run", "--gpu", "H2000"], "nearest: H20"),
            (
                ["--dry-run", "--gpu", "H200", "--dtypes", "fp8", "--ops", "copy"],
                "must leave something to measure",
            ),
        ],
    )
    def test_wrong_values_are_refused(self, capsys, arguments, message):
        """Before anything is measured."""
        assert message in self.failure(capsys, "--out", "unused", *arguments)

    def test_the_device_names_the_gpu(self, tmp_path):
        """Driver names are aliases; another GPU's name is refused, an unknown device asks."""
        chosen = collect_bench.chosen_gpu
        assert chosen(None, "NVIDIA A100-SXM4-80GB", tmp_path).name == "A100-80"
        assert chosen("h200", "NVIDIA H200", tmp_path).name == "H200"
        assert chosen("L4", "Some New Device", tmp_path).name == "L4"
        with pytest.raises(ConfigError, match="--gpu must be the GPU it runs on, H200"):
            chosen("H100", "NVIDIA H200", tmp_path)
        with pytest.raises(ConfigError, match="that 'Some New Device' is"):
            chosen(None, "Some New Device", tmp_path)


class TestWholeRun:
    def device(self, call_us=lambda _: 5.0) -> Device:
        facts = DeviceFacts(
            name="NVIDIA H200", capability=(9, 0), l2_bytes=L2, free_bytes=140 * 10**9,
            total_bytes=150 * 10**9, torch_version="2.9.0", cuda_version="13.0", uuid=None,
        )  # fmt: skip
        return Device(
            facts=facts,
            backend=SimulatedGpu(call_us),
            dtypes=("bf16", "fp8"),
            attention="FlashAttention 3",
            state=lambda: "clocks.sm 1980 MHz",
        )

    def options(self, out: Path, *more: str):
        arguments = ["--out", str(out), "--quick", "--shapes", "8-2-128", "1024x2048", *more]
        return collect_bench.options.parser("").parse_args(arguments)

    def test_tables_and_note_are_written(self, tmp_path, capsys):
        """Every planned point of every table, and what measured them."""
        gpu, interrupted = collect_bench.measure(self.options(tmp_path), self.device())
        assert (gpu.name, interrupted) == ("H200", False)
        note = (tmp_path / "h200" / "SOURCE.md").read_text()
        for text in ("NVIDIA H200", "PyTorch 2.9.0, CUDA 13.0", "clocks.sm 1980 MHz", "UTC"):
            assert text in note
        tables = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.csv")}
        assert tables == {
            "h200/copy/copy.csv",
            "h200/gemm_bench/gemm_bf16.csv",
            "h200/gemm_bench/gemm_fp8.csv",
            "h200/mha_decode/8-2-128/mha_decode_bf16_tp1.csv",
            "h200/mha_prefill/8-2-128/mha_prefill_bf16.csv",
        }
        assert ", 0 failed\n" in capsys.readouterr().out
        # The mfu of fp8 is relative to the fp8 peak.
        rows = rows_of(tmp_path / "h200/gemm_bench/gemm_fp8.csv")
        expected = 2 * 1024 * 2048 / (5e-6 * 1979e12)
        assert float(rows[0]["mfu"]) == pytest.approx(expected, rel=5e-3)

    def test_an_interrupted_run_is_completed(self, tmp_path, capsys):
        """The note has both sessions, the tables all points."""

        def stopped(point):
            if isinstance(point, GemmPoint):
                raise KeyboardInterrupt
            return 5.0

        _, interrupted = collect_bench.measure(self.options(tmp_path), self.device(stopped))
        assert interrupted
        assert "not reached (interrupted; --resume goes on)" in capsys.readouterr().out
        resumed = self.options(tmp_path, "--resume")
        assert collect_bench.measure(resumed, self.device())[1] is False
        assert f"{2 * len(QUICK.m)} points measured" in capsys.readouterr().out
        assert (tmp_path / "h200/SOURCE.md").read_text().count("## Session ") == 2

    def test_processes_measure_all_reduce_together(self, tmp_path):
        """Under torchrun nothing else is measured, and the first process alone writes."""
        first = replace(self.device(), num_processes=2)
        other = replace(first, rank=1, backend=SimulatedGpu(lambda _: 9.0))
        collect_bench.measure(self.options(tmp_path / "other"), other)
        assert not (tmp_path / "other").exists()
        collect_bench.measure(self.options(tmp_path), first)
        assert [p.name for p in tmp_path.rglob("*.csv")] == ["allreduce_tp2.csv"]


class TestAttentionLibrary:
    def torch(self, major: int) -> SimpleNamespace:
        def attention():
            """enable_gqa"""

        functional = SimpleNamespace(scaled_dot_product_attention=attention)
        cuda = SimpleNamespace(get_device_capability=lambda: (major, 0))
        return SimpleNamespace(cuda=cuda, nn=SimpleNamespace(functional=functional))

    @pytest.mark.parametrize(
        ("major", "installed", "expected"),
        [
            (9, {"flash_attn_interface", "flash_attn"}, "fa3"),
            (8, {"flash_attn_interface", "flash_attn"}, "fa2"),
            (9, {"flash_attn"}, "fa2"),
            (9, set(), "sdpa"),
        ],
    )
    def test_auto_takes_the_best_that_is_installed(self, major, installed, expected):
        """FlashAttention 3 on Hopper, else 2, else PyTorch's own."""

        def import_module(name):
            if name not in installed:
                raise ImportError(name)
            return SimpleNamespace()

        assert attention_library(self.torch(major), "auto", import_module).name == expected

    def test_a_library_asked_for_must_be_there(self):
        """The package is named."""

        def import_module(name):
            raise ImportError(f"No module named {name!r}")

        with pytest.raises(ConfigError, match="needs the package 'flash_attn'"):
            attention_library(self.torch(9), "fa2", import_module)
        with pytest.raises(ConfigError, match="--attention must be a known name"):
            attention_library(self.torch(9), "fa4", import_module)


class TestTorchKernels:
    """On the CPU, where PyTorch is installed: the calls compute what they are named after."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch", reason="PyTorch is not installed")

    def kernels(self, torch, *, has_gqa: bool = True) -> TorchKernels:
        torch.manual_seed(0)
        return TorchKernels(torch, "cpu", AttentionLibrary("sdpa", has_gqa=has_gqa))

    def test_gemm_takes_the_weights_of_its_copy(self, torch):
        """Two copies give two results, each x times its own weights."""
        call = self.kernels(torch).prepare(gemm(3, 32, 16), 2)
        x, weights = held(call, "x"), held(call, "weights")
        for i in (0, 1):
            expected = x.double() @ weights[i].double().T
            torch.testing.assert_close(call(i).double(), expected, rtol=2e-2, atol=2e-2)

    @pytest.mark.parametrize("has_gqa", [True, False])
    def test_prefill_is_causal_attention_of_grouped_heads(self, torch, has_gqa):
        """The first token sees itself alone; shape (batch, heads, tokens, head_dim)."""
        point = PrefillPoint(HEADS, "bf16", 16, 2)
        call = self.kernels(torch, has_gqa=has_gqa).prepare(point, 1)
        out, v = call(0), held(call, "v")
        assert out.shape == (2, 8, 16, 128)
        group = 8 // v.shape[1]
        torch.testing.assert_close(out[:, :, 0], v.repeat_interleave(group, 1)[:, :, 0])

    def test_decode_rows_are_the_heads_of_one_kv_head(self, torch):
        """Equal to attention of one token whose KV heads are repeated."""
        point = DecodePoint(HEADS, "bf16", 3, 24)
        call = self.kernels(torch).prepare(point, 2)
        q, cache = held(call, "q"), held(call, "cache")
        query = q.reshape(3, 8, 1, 128)
        k, v = (cache[1, i].repeat_interleave(4, 1) for i in (0, 1))
        attention = torch.nn.functional.scaled_dot_product_attention
        expected = attention(query.double(), k.double(), v.double())
        result = call(1).reshape(3, 8, 1, 128).double()
        torch.testing.assert_close(result, expected, rtol=2e-2, atol=2e-2)

    def test_copy_moves_half_of_its_bytes_each_way(self, torch):
        """64 bytes: 16 elements of two bytes read, and as many written."""
        call = self.kernels(torch).prepare(CopyPoint(64), 2)
        source, target = held(call, "source"), held(call, "target")
        call(1)
        assert source[1].numel() * source.element_size() == 32
        assert torch.equal(target[1], source[1])

    def test_fp8_quantises_its_input(self, torch):
        """The result is near that of the unquantised input times the fp8 weights."""
        call = self.kernels(torch).prepare(gemm(16, 64, 32, "fp8"), 2)
        x, weights = held(call, "x"), held(call, "weights")
        assert x.dtype == torch.bfloat16
        expected = x.double() @ weights[1].to(torch.float64).T
        error = (call(1).double() - expected).norm() / expected.norm()
        assert 0 < error < 0.05
