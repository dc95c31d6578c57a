from __future__ import annotations

import pytest
from bench_collect.memory import MAX_COPIES
from bench_collect.timing import THOROUGH, measure, schedule
from hypothesis import given
from hypothesis import strategies as st

from tests.collect_bench.simulated_gpu import (
    L2,
    SimulatedGpu,
    gemm,
)


class TestTiming:
    def test_latency_is_that_of_the_call_without_its_launch(self):
        """A kernel of 4 us launched every 15 us is measured as 4 us, through a graph."""
        gpu = SimulatedGpu(lambda _: 4.0)
        measured = measure(gpu, gemm(), L2, THOROUGH)
        assert measured.latency_us == pytest.approx(4.0)
        assert measured.schedule.captured
        assert gpu.releases == 1
        assert measured.kernel == "kernel"

    def test_the_host_does_not_size_the_graph(self):
        """Launched singly a call seems to last 500 us; the graph still has a millisecond of 4 us.

        The start of a graph counts in its duration, so few calls would be measured as longer.
        """
        gpu = SimulatedGpu(lambda _: 4.0, launch_us=500.0, start_us=3.0)
        measured = measure(gpu, gemm(), L2, THOROUGH)
        assert measured.schedule.calls * 4.0 >= THOROUGH.repetition_us / 2
        assert measured.latency_us == pytest.approx(4.0, rel=5e-3)
        assert gpu.captures == 2

    def test_the_fastest_kernel_counts(self):
        """Three kernels: one takes longer, one cannot compute the point."""

        class Choice(SimulatedGpu):
            def prepare(self, point, copies):
                def failing(_):
                    raise RuntimeError("no such kernel")

                slow = SimulatedGpu.prepare(self, 9.0, copies)["kernel"]
                fast = SimulatedGpu.prepare(self, 6.0, copies)["kernel"]
                return {"slow": slow, "fast": fast, "failing": failing}

        gpu = Choice(lambda latency_us: latency_us)
        measured = measure(gpu, gemm(), L2, THOROUGH)
        assert (measured.kernel, measured.latency_us) == ("fast", pytest.approx(6.0))
        assert gpu.releases == 1

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
