from __future__ import annotations

import pytest

from blis_sim.capacity.slo import GOODPUT, Limit, parse_slo, slo_words
from blis_sim.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("p99_ttft_ms:500", [("p99_ttft_ms", 500)]),
        ("p99_ttft_ms:500, p95_itl_ms:50", [("p99_ttft_ms", 500), ("p95_itl_ms", 50)]),
        ("mean_tpot_ms:7.5", [("mean_tpot_ms", 7.5)]),
        ("P99.9-TTFT-ms:1e3", [("p99.9_ttft_ms", 1000)]),
        ("median_e2e_ms:9000", [("median_e2el_ms", 9000)]),
        ("goodput:99%", [(GOODPUT, 0.99)]),
        ("goodput_frac:0.99", [(GOODPUT, 0.99)]),
        ("goodput:1", [(GOODPUT, 1)]),
    ],
)
def test_what_is_written(text: str, limits: list[tuple[str, float]]) -> None:
    assert [(limit.metric, limit.value) for limit in parse_slo(text)] == limits


@pytest.mark.parametrize(
    ("metric", "tag", "rank"),
    [
        ("p99_ttft_ms", "ttft", 99),
        ("p99.9_itl_ms", "itl", 99.9),
        ("median_e2el_ms", "e2el", 50),
        ("mean_tpot_ms", "tpot", None),
        (GOODPUT, "", None),
    ],
)
def test_what_is_limited(metric: str, tag: str, rank: float | None) -> None:
    limit = Limit(metric, 1.0)
    assert (limit.tag, limit.rank, limit.is_goodput) == (tag, rank, metric == GOODPUT)


def test_words() -> None:
    limits = parse_slo("p99_ttft_ms:500,mean_e2e_ms:2e4,goodput:99%")
    assert (
        slo_words(limits)
        == "p99 TTFT <= 500 ms, mean E2E <= 20000 ms, goodput >= 0.99 of requests"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^--slo must be metrics and limits with commas .*; got ''$"),
        ("p99_ttft_ms", r"^--slo must be metrics and limits .*p95_itl_ms:50; got 'p99_ttft_ms'$"),
        ("p99_ttft_ms:", r"^--slo must be metrics and limits"),
        ("p99_ttft_ms:5,", r"^--slo must be metrics and limits .*; got ''$"),
        (":5", r"^--slo must be metrics and limits .*; got ':5'$"),
        (
            "p99_ttfd_ms:5",
            r"^--slo metric must be a known name; got 'p99_ttfd_ms'; nearest: p99_t",
        ),
        ("ttft:5", r"^--slo metric must be a known name; got 'ttft'; nearest: "),
        (
            "p99_ttft:5",
            r"^--slo metric must be a known name; got 'p99_ttft'; nearest: p99_ttft_ms",
        ),
        ("p99_queue_ms:5", r"^--slo metric must be a known name; got 'p99_queue_ms'"),
        ("p100_ttft_ms:5", r"^--slo percentile must lie between 0 and 100; got p100_ttft_ms; wr"),
        ("p0_ttft_ms:5", r"^--slo percentile must lie between 0 and 100; got p0_ttft_ms; write p"),
        ("p99_ttft_ms:0", r"^--slo p99_ttft_ms must be above 0 ms; got 0$"),
        ("p99_ttft_ms:-3", r"^--slo p99_ttft_ms must be above 0 ms; got -3$"),
        ("p99_ttft_ms:nan", r"^--slo p99_ttft_ms must be above 0 ms; got nan$"),
        ("p99_ttft_ms:inf", r"^--slo p99_ttft_ms must be above 0 ms; got inf$"),
        ("p99_ttft_ms:5s", r"^--slo p99_ttft_ms must be above 0 ms; got 5s$"),
        ("goodput:99", r"^--slo goodput must be a share .*; got 99; write goodput:99% or goodput"),
        ("goodput:0%", r"^--slo goodput must be a share .*; got 0%; write"),
        ("goodput:nan", r"^--slo goodput must be a share .*; got nan; write"),
        ("p9_itl_ms:5,p9_itl_ms:6", r"^--slo must limit a metric once; got p9_itl_ms twice$"),
        (
            "goodput:9%,goodput_frac:0.5",
            r"^--slo must limit a metric once; got goodput_frac twice",
        ),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_slo(text)


def test_the_flag_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^--targets must be metrics"):
        parse_slo("x", "--targets")
