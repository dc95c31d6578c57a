"""Measuring this machine: honest timing with a clock of our own, profiles, utilisation."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from blis_sim.catalog.models import load_model
from blis_sim.cli.main import main
from blis_sim.cli.roofline_measure import longer_runs
from blis_sim.errors import CatalogError, ConfigError
from blis_sim.roofline.ceilings import Bandwidth, Ceilings, Peak
from blis_sim.roofline.host_kernels import (
    HostKernel,
    bandwidth_kernels,
    gemm_kernel,
    gemv_kernel,
    triad,
)
from blis_sim.roofline.host_machine import last_level_cache, num_processors
from blis_sim.roofline.machine_profile import (
    MachineProfile,
    MeasuredRate,
    load_profile,
    read_profile,
    write_profile,
)
from blis_sim.roofline.measure_host import HostPlan, array_size, measure_host
from blis_sim.roofline.model_gemvs import gemv_shapes, time_gemvs
from blis_sim.roofline.repeated_timing import (
    QUICK,
    Effort,
    GroupTimer,
    Timing,
    time_call,
    time_calls,
)
from blis_sim.roofline.utilisation import (
    Band,
    Operation,
    band_of,
    read_operations,
    utilisation_rows,
    utilisations,
)

# -- timing ---------------------------------------------------------------


class Machine:
    """Calls that take as long as they are told, on a clock of their own."""

    def __init__(self, durations: Iterator[float]) -> None:
        self.now_s = 0.0
        self.num_calls = 0
        self._durations = durations

    def call(self) -> None:
        self.num_calls += 1
        self.now_s += next(self._durations)

    def clock(self) -> float:
        return self.now_s


def time_runs(*runs: float, longer: float, warm_up: float = 1.0) -> Timing:
    """Time calls whose duration depends on the run they are in; a run is ten calls."""

    def durations() -> Iterator[float]:
        # Two calls of warm-up and one to see how long calls take.
        yield from [warm_up, warm_up, 1.0]
        for run in runs:
            yield from [run] * 10
        yield from [longer] * 30

    machine = Machine(durations())
    effort = Effort(runs=len(runs), run_s=10.0, warm_up_s=2 * warm_up)
    timing = time_call(machine.call, effort, machine.clock)
    assert machine.num_calls == 3 + 10 * len(runs) + 30
    return timing


def test_the_median_of_the_runs() -> None:
    """Quartiles of 1, 2, 3, 4, 5 are 2 and 4: a spread of 2/3. The longer run confirms."""
    timing = time_runs(5.0, 1.0, 3.0, 2.0, 4.0, longer=3.5)
    assert timing == Timing(3.0, pytest.approx(2 / 3), 5, 10, 3.0, pytest.approx(3.5))
    assert not timing.is_longer_run


def test_a_slow_longer_run_is_what_is_reported() -> None:
    """Runs that were lucky together are not believed."""
    timing = time_runs(1.0, 1.0, 1.01, 1.0, 1.01, longer=1.5)
    assert timing.call_s == pytest.approx(1.5)
    assert timing.median_s == pytest.approx(1.0)
    assert timing.is_longer_run


def test_a_fast_longer_run_is_reported_too() -> None:
    """Runs that were unlucky together are not believed either: the longer one counts."""
    timing = time_runs(2.0, 2.0, 2.0, longer=1.5)
    assert timing.call_s == pytest.approx(1.5)
    assert timing.is_longer_run


def test_never_above_the_longer_run_by_more_than_the_spread() -> None:
    """Whatever the runs are, the reported rate is within the spread of the longer run's."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        runs = rng.uniform(0.9, 1.4, 7)
        timing = time_runs(*runs, longer=float(rng.uniform(0.8, 2.0)))
        reported, longer = 1 / timing.call_s, 1 / timing.check_s
        assert reported <= longer * (1 + timing.spread_frac) * (1 + 1e-9)


def test_warm_up_does_not_count() -> None:
    """Slow first calls are in no run, and do not make runs too short."""
    timing = time_runs(1.0, 1.0, 1.0, longer=1.0, warm_up=100.0)
    assert (timing.call_s, timing.calls) == (pytest.approx(1.0), 10)


def test_what_is_compared_is_timed_in_turn() -> None:
    """A machine that slows down slows all of it, and the spread shows it."""
    now_s, order = 0.0, ""

    def call(name: str) -> Callable[[], None]:
        def run() -> None:
            nonlocal now_s, order
            now_s += 1.0 if len(order) < 8 else 2.0
            order += name

        return run

    effort = Effort(runs=3, run_s=1.0, warm_up_s=1.0)
    first, second = time_calls([call("a"), call("b")], effort, lambda: now_s)
    assert order == "aabb" + "ababab" + "aaabbb"
    assert first == second == Timing(2.0, pytest.approx(0.5), 3, 1, 1.0, 2.0)


def test_a_clock_that_stands_still() -> None:
    """A rate without end is no rate."""
    with pytest.raises(ConfigError, match="clock must go on"):
        time_call(lambda: None, QUICK, lambda: 0.0)


@pytest.mark.parametrize(
    "values", [{"runs": 2}, {"check_factor": 1}, {"run_s": 0.0}, {"warm_up_s": -1.0}]
)
def test_efforts_that_are_none(values: dict[str, float]) -> None:
    """Fewer than three runs have no spread."""
    with pytest.raises(ConfigError, match="an effort must have"):
        Effort(**values)  # type: ignore[arg-type]


# -- kernels --------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_bytes_of_the_bandwidth_kernels(threads: int) -> None:
    """One, two and three arrays, whatever the threads."""
    with bandwidth_kernels(8 * 100_003, threads) as kernels:
        assert [kernel.bytes / (8 * 100_003) for kernel in kernels] == [1, 1, 2, 3]
        for kernel in kernels:
            kernel.call()
        assert [kernel.name for kernel in kernels] == ["read", "read", "copy", "triad"]


def test_the_triad_combines_all_elements() -> None:
    """Also those of the last block, which is shorter."""
    a, b, c = (np.arange(40_000, dtype=float) for _ in range(3))
    triad(a, b, c)
    assert (a == b + 3 * c).all()


def test_products_count_two_flops_for_a_multiply_add() -> None:
    """Of matrices and of a matrix with a vector; bytes are those of fp32."""
    gemm, gemv = gemm_kernel(8, "fp64"), gemv_kernel("qkv", 6, 4, copies=2)
    assert gemm.flops == 2 * 8**3
    assert (gemv.flops, gemv.bytes) == (48, 4 * (24 + 6 + 4))
    for kernel in (gemm, gemv):
        kernel.call()


def test_the_cache_is_that_of_all_processors(tmp_path: Path) -> None:
    """Processors that share a cache count it once; without a word 64 MiB are assumed."""
    assert last_level_cache(tmp_path).bytes == 64 * 2**20
    assert last_level_cache(tmp_path).is_assumed
    for cpu in range(os.cpu_count() or 1):
        for index, (level, kind, size) in enumerate(
            [("1", "Data", "32K"), ("1", "Instruction", "32K"), ("3", "Unified", "16384K")]
        ):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            for name, text in (
                ("level", level),
                ("type", kind),
                ("size", size),
                ("shared_cpu_list", "all" if level == "3" else str(cpu)),
            ):
                (folder / name).write_text(f"{text}\n", encoding="ascii")
    assert last_level_cache(tmp_path).bytes == 16 * 2**20


@pytest.mark.parametrize(
    ("cache_mib", "free_mib", "mib", "is_short"),
    [(32, None, 128, False), (1, None, 64, False), (32, 10_000, 128, False), (32, 600, 50, True)],
)
def test_arrays_are_several_caches_as_far_as_memory_allows(
    cache_mib: int, free_mib: int | None, mib: int, is_short: bool
) -> None:
    """Three of them take at most a quarter of what is free."""
    free_bytes = None if free_mib is None else free_mib * 2**20
    size = array_size(cache_mib * 2**20, 4, free_bytes)
    assert (size.bytes, size.is_short) == (mib * 2**20, is_short)


# -- profiles -------------------------------------------------------------


def steady(call_s: float) -> Callable[..., Timing]:
    """Return a timer for which each call takes as long; it does make one."""

    def timer(call: Callable[[], object], effort: Effort) -> Timing:
        call()
        return Timing(call_s, 0.01, effort.runs, 1, call_s, call_s)

    return timer


def one_after_another(*durations: float) -> GroupTimer:
    """Return a timer for which the calls take these durations; the last one for the rest."""

    def timer(calls: Sequence[Callable[[], object]], effort: Effort) -> list[Timing]:
        last = durations[-1:] * (len(calls) - len(durations))
        each = zip(calls, (*durations, *last), strict=True)
        return [steady(call_s)(call, effort) for call, call_s in each]

    return timer


SMALL = HostPlan(QUICK, gemm_n=16, is_quick=True, array_bytes=2**20)


def measured(**changes: object) -> MachineProfile:
    """Return the profile of a machine on which each call takes 10 ms."""
    profile = measure_host(SMALL, threads=1, timer=one_after_another(0.01))
    return profile.model_copy(update=changes)


def test_a_profile_says_what_was_measured() -> None:
    """Rates are bytes and FLOPs over the time of a call; threads and sizes are stated."""
    profile = measured()
    size = profile.array_bytes
    assert profile.rate("read").gb_per_s == pytest.approx(size / 0.01 / 1e9, rel=1e-2)
    assert profile.rate("copy").gb_per_s == pytest.approx(2 * size / 0.01 / 1e9, rel=1e-6)
    assert profile.rate("triad").gb_per_s == pytest.approx(3 * size / 0.01 / 1e9, rel=1e-6)
    assert profile.rate("gemm fp32").tflops == pytest.approx(2 * 16**3 / 0.01 / 1e12)
    gemv = profile.rate("gemv fp32")
    assert gemv.gb_per_s == pytest.approx(size / 0.01 / 1e9, rel=1e-2)
    assert [rate.name for rate in profile.rates] == [
        *("read", "copy", "triad", "gemm fp32", "gemm fp64", "gemv fp32")
    ]
    assert (profile.threads, profile.rate("copy").threads) == (1, 1)
    assert profile.notes[0].startswith("quick")
    with pytest.raises(ConfigError, match="must have the rate gemm fp8; it has read, copy"):
        profile.rate("gemm fp8")
    with pytest.raises(ConfigError, match="threads must be at least 1"):
        measure_host(SMALL, threads=0)


def test_the_read_peak_is_that_of_the_fastest_way() -> None:
    """Nothing that is timed reads faster than the peak; it says which way was the fastest."""
    timer = one_after_another(0.02, 0.01, 0.03, 0.04, 0.01, 0.01, 0.005)
    profile = measure_host(SMALL, threads=1, timer=timer)
    read, gemv = profile.rate("read"), profile.rate("gemv fp32")
    assert (read.gb_per_s, read.tflops) == (gemv.gb_per_s, None)
    assert read.how == "matrix-vector product"
    timer = one_after_another(0.02, 0.01, 0.03)
    assert measure_host(SMALL, threads=1, timer=timer).rate("read").how == "dot product"


@pytest.mark.parametrize("name", ["profile.yaml", "profile.json"])
def test_a_profile_gives_roofs(name: str, tmp_path: Path) -> None:
    """What is written is read; DRAM is the highest bandwidth, and the default."""
    profile, path = measured(), tmp_path / name
    write_profile(profile, path)
    assert load_profile(path) == profile
    ceilings = read_profile(path)
    assert [peak.name for peak in ceilings.peaks] == ["fp32", "fp64"]
    levels = ["DRAM", "DRAM read", "DRAM copy", "DRAM triad"]
    assert [bandwidth.level for bandwidth in ceilings.bandwidths] == levels
    assert ceilings.bandwidth().gb_per_s == ceilings.bandwidth("dram triad").gb_per_s
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_files_that_are_no_profile(tmp_path: Path) -> None:
    """File and key are named."""
    path = tmp_path / "profile.json"
    with pytest.raises(ConfigError, match="must be a readable file"):
        read_profile(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match="must be a machine profile"):
        read_profile(path)
    values = measured().model_dump(mode="json")
    path.write_text(json.dumps(values | {"threads": 0}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"profile\.json: threads must be .*; got 0"):
        read_profile(path)
    path.write_text(json.dumps(values | {"rates": values["rates"][3:]}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"profile\.json: .* one of read, copy and triad"):
        read_profile(path)


def test_a_longer_run_is_told_apart() -> None:
    """A rate says whether it is that of the longer run."""
    timing = Timing(1.5, 0.01, 3, 10, 1.0, 1.5)
    rate = MeasuredRate.of(HostKernel("read", list, bytes=3e9), timing, threads=2)
    assert (rate.gb_per_s, rate.tflops, rate.is_longer_run) == (2.0, None, True)


# -- utilisation ----------------------------------------------------------

CEILINGS = Ceilings(
    "box",
    (Peak("fp32", 1.0),),
    (Bandwidth("DRAM", 100.0), Bandwidth("DRAM read", 80.0), Bandwidth("DRAM copy", 100.0)),
)


@pytest.mark.parametrize(
    ("share", "band"),
    [
        (1.2, Band.NEAR_OPTIMAL),
        (0.9, Band.NEAR_OPTIMAL),
        (0.899, Band.GOOD),
        (0.7, Band.GOOD),
        (0.699, Band.ROOM),
        (0.5, Band.ROOM),
        (0.499, Band.LOW),
        (0.0, Band.LOW),
    ],
)
def test_bands(share: float, band: Band) -> None:
    """90, 70 and 50 % belong to the band above."""
    assert band_of(share) is band


def test_no_share() -> None:
    """A share below 0 is none."""
    with pytest.raises(ConfigError, match="must be a number >= 0"):
        band_of(-0.1)


def test_utilisation_against_read_and_copy() -> None:
    """60 GB/s are 75 % of what can be read and 60 % of what can be copied."""
    (found,) = utilisations([Operation("lm_head", 6e8, 0.01)], CEILINGS)
    assert (found.gb_per_s, found.read_frac, found.copy_frac) == (60, 0.75, pytest.approx(0.6))
    assert found.band is Band.GOOD
    assert utilisation_rows([found])[1] == (
        *("lm_head", "600", "10000", "60", "75.0 %", "60.0 %", "good"),
    )
    (found,) = utilisations([Operation("o", 9e8, 0.01)], CEILINGS)
    assert found.is_above_peak
    assert utilisation_rows([found])[1][-1] == "above the peak: a cache, or noise"
    gpu = Ceilings("gpu", CEILINGS.peaks, CEILINGS.bandwidths[:1])
    (found,) = utilisations([Operation("lm_head", 6e8, 0.01)], gpu)
    assert (found.read_frac, found.copy_frac) == (pytest.approx(0.6), None)
    with pytest.raises(ConfigError, match="seconds of down must be a number above 0"):
        utilisations([Operation("down", 1.0, 0.0)], CEILINGS)


def test_operations_of_a_file(tmp_path: Path) -> None:
    """Name, bytes and seconds; what is wrong is named with its line."""
    path = tmp_path / "ops.csv"
    path.write_text("name,bytes,seconds\nlm_head,1e9,0.02\n", encoding="utf-8")
    assert read_operations(path) == [Operation("lm_head", 1e9, 0.02)]
    path.write_text("name,bytes,seconds\nlm_head,1e9,0\n", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"ops\.csv:2:seconds must be"):
        read_operations(path)


def test_matrices_of_a_model() -> None:
    """Llama-3.1-8B's by hand; what is too large is cut, what is small comes in copies."""
    model = load_model("llama-3.1-8b")
    shapes = {shape.name: shape for shape in gemv_shapes(model, 2**32, 2**25)}
    assert [(name, shape.n, shape.k) for name, shape in shapes.items()] == [
        ("qkv", 6144, 4096),
        ("o", 4096, 4096),
        ("gate_up", 28672, 4096),
        ("down", 4096, 14336),
        ("lm_head", 128256, 4096),
    ]
    assert not any(shape.is_cut for shape in shapes.values())
    # 4096 x 4096 x 4 bytes are two caches of 32 MiB: two matrices are four.
    assert (shapes["o"].copies, shapes["lm_head"].copies) == (2, 1)
    cut = {shape.name: shape for shape in gemv_shapes(model, 2**26, 2**25)}
    assert (cut["lm_head"].timed_n, cut["lm_head"].is_cut) == (4096, True)
    with pytest.raises(ConfigError, match="above 0 bytes"):
        gemv_shapes(model, 0, 1)


def test_products_are_timed_one_by_one() -> None:
    """The bytes are those of the rows that are timed."""
    shapes = gemv_shapes(load_model("llama-3.1-8b"), 2**20, 2**18)
    timed = list(time_gemvs(shapes, QUICK, steady(0.001)))
    first = timed[0]
    assert first.operation == Operation("qkv", 4 * (64 * 4096 + 64 + 4096), 0.001)
    assert [each.shape.name for each in timed] == [shape.name for shape in shapes]


def test_threads_of_products_follow_where_they_can_be_set() -> None:
    """With threadpoolctl they are those asked for; the profile says how they are known."""
    pytest.importorskip("threadpoolctl")
    profile = measured()
    assert (profile.blas_threads, profile.blas_threads_from) == (1, "threadpoolctl")
    assert {rate.threads for rate in profile.rates} == {1}


def test_threads_of_products_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a variable of the library says how many there are."""
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    profile = measured()
    assert (profile.blas_threads, profile.blas_threads_from) == (3, "OPENBLAS_NUM_THREADS")
    assert profile.rate("gemm fp32").threads == 3
    assert any("products use 3 threads, not 1" in note for note in profile.notes)


def test_there_is_a_processor() -> None:
    """The process runs on one at least."""
    assert num_processors() >= 1


# -- the command ----------------------------------------------------------


def test_a_quick_profile_and_shares_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table, file and JSON say the same; the file's peaks serve without measuring again."""
    monkeypatch.chdir(tmp_path)
    assert main(["roofline", "measure", "--quick", "--out", "profile.yaml", "--json"]) == 0
    captured = capsys.readouterr()
    shown = json.loads(captured.out)["profile"]
    assert MachineProfile.model_validate(shown) == load_profile(Path("profile.yaml"))
    assert "the figures are rough" in captured.err
    Path("ops.csv").write_text("name,bytes,seconds\nlm_head,1e9,0.5\n", encoding="utf-8")
    assert (
        main(["roofline", "measure", "--machine", "profile.yaml", "--operations", "ops.csv"]) == 0
    )
    title, header, row = capsys.readouterr().out.splitlines()
    assert title.startswith("Share of the bandwidth of ")
    assert header.split() == [
        *("operation", "MB", "time", "us", "GB/s", "of", "read", "of", "copy", "verdict")
    ]
    read = load_profile(Path("profile.yaml")).rate("read").gb_per_s
    assert read is not None
    assert row.split()[:5] == ["lm_head", "1000", "500000", "2", f"{200 / read:.1f}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "cuda"], "--gpu must be given with --model"),
        (["--gpu", "cuda", "--model", "x", "--out", "y"], "--gpu must be given without --out"),
        (["--machine", "p.yaml"], "--machine must be given with --operations or --model"),
        (["--machine", "p.yaml", "--out", "q.yaml"], "--out must be given without --machine"),
        (["--out", "no/p.yaml"], "--out must be a file in an existing folder"),
        (["--quick", "--threads", "0"], "threads must be at least 1"),
    ],
)
def test_wrong_command_lines(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured."""
    assert main(["roofline", "measure", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_longer_run_in_place_of_the_median_is_told() -> None:
    """With how far off the median was."""
    timing = Timing(1.25, 0.01, 3, 10, 1.0, 1.25)
    rate = MeasuredRate.of(HostKernel("read", list, bytes=1e9), timing, threads=1)
    (text,) = longer_runs([rate])
    assert text.startswith("read: the longer run is -20.0 % off the median of the runs")
