"""Block-quantised weights: true bytes, and FLOPs kept apart from multiply-adds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blis_sim.catalog.models import load_model
from blis_sim.catalog.quantization import known_methods
from blis_sim.cli.main import main
from blis_sim.errors import ConfigError
from blis_sim.roofline.block_formats import block_format, block_formats, format_rows
from blis_sim.roofline.format_bounds import format_bounds, weights_read

BITS = {
    "bf16": 16,
    "Q8_0": 8.5,
    "fp8": 8,
    "Q6_K": 6.5625,
    "Q5_1": 6,
    "Q5_K": 5.5,
    "Q5_0": 5.5,
    "Q4_1": 5,
    "Q4_K": 4.5,
    "Q4_0": 4.5,
    "Q3_K": 3.4375,
    "Q2_K": 2.625,
}


@pytest.mark.parametrize(("name", "bits"), BITS.items())
def test_bits_per_weight(name: str, bits: float) -> None:
    """Bytes of a block over its weights, times 8: the figures the formats are known by."""
    assert block_format(name).bits_per_weight == bits


def test_q8_0_in_flops_and_in_macs() -> None:
    """34 bytes per 32 weights: 0.94 multiply-adds per byte, which are 1.88 FLOPs."""
    q8_0 = block_format("q8-0")
    assert round(q8_0.gemv_macs_per_byte, 2) == 0.94
    assert round(q8_0.gemv_flops_per_byte, 2) == 1.88
    assert ("Q8_0", "32", "34", "8.5", "1.88", "0.94") in format_rows()


def test_awq_is_that_of_the_catalog() -> None:
    """A format the latency models know takes the bytes they count."""
    awq = known_methods()["awq"]
    assert block_format("int4-awq").bits_per_weight == awq.weight_bits + awq.scale_bits


def test_layouts_add_up() -> None:
    """The bytes named in a layout are those of the block, and the widest format comes first."""
    q6_k = block_format("Q6_K")
    assert q6_k.bytes_per_block == 128 + 64 + 16 + 2
    assert block_format("Q3_K").bytes_per_block == 32 + 64 + 12 + 2
    assert block_format("Q2_K").bytes_per_block == 16 + 64 + 4
    widths = [known.bits_per_weight for known in block_formats()]
    assert widths == sorted(widths, reverse=True)


def test_a_product_of_many_rows_reads_the_weights_once() -> None:
    """By hand: 2 x 64 x 4096^2 FLOPs over 4096^2 x 34/32 + 64 x 8192 x 2 bytes = 113.7."""
    assert block_format("Q8_0").gemm_flops_per_byte(64, 4096, 4096) == pytest.approx(
        2 * 64 * 4096**2 / (17_825_792 + 1_048_576)
    )
    with pytest.raises(ConfigError, match="sizes >= 1"):
        block_format("Q8_0").gemm_flops_per_byte(0, 4096, 4096)


def test_unknown_format() -> None:
    """The nearest names are listed."""
    with pytest.raises(ConfigError, match=r"format must be a known name; got 'Q4_M'; .*Q4_"):
        block_format("Q4_M")


def test_what_a_token_reads() -> None:
    """Llama-3.1-8B without its embedding table, by hand; a bandwidth makes it a rate."""
    layer = 4096 * (6144 + 4096) + 3 * 4096 * 14336
    weights = 32 * layer + 4096 * 128256
    model = load_model("llama-3.1-8b")
    assert weights_read(model) == weights
    (bound,) = format_bounds(model, 100.0, [block_format("Q8_0")])
    assert bound.weight_bytes == pytest.approx(weights * 34 / 32)
    assert bound.tokens_per_s == pytest.approx(100e9 / (weights * 34 / 32))
    assert format_bounds(model)[0].tokens_per_s is None
    with pytest.raises(ConfigError, match="bandwidth must be above 0"):
        format_bounds(model, 0.0)


def test_of_experts_only_those_of_a_token_are_read() -> None:
    """Two of Mixtral's eight: about 12.9 of its 46.7 billion parameters."""
    assert weights_read(load_model("mixtral-8x7b")) == pytest.approx(12.75e9, rel=0.01)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table with both counts, the rate a measured machine allows, and JSON."""
    assert main(["roofline", "formats", "q8_0"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        *("Q8_0", "32", "34", "8.5", "1.88", "0.94")
    ]
    profile = tmp_path / "profile.json"
    rate = {"spread_frac": 0, "runs": 3, "call_s": 1, "median_s": 1, "longer_run_s": 1}
    values = {
        "format": "blis-machine-profile",
        "machine": "box",
        "measured_at": "today",
        "software": "none",
        "threads": 1,
        "blas_threads": 1,
        "blas_threads_from": "assumed",
        "cache_bytes": 1,
        "array_bytes": 1,
        "rates": [
            {"name": "read", "gb_per_s": 80.0, "threads": 1, **rate},
            {"name": "gemm fp32", "tflops": 1.0, "threads": 1, **rate},
        ],
    }
    profile.write_text(json.dumps(values), encoding="utf-8")
    arguments = ["--model", "llama-3.1-8b", "--machine", str(profile)]
    assert main(["roofline", "formats", "bf16", *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-2:] == ["15", "5.33"]
    assert main(["roofline", "formats", "--json", *arguments]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown) == len(block_formats())
    assert shown[1]["tokens_per_s"] == pytest.approx(5.33, abs=0.01)
    assert main(["roofline", "formats", "--machine", str(profile)]) == 2
    assert "--machine must be given with --model" in capsys.readouterr().err
