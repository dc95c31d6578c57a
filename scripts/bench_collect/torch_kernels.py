"""The measured kernels, as PyTorch calls over rotating buffers.

``torch`` is passed in: nothing here imports it, and nothing here needs a GPU to be right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blis_sim.errors import ConfigError, unknown_name

from .points import AllReducePoint, CopyPoint, DecodePoint, GemmPoint, Point, PrefillPoint
from .timing import Call, Kernels

LIBRARIES = ("fa3", "fa2", "sdpa")
FUSED = {
    "flash": "FLASH_ATTENTION",
    "cuDNN": "CUDNN_ATTENTION",
    "memory-efficient": "EFFICIENT_ATTENTION",
}
"""PyTorch's attention but for the fallback that writes the scores to memory: engines have none."""


@dataclass(frozen=True, slots=True)
class AttentionLibrary:
    """``module`` is FlashAttention's, None for PyTorch's own attention."""

    name: str
    module: Any = None
    has_gqa: bool = True

    def describe(self, torch: Any) -> str:
        if self.module is not None:
            version = getattr(self.module, "__version__", None)
            number = "3" if self.name == "fa3" else "2"
            return f"FlashAttention {version or number}, contiguous KV cache"
        kernel = "the fastest of its flash, cuDNN and memory-efficient kernels"
        heads = "enable_gqa" if self.has_gqa else "KV heads repeated (no enable_gqa before 2.5)"
        return (
            f"PyTorch {torch.__version__} scaled_dot_product_attention ({kernel}); prefill: "
            f"{heads}; decode: the query heads of a KV head as rows of one query, contiguous KV"
        )


def attention_library(torch: Any, wanted: str, import_module: Callable[[str], Any]) -> Any:
    """Return the library to measure: ``auto`` takes FlashAttention 3, 2, else PyTorch's own."""
    if wanted not in {"auto", *LIBRARIES}:
        raise ConfigError(unknown_name("--attention", wanted, ("auto", *LIBRARIES)))
    for name, module_name in (("fa3", "flash_attn_interface"), ("fa2", "flash_attn")):
        if wanted not in {"auto", name}:
            continue
        # FlashAttention 3 is for Hopper alone.
        if name == "fa3" and wanted == "auto" and torch.cuda.get_device_capability()[0] != 9:
            continue
        try:
            return AttentionLibrary(name, import_module(module_name))
        except ImportError as error:
            if wanted == name:
                raise ConfigError(
                    f"--attention {name} needs the package {module_name!r}, which cannot be "
                    f"imported ({error}); install it, or use --attention sdpa"
                ) from None
    return AttentionLibrary("sdpa", has_gqa=has_enable_gqa(torch))


def has_enable_gqa(torch: Any) -> bool:
    attention = torch.nn.functional.scaled_dot_product_attention
    return "enable_gqa" in (attention.__doc__ or "")


class TorchKernels:
    """Makes the calls of points on one device."""

    def __init__(self, torch: Any, device: str, library: AttentionLibrary) -> None:
        self._torch, self._device, self._library = torch, device, library

    def prepare(self, point: Point, copies: int) -> Kernels:
        """Return the calls of ``point`` on copy i by kernel; they return the result."""
        match point:
            case GemmPoint(dtype="fp8"):
                return {"torch._scaled_mm": self._fp8_gemm(point, copies)}
            case GemmPoint():
                return {"torch.mm": self._gemm(point, copies)}
            case PrefillPoint():
                return self._prefill(point)
            case DecodePoint():
                return self._decode(point, copies)
            case CopyPoint():
                return {"copy_": self._copy(point, copies)}
            case AllReducePoint():
                return {"all_reduce": self._all_reduce(point)}
        raise TypeError(f"no kernel for {type(point).__name__}")

    def _dtype(self, name: str) -> Any:
        return {"bf16": self._torch.bfloat16, "fp16": self._torch.float16}[name]

    def _random(self, dtype: str, *shape: int) -> Any:
        # Never zeros: they draw less power, and the clocks stay higher than with real data.
        empty = self._torch.empty(shape, dtype=self._dtype(dtype), device=self._device)
        return empty.normal_()

    def _gemm(self, point: GemmPoint, copies: int) -> Call:
        torch = self._torch
        x = self._random(point.dtype, point.m, point.k)
        weights = self._random(point.dtype, copies, point.n, point.k)
        out = torch.empty((point.m, point.n), dtype=x.dtype, device=self._device)
        return lambda i: torch.mm(x, weights[i].t(), out=out)

    def _fp8_gemm(self, point: GemmPoint, copies: int) -> Call:
        """The input is quantised in the call, with a scale known before: one pass over it."""
        torch = self._torch
        fp8 = torch.float8_e4m3fn
        x = self._random("bf16", point.m, point.k)
        shape = (copies, point.n, point.k)
        weights = torch.empty(shape, dtype=fp8, device=self._device)
        for i in range(copies):
            weights[i].copy_(self._random("bf16", point.n, point.k))
        one = torch.ones((), dtype=torch.float32, device=self._device)
        quantised = torch.empty_like(x, dtype=fp8)
        out = torch.empty((point.m, point.n), dtype=x.dtype, device=self._device)
        options = {"scale_a": one, "scale_b": one, "out_dtype": x.dtype, "use_fast_accum": True}

        def call(i: int) -> Any:
            quantised.copy_(x)
            return torch._scaled_mm(quantised, weights[i].t(), **options, out=out)

        return call

    def _prefill(self, point: PrefillPoint) -> Kernels:
        heads, tokens = point.heads, (point.batch, point.seq_len)
        if self._library.module is not None:
            attention = self._library.module.flash_attn_func
            q = self._random(point.dtype, *tokens, heads.num_heads, heads.head_dim)
            k, v = (
                self._random(point.dtype, *tokens, heads.num_kv_heads, heads.head_dim)
                for _ in range(2)
            )
            return {self._library.name: lambda _: attention(q, k, v, causal=True)}
        b, s = tokens
        q = self._random(point.dtype, b, heads.num_heads, s, heads.head_dim)
        k, v = (
            self._random(point.dtype, b, heads.num_kv_heads, s, heads.head_dim) for _ in range(2)
        )
        options = {"is_causal": True}
        if heads.num_heads != heads.num_kv_heads:
            if self._library.has_gqa:
                options["enable_gqa"] = True
            else:
                group = heads.num_heads // heads.num_kv_heads
                k, v = (x.repeat_interleave(group, 1) for x in (k, v))
        return self._fused(lambda _: (q, k, v), **options)

    def _decode(self, point: DecodePoint, copies: int) -> Kernels:
        heads, b, s = point.heads, point.batch, point.kv_len
        if self._library.module is not None:
            attention = self._library.module.flash_attn_with_kvcache
            q = self._random(point.dtype, b, 1, heads.num_heads, heads.head_dim)
            cache = self._random(point.dtype, copies, 2, b, s, heads.num_kv_heads, heads.head_dim)
            lengths = self._torch.full((b,), s, dtype=self._torch.int32, device=self._device)

            def call(i: int) -> Any:
                return attention(q, cache[i, 0], cache[i, 1], cache_seqlens=lengths)

            return {self._library.name: call}
        # One token sees all of the cache, so the query heads that share a KV head can be rows of
        # one query without a mask: the cache is read once for all of them.
        group = heads.num_heads // heads.num_kv_heads
        q = self._random(point.dtype, b, heads.num_kv_heads, group, heads.head_dim)
        cache = self._random(point.dtype, copies, 2, b, heads.num_kv_heads, s, heads.head_dim)
        return self._fused(lambda i: (q, cache[i, 0], cache[i, 1]))

    def _fused(self, operands: Callable[[int], tuple[Any, Any, Any]], **options: bool) -> Kernels:
        """Return a call per kernel: PyTorch's choice among them is not always the fastest."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        attention = self._torch.nn.functional.scaled_dot_product_attention

        def call_of(kernel: Any) -> Call:
            def call(i: int) -> Any:
                # A kernel that does not take the operands warns at length why, and fails.
                with warnings.catch_warnings(), sdpa_kernel(kernel):
                    warnings.simplefilter("ignore")
                    return attention(*operands(i), **options)

            return call

        there = {name: getattr(SDPBackend, member, None) for name, member in FUSED.items()}
        return {name: call_of(kernel) for name, kernel in there.items() if kernel is not None}

    def _copy(self, point: CopyPoint, copies: int) -> Call:
        elements = max(1, point.bytes // 4)
        source = self._random(point.dtype, copies, elements)
        target = self._torch.empty_like(source)
        return lambda i: target[i].copy_(source[i])

    def _all_reduce(self, point: AllReducePoint) -> Call:
        # Zeros here: a sum repeated in place overflows, and links do not care what they carry.
        shape, dtype = (point.bytes // 2,), self._dtype(point.dtype)
        buffer = self._torch.zeros(shape, dtype=dtype, device=self._device)
        return lambda _: self._torch.distributed.all_reduce(buffer)
