"""What is known of the errors of a run's latencies."""

from __future__ import annotations

import pytest

from blis_sim import load_scenario, simulate
from blis_sim.catalog.error_bands import RANGES, ErrorBand, FigureErrors, Range
from blis_sim.metrics.accuracy import (
    Accuracy,
    AccuracyStatus,
    ServedLoad,
    accuracy_of,
    served_load,
)
from blis_sim.metrics.context import DeployedKind
from blis_sim.report.table import render_table
from tests.metrics.builders import dropped, make_result, make_run, served

MEASURED = {
    "tensor_parallel_size": (1, 4),
    "num_instances": (1, 1),
    "billion_parameters": (7, 70),
    "prompt_tokens": (200, 1200),
    "output_tokens": (64, 1400),
    "requests_in_flight": (1, 80),
}


def band(*, mape_pct: float = 5.0, num_deployments: int = 7, **more: object) -> ErrorBand:
    known: dict[str, object] = {
        "latency_model": "roofline-v2",
        "gpu": "H100",
        "architecture": "dense",
        "num_deployments": num_deployments,
        "num_experiments": 9,
        "source": "runs.csv",
        "quantizations": ("none",),
        "errors": {
            "ttft_mean": FigureErrors(2 * mape_pct, -mape_pct, -30.0, 20),
            "tpot_mean": FigureErrors(mape_pct, 1.0, 9.0, 20),
        },
        "ranges": {name: Range(*MEASURED[name]) for name in RANGES},
    }
    return ErrorBand(**(known | more))  # type: ignore[arg-type]


def kind(**more: object) -> DeployedKind:
    known: dict[str, object] = {
        "latency_model": "roofline-v2",
        "gpu": "H100",
        "architecture": "dense",
        "tensor_parallel_size": 1,
        "num_parameters": 8_000_000_000,
    }
    return DeployedKind(**(known | more))  # type: ignore[arg-type]


def load(**more: float) -> ServedLoad:
    known = {
        "prompt_tokens": 500.0,
        "output_tokens": 200.0,
        "requests_in_flight": 10.0,
        "num_instances": 1.0,
    }
    return ServedLoad(**(known | more))


BANDS = (band(gpu="all", mape_pct=6, num_deployments=10), band())


def accuracy(bands: tuple[ErrorBand, ...] = BANDS, **more: object) -> Accuracy:
    found = accuracy_of([kind(**more)], load(), bands)
    assert found is not None
    return found


def test_a_deployment_like_those_measured() -> None:
    """The errors of its GPU and architecture, and on how many servers they rest."""
    found = accuracy()
    assert found.status is AccuracyStatus.VALIDATED
    assert found.text == "validated: TTFT ±10 %, TPOT ±5 % (mean errors; 7 H100 servers, dense)"
    document = found.to_json_dict()
    assert document["outside"] == []
    assert document["band"]["errors"]["ttft_mean"] == {
        "mape_pct": 10.0,
        "bias_pct": -5.0,
        "worst_pct": -30.0,
        "num_rows": 20,
    }
    assert document["band"]["ranges"]["prompt_tokens"] == {"lowest": 200, "highest": 1200}
    assert document["facts"]["billion_parameters"] == 8


def test_few_servers_are_said() -> None:
    assert "(mean errors; 1 H100 server only, dense)" in accuracy((band(num_deployments=1),)).text
    assert "(mean errors; 2 H100 servers only, dense)" in accuracy((band(num_deployments=2),)).text


@pytest.mark.parametrize(
    ("facts", "outside"),
    [
        ({"gpu": "B200"}, "no B200 server measured"),
        ({"tensor_parallel_size": 8}, "TP 8 above 4"),
        ({"architecture": "moe"}, "no MoE model measured on H100; no MoE model measured"),
        ({"quantization": "fp8"}, "no fp8 weights measured"),
        ({"kv_cache_dtype": "fp8"}, "no fp8 KV cache measured"),
        ({"num_parameters": 671e9}, "671 billion parameters above 70"),
        ({"own_settings": ("bench_data_path",)}, "latency.bench_data_path of your own"),
    ],
)
def test_what_lies_outside_is_named(facts: dict[str, object], outside: str) -> None:
    """The nearest entry gives the errors."""
    found = accuracy(**facts)
    assert found.status is AccuracyStatus.EXTRAPOLATED
    assert "; ".join(found.outside) == outside
    assert found.text.startswith(f"extrapolated: {outside}; where measured: TTFT ±")


@pytest.mark.parametrize(
    ("facts", "outside"),
    [
        ({"prompt_tokens": 30_000.0}, "prompts of 30,000 tokens above 1,200"),
        ({"output_tokens": 2.0}, "answers of 2 tokens below 64"),
        ({"requests_in_flight": 250.0}, "250 requests in flight above 80"),
        ({"num_instances": 2.0}, "2 instances above 1"),
        ({"prompt_tokens": 1499.0, "output_tokens": 52.0, "requests_in_flight": 0.81}, ""),
    ],
)
def test_loads_outside_are_named(facts: dict[str, float], outside: str) -> None:
    """A quarter beyond the ends still counts as inside, of all that is not a whole number."""
    found = accuracy_of([kind()], load(**facts), BANDS)
    assert found is not None
    assert "; ".join(found.outside) == outside


def test_another_gpu_has_the_errors_of_all() -> None:
    found = accuracy(gpu="B200")
    assert found.band == BANDS[0]
    assert found.text.endswith("±12 %, TPOT ±6 % (mean errors; 10 servers, all GPUs, dense)")


def test_a_model_that_was_not_compared() -> None:
    found = accuracy(latency_model="blackbox")
    assert found.status is AccuracyStatus.NOT_VALIDATED
    assert found.text == "not validated: blackbox was not compared with measured servers"
    assert found.to_json_dict()["band"] is None


def test_of_several_kinds_the_worst_counts() -> None:
    """And one of which nothing is known is the worst."""
    bands = (*BANDS, band(gpu="L40S", mape_pct=9))
    found = accuracy_of([kind(), kind(gpu="L40S")], load(), bands)
    assert found is not None
    assert found.band == bands[-1]
    assert found.outside == ("no instances of several kinds measured together",)
    found = accuracy_of([kind(), kind(latency_model="roofline-v1")], load(), bands)
    assert found is not None
    assert found.status is AccuracyStatus.NOT_VALIDATED


def test_nothing_served_has_no_accuracy() -> None:
    assert accuracy_of([kind()], None, BANDS) is None
    assert accuracy_of([], load(), BANDS) is None
    assert served_load(make_run([dropped()]).requests, None, 1) is None
    assert make_result([dropped()], kinds=(kind(),)).accuracy is None


def test_the_load_by_hand() -> None:
    """Two requests of 2 s each within 3 s: 4/3 in flight, on two instances 2/3 each."""
    rows = [
        served(0, ttft_us=1_000_000, gaps_us=[1_000_000], prompt_tokens=10),
        served(1_000_000, ttft_us=1_000_000, gaps_us=[500_000, 500_000], prompt_tokens=30),
        dropped(0),
    ]
    found = served_load(make_run(rows).requests, None, 2)
    assert found == ServedLoad(20.0, 2.5, pytest.approx(2 / 3), 2)


def test_the_line_stands_below_the_table() -> None:
    """Before the notes; numbers are not parted from their signs."""
    lines = render_table(make_result(kinds=(kind(latency_model="x"),))).splitlines()
    rule = lines.index("=" * 50)
    assert lines[rule + 1] == "not validated: x was not compared with measured servers"


def test_a_cluster_has_the_kinds_of_its_pools() -> None:
    """Each once; what is given for all pools, and for one alone, is named."""
    pools = [
        {"name": "a", "num_instances": 2, "latency": {"alpha": [1000, 0, 0]}},
        {"name": "b", "hardware": "L40S"},
        {"name": "c", "hardware": "L40S"},
    ]
    for pool in pools:
        pool.setdefault("latency", {})
        pool["latency"] |= {"alpha": [1000, 0, 0], "beta": [5000, 10, 100]}  # type: ignore[operator]
    pools[0]["engine"] = {"tensor_parallel_size": 2}
    load = {"num_requests": 6, "request_rate": 5, "prompt": 8, "output": 2}
    result = simulate(load_scenario({"workload": load, "cluster": {"pools": pools}}))
    found = [(each.gpu, each.tensor_parallel_size) for each in result.context.kinds]
    assert found == [("H100", 2), ("L40S", 1)]
    assert {each.own_settings for each in result.context.kinds} == {("alpha", "beta")}
    accuracy = result.accuracy
    assert accuracy is not None
    assert accuracy.facts["num_instances"] == 4
    assert accuracy.status is AccuracyStatus.NOT_VALIDATED
    assert result.to_json_dict()["accuracy"]["text"] == accuracy.text
