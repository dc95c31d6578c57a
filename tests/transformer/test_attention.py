"""Attention kernels: pairs, FLOPs and bytes of prefill and decode, with and without window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.transformer.attention import (
    DecodeAttention,
    MlaDecodeAttention,
    MlaPrefillAttention,
    PrefillAttention,
    twice_causal_pairs,
)

windows = st.none() | st.integers(1, 300)


def make_prefill(
    context: int, new: int, window: int | None = None, **kwargs: str
) -> PrefillAttention:
    return PrefillAttention("prefill", 32, 8, 128, context, new, window, **kwargs)  # type: ignore[arg-type]


def make_decode(
    batch: int, total: int, window: int | None = None, **kwargs: str
) -> DecodeAttention:
    return DecodeAttention("decode", 32, 8, 128, batch, total, window, **kwargs)  # type: ignore[arg-type]


@given(context=st.integers(0, 300), new=st.integers(1, 300), window=windows)
def test_pairs_against_counting_them(context: int, new: int, window: int | None) -> None:
    """Query i meets min(i + 1, window) keys; the convention leaves out half a pair a query."""
    counted = sum(min(i + 1, window or i + 1) for i in range(context, context + new))
    pairs = twice_causal_pairs(context, new, window) / 2
    assert counted - new / 2 <= pairs <= counted


@given(
    context=st.integers(0, 300), first=st.integers(1, 300), second=st.integers(1, 300), w=windows
)
def test_chunks_add_up(context: int, first: int, second: int, w: int | None) -> None:
    """A prompt in two chunks costs the FLOPs of the whole."""
    whole = make_prefill(context, first + second, w)
    chunks = (make_prefill(context, first, w), make_prefill(context + first, second, w))
    assert whole.flops == sum(chunk.flops for chunk in chunks)


def test_prefill_by_hand() -> None:
    """Without context half of 4 H h n^2; Q, K, V and the result move once."""
    kernel = make_prefill(0, 1024)
    assert kernel.flops == 4 * 32 * 128 * 1024 * 1024 // 2
    assert kernel.bytes_read == 2 * 1024 * 128 * (32 + 2 * 8)
    assert kernel.bytes_written == 2 * 1024 * 128 * 32
    later = make_prefill(3000, 1000)
    assert later.flops == 4 * 32 * 128 * (1000 * 3000 + 1000 * 1000 // 2)
    assert later.kv_tokens == 4000
    assert later.bytes == 2 * 128 * (2 * 1000 * 32 + 2 * 4000 * 8)


def test_window_of_prefill_by_hand() -> None:
    """Far from the start every query meets the window, and no more context is read."""
    kernel = make_prefill(5000, 100, window=128)
    assert kernel.flops == 4 * 32 * 128 * 100 * 128
    assert kernel.kv_tokens == 128 + 100
    assert make_prefill(20, 100, window=128).flops == make_prefill(20, 100).flops
    # From 100 to 200 with a window of 128: 100..128 grow, the other 72 meet all of it.
    across = make_prefill(100, 100, window=128)
    assert across.flops == 2 * 32 * 128 * ((128**2 - 100**2) + 2 * 72 * 128)


def test_decode_by_hand() -> None:
    """Each request attends to its context and its new token: 4 H h and 2 K h b a token."""
    kernel = make_decode(3, 3000)
    assert kernel.kv_tokens == 3003
    assert kernel.flops == 4 * 32 * 128 * 3003 == kernel.flops_per_kv_token * 3003
    assert kernel.bytes_per_kv_token == 2 * 8 * 128 * 2
    assert kernel.bytes == 2 * 3 * 32 * 128 * 2 + 3003 * 2 * 8 * 128 * 2


def test_zero_context() -> None:
    """A decode without context attends to its own token alone."""
    assert make_decode(2, 0).kv_tokens == 2
    assert make_decode(2, 0).flops == 2 * 4 * 32 * 128


@given(contexts=st.lists(st.integers(0, 600), min_size=1, max_size=20), w=st.integers(1, 300))
def test_window_of_decode_is_a_tight_bound(contexts: list[int], w: int) -> None:
    """The sum alone bounds what each request attends to; equal where all are on one side."""
    exact = sum(min(context + 1, w) for context in contexts)
    bound = make_decode(len(contexts), sum(contexts), w).kv_tokens
    assert bound >= exact
    if all(c + 1 <= w for c in contexts) or all(c + 1 >= w for c in contexts):
        assert bound == exact


def test_fp8_cache_halves_only_the_cache() -> None:
    """Queries and results stay 16 bit, and so does the arithmetic."""
    wide, narrow = make_decode(3, 3000), make_decode(3, 3000, kv_dtype="fp8")
    assert wide.bytes - narrow.bytes == 3003 * 2 * 8 * 128
    assert narrow.compute_dtype == "bf16"
    wide_prefill, narrow_prefill = make_prefill(10, 90), make_prefill(10, 90, kv_dtype="fp8")
    assert wide_prefill.bytes - narrow_prefill.bytes == 100 * 2 * 8 * 128
    assert narrow_prefill.compute_dtype == "bf16"


def test_latent_prefill_by_hand() -> None:
    """DeepSeek-V3's heads: 192 wide for the scores, 128 for the values."""
    kernel = MlaPrefillAttention("prefill", 16, 192, 128, 500, 1000)
    pairs = 1000 * 500 + 1000 * 1000 // 2
    assert kernel.flops == 2 * 16 * (192 + 128) * pairs
    assert kernel.bytes_read == 2 * 16 * (1000 * 192 + 1500 * (192 + 128))
    assert kernel.bytes_written == 2 * 16 * 1000 * 128
    assert kernel.compute_dtype == "bf16"


def test_latent_decode_by_hand() -> None:
    """One vector of 576 per token serves all heads: 576 for scores, 512 for values."""
    kernel = MlaDecodeAttention("decode", 16, 512, 64, 4, 4000)
    assert kernel.flops == 2 * 16 * (576 + 512) * 4004
    assert kernel.bytes_per_kv_token == 576 * 2
    assert kernel.bytes == 2 * (4 * 16 * 576 + 4004 * 576 + 4 * 16 * 512)
    assert kernel.compute_dtype == "bf16"
    fp8 = MlaDecodeAttention("decode", 16, 512, 64, 4, 4000, kv_dtype="fp8")
    assert kernel.bytes - fp8.bytes == 4004 * 576


@pytest.mark.parametrize("window", [None, 128])
def test_decode_needs_more_bytes_per_flop_than_prefill(window: int | None) -> None:
    """A decode is bound by memory: its intensity is about the query heads per KV head."""
    decode, prefill = make_decode(64, 64 * 8192, window), make_prefill(0, 8192, window)
    assert decode.flops / decode.bytes == pytest.approx(32 / 8, rel=0.1)
    assert prefill.flops / prefill.bytes > 10 * decode.flops / decode.bytes
