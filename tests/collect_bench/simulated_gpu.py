from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench_collect.grids import QUICK, plan_tables
from bench_collect.memory import Memory
from bench_collect.points import GemmPoint
from bench_collect.session import Clock, Session
from bench_collect.shapes import shapes_from_text
from bench_collect.timing import QUICK as QUICK_EFFORT

from blis_sim.catalog.gpus import load_gpu
from blis_sim.latency.kernel_tables.shapes import HeadShape

H200 = load_gpu("H200")
L2 = 50_000_000
HEADS = HeadShape(8, 2, 128)
MEMORY = Memory(free_bytes=140 * 10**9, l2_bytes=L2)


class SimulatedGpu:
    """A GPU in arithmetic: a call lasts ``call_us(point)``, and singly at least ``launch_us``.

    Calls inside a captured graph have no launch; the graph itself starts in ``start_us``.
    """

    def __init__(
        self, call_us: Callable[[object], float], launch_us: float = 15.0, start_us: float = 0.0
    ) -> None:
        self.call_us, self.launch_us, self.start_us = call_us, launch_us, start_us
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

        return {"kernel": call}

    def capture(self, enqueue):
        self._in_capture, self._recorded_us = True, 0.0
        enqueue()
        self._in_capture = False
        self.captures += 1
        duration_us = self.start_us + self._recorded_us

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
