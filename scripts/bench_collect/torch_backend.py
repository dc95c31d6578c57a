"""PyTorch on a CUDA device: what is missing, the device's facts, events and graphs."""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from blis_sim.errors import ConfigError

from .memory import CACHE_FACTOR, Memory
from .points import Point
from .timing import Backend, Kernels
from .torch_kernels import AttentionLibrary, TorchKernels, attention_library

_DRY_RUN = "--dry-run shows the plan without it"
_STATE = (
    "driver_version,pstate,clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,"
    "temperature.gpu"
)


def load_torch() -> Any:
    """Return PyTorch when it is there and sees a GPU.

    Raises
    ------
    ConfigError
        It is not installed, or sees no GPU; with what to do about it.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ConfigError(
            f"measuring needs PyTorch, which cannot be imported ({error}); install a CUDA build: "
            f"pip install torch (see https://pytorch.org/get-started/locally); {_DRY_RUN}"
        ) from None
    if torch.cuda.is_available():
        return torch
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        reason = "is a build without CUDA: install a CUDA build from https://pytorch.org"
    else:
        reason = "sees no GPU: check nvidia-smi, the driver and CUDA_VISIBLE_DEVICES"
    raise ConfigError(f"measuring needs a GPU; PyTorch {torch.__version__} {reason}; {_DRY_RUN}")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The GPU and the software that measures it."""

    name: str
    capability: tuple[int, int]
    l2_bytes: int
    free_bytes: int
    total_bytes: int
    torch_version: str
    cuda_version: str
    uuid: str | None

    @property
    def memory(self) -> Memory:
        return Memory(self.free_bytes, self.l2_bytes)


def device_facts(torch: Any) -> DeviceFacts:
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    uuid = getattr(properties, "uuid", None)
    return DeviceFacts(
        name=properties.name,
        capability=(properties.major, properties.minor),
        l2_bytes=int(getattr(properties, "L2_cache_size", 0)) or 128 * 10**6,
        free_bytes=free_bytes,
        total_bytes=total_bytes,
        torch_version=torch.__version__,
        cuda_version=str(torch.version.cuda or getattr(torch.version, "hip", None)),
        uuid=None if uuid is None else str(uuid).removeprefix("GPU-"),
    )


def default_dtypes(torch: Any, facts: DeviceFacts) -> list[str]:
    """Return what the device multiplies: bf16 (fp16 before Ampere), and fp8 where it can."""
    is_nvidia = torch.version.cuda is not None
    dtypes = ["fp16" if is_nvidia and facts.capability < (8, 0) else "bf16"]
    if is_nvidia and facts.capability >= (8, 9) and hasattr(torch, "_scaled_mm"):
        dtypes.append("fp8")
    return dtypes


def device_state(facts: DeviceFacts) -> str:
    """Return clocks, power, temperature as nvidia-smi gives them; it changes nothing."""
    select = [] if facts.uuid is None else [f"--id=GPU-{facts.uuid}"]
    command = ["nvidia-smi", *select, f"--query-gpu={_STATE}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        values = done.stdout.splitlines()[0].split(",")
    except (OSError, subprocess.SubprocessError, IndexError):
        return "not available (nvidia-smi does not answer)"
    names = _STATE.split(",")
    return ", ".join(f"{n} {v.strip()}" for n, v in zip(names, values, strict=False))


class TorchBackend:
    """``timing.Backend`` with CUDA events and CUDA graphs.

    Everything runs on one stream of its own, on which graphs can be captured (on the default
    stream they cannot), so that workspaces of the libraries are there before a capture begins.
    """

    def __init__(
        self, torch: Any, facts: DeviceFacts, library: AttentionLibrary, num_processes: int = 1
    ) -> None:
        self._torch = torch
        self._kernels = TorchKernels(torch, "cuda", library)
        self._num_processes = num_processes
        self._stream = torch.cuda.Stream()
        self._most_reserved_bytes = facts.free_bytes // 2
        self._graph: Any = None
        with self._on_stream():
            size = CACHE_FACTOR * facts.l2_bytes // 4
            self._sweep = torch.ones(size, dtype=torch.float32, device="cuda")

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        with self._torch.cuda.stream(self._stream), self._torch.inference_mode():
            yield

    def prepare(self, point: Point, copies: int) -> Kernels:
        with self._on_stream():
            return self._kernels.prepare(point, copies)

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        # Not torch.cuda.graph: it collects garbage and empties the allocator's cache each time,
        # which takes longer than measuring a point.
        graph = self._torch.cuda.CUDAGraph()
        with self._on_stream():
            self._torch.cuda.synchronize()
            # Other threads (NCCL's) may go on meanwhile.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                enqueue()
            except BaseException:
                with suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        self._graph = graph
        replay: Callable[[], None] = graph.replay
        return replay

    def time_us(self, enqueue: Callable[[], None], repetitions: int) -> list[float]:
        """Enqueue all repetitions, then wait: the host runs ahead while the GPU sweeps.

        The sweep reads: written lines would still be on their way to memory during the calls.
        """
        cuda = self._torch.cuda
        events = [
            (cuda.Event(enable_timing=True), cuda.Event(enable_timing=True))
            for _ in range(repetitions)
        ]
        with self._on_stream():
            for start, end in events:
                self._sweep.sum()
                start.record()
                enqueue()
                end.record()
            cuda.synchronize()
        return [1e3 * start.elapsed_time(end) for start, end in events]

    def agree(self, value: float) -> float:
        if self._num_processes == 1:
            return value
        distributed = self._torch.distributed
        with self._on_stream():
            shared = self._torch.tensor([value], dtype=self._torch.float64, device="cuda")
            distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
            return float(shared.item())

    def release(self) -> None:
        """Let go of the graph; the memory stays with the allocator unless it has much.

        What a graph allocated is of no use to the next one: it must be given back in time.
        """
        self._graph = None
        if self._torch.cuda.memory_reserved() > self._most_reserved_bytes:
            self._torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU ready to be measured, in one of ``num_processes`` processes."""

    facts: DeviceFacts
    backend: Backend
    dtypes: tuple[str, ...]
    attention: str
    state: Callable[[], str]
    rank: int = 0
    num_processes: int = 1


def open_device(attention: str) -> Device:
    """Return the GPU at hand.

    Raises
    ------
    ConfigError
        PyTorch, a GPU or the attention library asked for is not there.
    """
    torch = load_torch()
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    rank = _start_group(torch) if num_processes > 1 else 0
    facts = device_facts(torch)
    library = attention_library(torch, attention, importlib.import_module)
    return Device(
        facts=facts,
        backend=TorchBackend(torch, facts, library, num_processes),
        dtypes=tuple(default_dtypes(torch, facts)),
        attention=library.describe(torch),
        state=lambda: device_state(facts),
        rank=rank,
        num_processes=num_processes,
    )


def _start_group(torch: Any) -> int:
    """Join the processes torchrun has started; return this one's rank."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise ConfigError(
            f"torchrun must start one process per GPU; got process {local} and "
            f"{torch.cuda.device_count()} GPUs; lower --nproc-per-node"
        )
    torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl")
    return int(torch.distributed.get_rank())
