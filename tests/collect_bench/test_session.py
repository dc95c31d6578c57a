from __future__ import annotations

from dataclasses import replace

import pytest
from bench_collect.grids import FULL, QUICK, plan_tables
from bench_collect.memory import Memory
from bench_collect.note import NoteFile, SessionNote, check_folder, session_lines
from bench_collect.points import DecodePoint, PrefillPoint
from bench_collect.session import Clock
from bench_collect.shapes import Shapes
from bench_collect.store import TableStore

from blis_sim.catalog.gpus import list_gpus
from blis_sim.errors import ConfigError, SimulationError
from blis_sim.latency.kernel_tables.layout import columns_of, find_folder
from blis_sim.latency.kernel_tables.points import read_points
from blis_sim.latency.kernel_tables.shapes import HeadShape
from tests.collect_bench.simulated_gpu import (
    H200,
    HEADS,
    L2,
    SimulatedGpu,
    gemm,
    make_session,
    rows_of,
    small_plan,
)


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

    def test_short_tables_together_report_progress(self, tmp_path, capsys):
        """Tables of 4 points and 1 s a reading of the clock: a line every ten seconds of all."""
        shapes = Shapes(heads={HeadShape(heads, 1, 128) for heads in range(1, 8)})
        grid = replace(QUICK, decode_batch=(1, 4), kv_len=(32, 512))
        ticks = iter(range(10**6))
        session = make_session(tmp_path, clock=Clock(None, now=lambda: float(next(ticks))))
        session.run(SimulatedGpu(lambda _: 5.0), plan_tables(shapes, ("decode",), ("bf16",), grid))
        lines = capsys.readouterr().err.splitlines()
        assert 2 <= len(lines) <= session.clock.elapsed_s / 10
        assert "mha_decode_bf16_tp1.csv: " in lines[0]

    def test_points_without_memory_are_left_out(self, tmp_path):
        """They are not tried, and counted with what they need."""
        memory = Memory(free_bytes=10**9, l2_bytes=L2)
        points = (DecodePoint(HEADS, "bf16", 1, 32), DecodePoint(HEADS, "bf16", 256, 8192))
        plan = replace(small_plan()[0], points=points)
        session = make_session(tmp_path, memory=memory)
        session.run(SimulatedGpu(lambda _: 5.0), [plan])
        assert session.results[0].too_large == [points[1]]
        assert session.results[0].num_measured == 1
        needs = session.largest_needs()
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
        NoteFile(tmp_path, H200).write(session_lines(self.note(), session.results, {}))
        first = path.read_text()
        later = self.note(
            date="2026-02-02 03:04 UTC", kernels={**self.note().kernels, "gemm": "x"}
        )
        NoteFile(tmp_path, H200).write(session_lines(later, session.results, {}))
        assert path.read_text().startswith(first.rstrip("\n"))
        assert path.read_text().count("## Session ") == 2
        assert "| `gemm_bench/gemm_bf16.csv` | a kernel | 2 | 0 | 0 | 0 | 0 | 2 | 0.0% |" in first
        assert "989.5 TFLOP/s" in first

    def test_kernels_that_were_fastest_are_counted(self, tmp_path):
        """Over the tables of one kind; an operation with one kernel has no such line."""

        class Choice(SimulatedGpu):
            def prepare(self, point, copies):
                kernels = super().prepare(point, copies)
                if not isinstance(point, DecodePoint):
                    return kernels
                name = "cuDNN" if point.key == (4, 32) else "flash"
                return {name: kernels["kernel"]}

        session = make_session(tmp_path)
        session.run(Choice(lambda _: 5.0), small_plan())
        lines = session_lines(self.note(), session.results, {})
        assert [line for line in lines if "fastest" in line] == [
            "- `mha_decode/*/mha_decode_bf16_tp1.csv`: points by the kernel that was fastest: "
            "flash 3, cuDNN 1."
        ]

    def test_tables_of_other_origin_are_not_touched(self, tmp_path):
        """A folder like bench_data/h200 is refused, with and without resume."""
        store = TableStore(tmp_path, gemm().table, H200, resume=False)
        store.add(gemm(), 5.0)
        store.save()
        for resume in (False, True):
            with pytest.raises(ConfigError, match="--out must not lead to tables of other origin"):
                check_folder(tmp_path, resume=resume)
        NoteFile(tmp_path, H200).write(["## Session 1"])
        check_folder(tmp_path, resume=True)
        with pytest.raises(ConfigError, match="add --resume to complete them"):
            check_folder(tmp_path, resume=False)

    def test_a_new_folder_is_welcome(self, tmp_path):
        """It need not exist."""
        check_folder(tmp_path / "new", resume=False)
