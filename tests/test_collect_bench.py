from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from blis_sim.errors import ConfigError

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

import collect_bench
from bench_collect.compare import compare, report
from bench_collect.grids import FULL, QUICK
from bench_collect.points import GemmPoint
from bench_collect.torch_backend import Device, DeviceFacts, load_torch

from tests.collect_bench.simulated_gpu import (
    H200,
    L2,
    SimulatedGpu,
    make_session,
    rows_of,
    small_plan,
)


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

    def test_a_killed_run_can_be_completed(self, tmp_path):
        """The note is there before the first table, so that resuming knows its own tables."""
        seen = []

        def latency(point):
            seen.append((tmp_path / "h200/SOURCE.md").read_text())
            return 5.0

        collect_bench.measure(self.options(tmp_path), self.device(latency))
        assert "Not ended in order." in seen[0]
        note = (tmp_path / "h200/SOURCE.md").read_text()
        assert "Not ended in order." not in note
        collect_bench.measure(self.options(tmp_path, "--resume"), self.device())
        assert (tmp_path / "h200/SOURCE.md").read_text() == note

    def test_processes_measure_all_reduce_together(self, tmp_path):
        """Under torchrun nothing else is measured, and the first process alone writes."""
        first = replace(self.device(), num_processes=2)
        other = replace(first, rank=1, backend=SimulatedGpu(lambda _: 9.0))
        collect_bench.measure(self.options(tmp_path / "other"), other)
        assert not (tmp_path / "other").exists()
        collect_bench.measure(self.options(tmp_path), first)
        assert [p.name for p in tmp_path.rglob("*.csv")] == ["allreduce_tp2.csv"]
