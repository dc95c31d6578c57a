from __future__ import annotations

from types import SimpleNamespace

import pytest
from bench_collect.points import CopyPoint, DecodePoint, PrefillPoint
from bench_collect.torch_kernels import AttentionLibrary, TorchKernels, attention_library

from blis_sim.errors import ConfigError
from tests.collect_bench.simulated_gpu import (
    HEADS,
    gemm,
    held,
)


class TestAttentionLibrary:
    def torch(self, major: int) -> SimpleNamespace:
        def attention():
            """enable_gqa"""

        functional = SimpleNamespace(scaled_dot_product_attention=attention)
        cuda = SimpleNamespace(get_device_capability=lambda: (major, 0))
        return SimpleNamespace(cuda=cuda, nn=SimpleNamespace(functional=functional))

    @pytest.mark.parametrize(
        ("major", "installed", "expected"),
        [
            (9, {"flash_attn_interface", "flash_attn"}, "fa3"),
            (8, {"flash_attn_interface", "flash_attn"}, "fa2"),
            (9, {"flash_attn"}, "fa2"),
            (9, set(), "sdpa"),
        ],
    )
    def test_auto_takes_the_best_that_is_installed(self, major, installed, expected):
        """FlashAttention 3 on Hopper, else 2, else PyTorch's own."""

        def import_module(name):
            if name not in installed:
                raise ImportError(name)
            return SimpleNamespace()

        assert attention_library(self.torch(major), "auto", import_module).name == expected

    def test_a_library_asked_for_must_be_there(self):
        """The package is named."""

        def import_module(name):
            raise ImportError(f"No module named {name!r}")

        with pytest.raises(ConfigError, match="needs the package 'flash_attn'"):
            attention_library(self.torch(9), "fa2", import_module)
        with pytest.raises(ConfigError, match="--attention must be a known name"):
            attention_library(self.torch(9), "fa4", import_module)


class TestTorchKernels:
    """On the CPU, where PyTorch is installed: the calls compute what they are named after."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch", reason="PyTorch is not installed")

    def kernels(self, torch, *, has_gqa: bool = True) -> TorchKernels:
        torch.manual_seed(0)
        return TorchKernels(torch, "cpu", AttentionLibrary("sdpa", has_gqa=has_gqa))

    def test_gemm_takes_the_weights_of_its_copy(self, torch):
        """Two copies give two results, each x times its own weights."""
        call = self.kernels(torch).prepare(gemm(3, 32, 16), 2)["torch.mm"]
        x, weights = held(call, "x"), held(call, "weights")
        for i in (0, 1):
            expected = x.double() @ weights[i].double().T
            torch.testing.assert_close(call(i).double(), expected, rtol=2e-2, atol=2e-2)

    @pytest.mark.parametrize("has_gqa", [True, False])
    def test_prefill_is_causal_attention_of_grouped_heads(self, torch, has_gqa):
        """The first token sees itself alone; shape (batch, heads, tokens, head_dim)."""
        point = PrefillPoint(HEADS, "bf16", 16, 2)
        call = self.kernels(torch, has_gqa=has_gqa).prepare(point, 1)["flash"]
        out, v = call(0), held(call, "operands")(0)[2]
        assert out.shape == (2, 8, 16, 128)
        group = 8 // v.shape[1]
        torch.testing.assert_close(out[:, :, 0], v.repeat_interleave(group, 1)[:, :, 0])

    def test_decode_rows_are_the_heads_of_one_kv_head(self, torch):
        """Equal to attention of one token whose KV heads are repeated."""
        point = DecodePoint(HEADS, "bf16", 3, 24)
        call = self.kernels(torch).prepare(point, 2)["flash"]
        q, *cache = held(call, "operands")(1)
        query = q.reshape(3, 8, 1, 128)
        k, v = (x.repeat_interleave(4, 1) for x in cache)
        attention = torch.nn.functional.scaled_dot_product_attention
        expected = attention(query.double(), k.double(), v.double())
        result = call(1).reshape(3, 8, 1, 128).double()
        torch.testing.assert_close(result, expected, rtol=2e-2, atol=2e-2)

    def test_copy_moves_half_of_its_bytes_each_way(self, torch):
        """64 bytes: 16 elements of two bytes read, and as many written."""
        call = self.kernels(torch).prepare(CopyPoint(64), 2)["copy_"]
        source, target = held(call, "source"), held(call, "target")
        call(1)
        assert source[1].numel() * source.element_size() == 32
        assert torch.equal(target[1], source[1])

    def test_fp8_quantises_its_input(self, torch):
        """The result is near that of the unquantised input times the fp8 weights."""
        call = self.kernels(torch).prepare(gemm(16, 64, 32, "fp8"), 2)["torch._scaled_mm"]
        x, weights = held(call, "x"), held(call, "weights")
        assert x.dtype == torch.bfloat16
        expected = x.double() @ weights[1].to(torch.float64).T
        error = (call(1).double() - expected).norm() / expected.norm()
        assert 0 < error < 0.05
