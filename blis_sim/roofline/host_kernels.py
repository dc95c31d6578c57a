"""What is timed on this machine: arrays that are read, copied and combined, and products.

Bytes are counted as STREAM counts them (McCalpin, 1995): each array that a kernel names once,
not the lines that a store first fetches. numpy gives the interpreter's lock away while it works
on an array, so several threads read and write at once, each its own part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRIAD_BLOCK = 16384
"""Elements of 8 bytes that a step of the triad works on: they stay in the second cache."""


@dataclass(frozen=True, slots=True)
class HostKernel:
    """Something to time.

    Attributes
    ----------
    name : str
        ``read``, ``copy``, ``triad``, ``gemm fp32``, ``gemv fp32``, ...
    call : callable
        Does it once.
    bytes : float
        Bytes of memory it moves; 0 = they do not matter.
    flops : float
        Operations, a multiply-add being two; 0 = they do not matter.
    how : str
        In which way, where there are several.
    is_blas : bool
        Whether the library behind numpy shares the work among its own threads.
    """

    name: str
    call: Callable[[], object]
    bytes: float = 0.0
    flops: float = 0.0
    how: str = ""
    is_blas: bool = False


@contextmanager
def bandwidth_kernels(array_bytes: int, threads: int) -> Iterator[list[HostKernel]]:
    """Give the kernels ``read``, ``copy`` and ``triad``; the memory is given back afterwards.

    There are two of ``read``: which is faster depends on the machine.

    Parameters
    ----------
    array_bytes : int
        Size of each of three arrays, >= 24 bytes per thread.
    threads : int
        Threads that share the work, >= 1.
    """
    import numpy as np

    length = array_bytes // 8
    a, b, c = (np.full(length, value) for value in (0.0, 1.0, 2.0))
    with ThreadPoolExecutor(threads) as pool:

        def shared(kernel: Callable[..., object], *arrays: NDArray[Any]) -> Callable[[], object]:
            parts = list(zip(*(np.array_split(each, threads) for each in arrays), strict=True))
            if threads == 1:
                return partial(kernel, *arrays)
            return lambda: [done.result() for done in [pool.submit(kernel, *p) for p in parts]]

        size = 8.0 * length
        halves = b.view(np.float32)[:length], b.view(np.float32)[length:]
        yield [
            # Of all reductions the largest float32 asks least of the processor. A dot product
            # of both halves reads two streams at once.
            HostKernel("read", shared(np.max, b.view(np.float32)), size, how="largest element"),
            HostKernel("read", partial(np.dot, *halves), size, how="dot product", is_blas=True),
            HostKernel("copy", shared(np.copyto, a, b), 2 * size),
            HostKernel("triad", shared(triad, a, b, c), 3 * size),
        ]


def triad(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> None:
    """Set ``a = b + 3 c``, block by block: each array crosses the bus once."""
    import numpy as np

    for start in range(0, a.size, _TRIAD_BLOCK):
        part = slice(start, start + _TRIAD_BLOCK)
        out = a[part]
        np.multiply(c[part], 3.0, out=out)
        np.add(out, b[part], out=out)


def gemm_kernel(n: int, dtype: str) -> HostKernel:
    """Return the product of two n x n matrices, of ``fp32`` or ``fp64``."""
    import numpy as np

    rng = np.random.default_rng(0)
    kind = {"fp32": np.float32, "fp64": np.float64}[dtype]
    a, b = (rng.random((n, n)).astype(kind) for _ in range(2))
    out = np.empty_like(a)
    call = partial(np.matmul, a, b, out=out)
    return HostKernel(f"gemm {dtype}", call, flops=2.0 * n**3, is_blas=True)


def gemv_kernel(name: str, n: int, k: int, copies: int = 1) -> HostKernel:
    """Return the product of an (n x k) matrix of fp32 with a vector: a layer at batch 1.

    Parameters
    ----------
    name : str
        What it is called.
    n, k : int
        Output and input width, >= 1.
    copies : int
        Matrices used in turn, >= 1, so that none is found in a cache.
    """
    import numpy as np

    weights = [np.full((n, k), 0.5, np.float32) for _ in range(copies)]
    x, y = np.ones(k, np.float32), np.empty(n, np.float32)
    turn = itertools.cycle(weights)

    def call() -> None:
        np.matmul(next(turn), x, out=y)

    moved_bytes = 4.0 * (n * k + n + k)
    return HostKernel(name, call, moved_bytes, 2.0 * n * k, "matrix-vector product", is_blas=True)
