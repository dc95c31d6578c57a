"""Points from files, and from the times of requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.catalog.models import load_model
from blis_sim.errors import CatalogError, ConfigError
from blis_sim.roofline.points import MeasuredPoint
from blis_sim.roofline.points_file import points_csv, points_json, read_points_file
from blis_sim.roofline.request_point import RequestTimes, points_of_request
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import total_bytes, total_flops

POINTS = [
    MeasuredPoint("gemm<a, b>", 120.5, 310.0, "DRAM", 12.5),
    MeasuredPoint('say "copy"', 0.25, 0.5, "L2"),
]


@pytest.mark.parametrize(("suffix", "write"), [("csv", points_csv), ("json", points_json)])
def test_what_is_written_is_read(suffix: str, write: object, tmp_path: Path) -> None:
    """Names with commas and quotes come back, and so do level and duration."""
    assert callable(write)
    path = tmp_path / f"points.{suffix}"
    path.write_text(write(POINTS), encoding="utf-8")
    assert read_points_file(path) == POINTS


def test_the_least_a_file_says(tmp_path: Path) -> None:
    """Name, intensity and rate; the level is then DRAM. JSON may be the array alone."""
    expected = [MeasuredPoint("a", 2.0, 3.0)]
    path = tmp_path / "points.txt"
    path.write_text("name,oi,tflops\na,2,3\n", encoding="utf-8")
    assert read_points_file(path) == expected
    path = tmp_path / "points.json"
    path.write_text('[{"name": "a", "oi": 2, "tflops": 3}]', encoding="utf-8")
    assert read_points_file(path) == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("name,oi\na,2\n", "missing: tflops"),
        ("name,oi,tflops\na,0,3\n", r"points\.csv:2:oi must be a finite number > 0"),
        ("name,oi,tflops\na,2,-3\n", r"points\.csv:2:tflops must be"),
        ("name,oi,tflops,color\na,2,3,red\n", "got 'color'"),
        ("name,oi,tflops\n", "at least one row"),
    ],
)
def test_wrong_csv(text: str, match: str, tmp_path: Path) -> None:
    """File, line and column are named."""
    path = tmp_path / "points.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError, match=match):
        read_points_file(path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "must be valid JSON"),
        ("3", "must be an array of objects"),
        ("[]", "at least one point"),
        ('[{"name": "a", "oi": 2}]', r"points\.json: measured_points\[0\] must have name"),
        ('[{"name": "a", "oi": 0, "tflops": 1}]', r"measured_points\[0\]\.oi must be"),
    ],
)
def test_wrong_json(text: str, match: str, tmp_path: Path) -> None:
    """The place in the array is named."""
    path = tmp_path / "points.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=match):
        read_points_file(path)


MODEL = "llama-3.1-8b"


def test_a_request_is_the_work_of_its_steps() -> None:
    """FLOPs and bytes are those of the forward passes; the whole is the sum of the phases."""
    times = RequestTimes(seconds=1.0, ttft_s=0.1)
    whole, prefill, decode = points_of_request(
        MODEL, "H100", times, prompt_tokens=512, output_tokens=11, batch=2
    )
    forward = ForwardPass(load_model(MODEL), 1)
    first = forward.kernels(prefills=[(0, 512)] * 2)
    assert prefill.oi == pytest.approx(total_flops(first) / total_bytes(first))
    assert prefill.tflops == pytest.approx(total_flops(first) / 0.1 / 1e12)
    steps = [
        kernel
        for step in range(10)
        for kernel in forward.kernels(num_decodes=2, sum_decode_context=2 * (512 + step))
    ]
    assert decode.oi == pytest.approx(total_flops(steps) / total_bytes(steps))
    assert decode.tflops == pytest.approx(total_flops(steps) / 0.9 / 1e12)
    assert whole.tflops == pytest.approx(0.1 * prefill.tflops + 0.9 * decode.tflops)
    assert [point.name for point in (whole, prefill, decode)] == [
        *("request", "request prefill", "request decode")
    ]


def test_decode_of_one_request_is_about_one_flop_per_byte() -> None:
    """16-bit weights are read for two FLOPs each."""
    times = RequestTimes(ttft_s=0.05, tpot_s=0.01)
    _, _, decode = points_of_request(MODEL, "H100", times, prompt_tokens=100, output_tokens=3)
    assert 0.9 < decode.oi < 1.1
    assert decode.duration_us == pytest.approx(20_000)


def test_messages_are_not_bytes_of_the_memory() -> None:
    """On two GPUs each does half, and the all-reduces do not count."""
    times = RequestTimes(seconds=1.0)
    (one,) = points_of_request(MODEL, "H100", times, prompt_tokens=1000, output_tokens=1)
    (two,) = points_of_request(MODEL, "H100", times, prompt_tokens=1000, output_tokens=1, tp=2)
    assert two.tflops == pytest.approx(one.tflops / 2, rel=1e-3)
    forward = ForwardPass(load_model(MODEL), 2)
    kernels = forward.kernels(prefills=[(0, 1000)])
    assert two.oi > total_flops(kernels) / total_bytes(kernels)


@pytest.mark.parametrize(
    ("times", "match"),
    [
        (RequestTimes(), "seconds must be given, or ttft_s and tpot_s"),
        (RequestTimes(ttft_s=0.1), "seconds must be given"),
        (RequestTimes(seconds=0.0), "seconds must be a number of seconds above 0"),
        (RequestTimes(seconds=1.0, ttft_s=1.0), "seconds must be above ttft_s = 1"),
        (RequestTimes(seconds=5.0, ttft_s=0.1, tpot_s=0.1), "tpot_s = 1, within 5 %"),
    ],
)
def test_times_that_do_not_fit(times: RequestTimes, match: str) -> None:
    """What is missing or contradicts itself is said."""
    with pytest.raises(ConfigError, match=match):
        points_of_request(MODEL, "H100", times, prompt_tokens=100, output_tokens=10)


def test_counts_that_are_none() -> None:
    """Lengths and batch are at least one."""
    times = RequestTimes(seconds=1.0)
    with pytest.raises(ConfigError, match="prompt_tokens must be a whole number >= 1; got 0"):
        points_of_request(MODEL, "H100", times, prompt_tokens=0, output_tokens=10)
