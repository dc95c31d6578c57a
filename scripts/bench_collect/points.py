"""What is measured: one call of one kernel, and the table its time goes to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from blis_sim.latency.kernel_tables.points import Columns
from blis_sim.latency.kernel_tables.shapes import HeadShape
from blis_sim.transformer.dtypes import dtype_bytes
from blis_sim.transformer.kernels import DecodeAttention, Gemm, PrefillAttention


@dataclass(frozen=True, slots=True)
class Table:
    """One CSV file of the output.

    ``path`` is relative to the GPU's folder; ``order`` names the columns rows are sorted by.
    """

    operation: str
    path: str
    columns: tuple[str, ...]
    dtype: str
    has_mfu: bool = True
    order: tuple[str, ...] = ()

    @property
    def header(self) -> tuple[str, ...]:
        return (*self.columns, "latency_us", *(("mfu",) if self.has_mfu else ()))

    @property
    def expected(self) -> Columns:
        """What the file must hold when it is read again."""
        return Columns(self.columns, has_mfu=self.has_mfu)

    def sort_key(self, key: tuple[int, ...]) -> tuple[int, ...]:
        order = self.order or self.columns
        return tuple(key[self.columns.index(name)] for name in order)

    @property
    def kind(self) -> str:
        """The path with ``*`` for the shape: the tables of one operation and format."""
        parts = self.path.split("/")
        return "/".join([parts[0], "*", parts[2]]) if len(parts) == 3 else self.path


class Point(Protocol):
    """One row of a table.

    ``rotating_bytes`` are those that must come from memory, as weights and KV cache do, so that
    every call takes another copy of them; ``shared_bytes`` are allocated once.
    """

    @property
    def table(self) -> Table: ...
    @property
    def key(self) -> tuple[int, ...]: ...
    @property
    def flops(self) -> int: ...
    @property
    def moved_bytes(self) -> int: ...
    @property
    def rotating_bytes(self) -> int: ...
    @property
    def shared_bytes(self) -> int: ...


@dataclass(frozen=True)
class GemmPoint:
    """(m x k) times (k x n). Weights rotate; the kernel before has just written the input."""

    dtype: str
    m: int
    k: int
    n: int

    @property
    def table(self) -> Table:
        path = f"gemm_bench/gemm_{self.dtype}.csv"
        return Table("gemm", path, ("m", "k", "n"), self.dtype, order=("n", "k", "m"))

    @cached_property
    def _kernel(self) -> Gemm:
        return Gemm("gemm", self.m, self.k, self.n, weight_dtype=self.dtype)

    @property
    def key(self) -> tuple[int, ...]:
        return self.m, self.k, self.n

    @property
    def flops(self) -> int:
        return self._kernel.flops

    @property
    def moved_bytes(self) -> int:
        return int(self._kernel.bytes)

    @property
    def rotating_bytes(self) -> int:
        return self.k * self.n * dtype_bytes(self.dtype)

    @property
    def shared_bytes(self) -> int:
        # fp8: the input in 16 bits, and quantised.
        input_bytes = 2 if dtype_bytes(self.dtype) == 2 else 3
        return self.m * self.k * input_bytes + self.m * self.n * 2


@dataclass(frozen=True)
class PrefillPoint:
    """Causal attention of ``batch`` prompts of ``seq_len`` tokens.

    Nothing rotates: queries, keys and values are what the kernel before has just written.
    """

    heads: HeadShape
    dtype: str
    seq_len: int
    batch: int

    @property
    def table(self) -> Table:
        folder = "-".join(map(str, self.heads))
        path = f"mha_prefill/{folder}/mha_prefill_{self.dtype}.csv"
        return Table("prefill", path, ("seq_len", "batch"), self.dtype)

    @cached_property
    def _kernel(self) -> PrefillAttention:
        return PrefillAttention("prefill", *self.heads, 0, self.seq_len)

    @property
    def key(self) -> tuple[int, ...]:
        return self.seq_len, self.batch

    @property
    def flops(self) -> int:
        return self.batch * self._kernel.flops

    @property
    def moved_bytes(self) -> int:
        return self.batch * self._kernel.bytes

    @property
    def rotating_bytes(self) -> int:
        return 0

    @property
    def shared_bytes(self) -> int:
        # Without enable_gqa keys and values are repeated to the number of query heads.
        tokens, width = self.batch * self.seq_len, self.heads.num_heads * self.heads.head_dim
        return 4 * tokens * width * dtype_bytes(self.dtype)


@dataclass(frozen=True)
class DecodePoint:
    """Attention of one new token of each of ``batch`` requests to ``kv_len`` tokens."""

    heads: HeadShape
    dtype: str
    batch: int
    kv_len: int

    @property
    def table(self) -> Table:
        folder = "-".join(map(str, self.heads))
        path = f"mha_decode/{folder}/mha_decode_{self.dtype}_tp1.csv"
        return Table("decode", path, ("batch", "kv_len"), self.dtype)

    @cached_property
    def _kernel(self) -> DecodeAttention:
        # The kernel counts the new token of each request itself.
        context = self.batch * (self.kv_len - 1)
        return DecodeAttention("decode", *self.heads, self.batch, context)

    @property
    def key(self) -> tuple[int, ...]:
        return self.batch, self.kv_len

    @property
    def flops(self) -> int:
        return self._kernel.flops

    @property
    def moved_bytes(self) -> int:
        return self._kernel.bytes

    @property
    def rotating_bytes(self) -> int:
        return self._kernel.kv_tokens * self._kernel.bytes_per_kv_token

    @property
    def shared_bytes(self) -> int:
        return 2 * self._kernel.bytes_written


@dataclass(frozen=True)
class CopyPoint:
    """An elementwise kernel: ``bytes`` are those read and written together."""

    bytes: int
    dtype: str = "bf16"

    @property
    def table(self) -> Table:
        return Table("copy", "copy/copy.csv", ("bytes",), self.dtype, has_mfu=False)

    @property
    def key(self) -> tuple[int, ...]:
        return (self.bytes,)

    @property
    def flops(self) -> int:
        return 0

    @property
    def moved_bytes(self) -> int:
        return self.bytes

    @property
    def rotating_bytes(self) -> int:
        return self.bytes

    @property
    def shared_bytes(self) -> int:
        return 0


@dataclass(frozen=True)
class AllReducePoint:
    """A sum over ``tp`` GPUs; ``bytes`` is the buffer, whole on every GPU."""

    bytes: int
    tp: int
    dtype: str = "bf16"

    @property
    def table(self) -> Table:
        path = f"allreduce/allreduce_tp{self.tp}.csv"
        return Table("allreduce", path, ("bytes",), self.dtype, has_mfu=False)

    @property
    def key(self) -> tuple[int, ...]:
        return (self.bytes,)

    @property
    def flops(self) -> int:
        return 0

    @property
    def moved_bytes(self) -> int:
        # A ring sends and receives nearly twice the buffer, through links slower than memory.
        return 16 * self.bytes

    @property
    def rotating_bytes(self) -> int:
        return 0

    @property
    def shared_bytes(self) -> int:
        return 2 * self.bytes
