from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from blis_sim.errors import ConfigError
from blis_sim.metrics.context import GatewayContext
from blis_sim.metrics.plain import canonical_sha256
from blis_sim.metrics.result import RunInfo
from tests.metrics.builders import (
    dropped,
    make_cluster_result,
    make_context,
    make_counters,
    make_pool,
    make_result,
    make_run,
    served,
)


def test_manifest_says_where_the_numbers_come_from() -> None:
    """Scenario, hash, seed, versions, latency model with reason and data, KV source."""
    manifest = make_result(notices=["pool lowered"]).manifest
    assert manifest["scenario_sha256"] == canonical_sha256(manifest["scenario"])
    assert manifest["seed"] == 7
    assert manifest["blis_sim_version"] == "0.1.0"
    assert manifest["latency_model"] == "blackbox"
    assert manifest["latency_model_reason"] == "a coefficient row for this model, GPU and TP"
    assert manifest["latency_model_source"] == "configs/coefficients.csv"
    assert manifest["latency_model_alternatives"] == ["roofline-v1"]
    assert manifest["engine_settings"]["max_num_seqs"] == 1024
    assert manifest["notices"] == ["pool lowered"]


def test_pools_of_a_cluster() -> None:
    """The manifest lists the pools, and the GPUs of all of them are counted."""
    pools = (
        make_pool("p", role="prefill", num_instances=2),
        make_pool("d", role="decode", gpu="A100-80GB", tensor_parallel_size=4, num_instances=3),
    )
    result = make_result(pools=pools, tensor_parallel_size=1, num_instances=5)
    assert result.context.num_gpus == 2 * 1 + 3 * 4
    assert [pool["name"] for pool in result.manifest["pools"]] == ["p", "d"]
    assert result.manifest["pools"][1]["gpu"] == "A100-80GB"
    assert result.manifest["pools"][0]["engine_settings"]["max_num_seqs"] == 1024
    assert make_result(tensor_parallel_size=2, num_instances=2).context.num_gpus == 4
    assert result.context.deployment == (
        "meta-llama/Llama-3.1-8B-Instruct on 14 GPUs: 2 x H100 TP1 (p, prefill), "
        "3 x A100-80GB TP4 (d, decode)"
    )
    assert make_result().manifest["pools"] == []


def test_manifest_says_how_requests_get_to_the_pools() -> None:
    """Routing and queue in words; nothing without a cluster."""
    gateway = GatewayContext(routing="round-robin", queue="reject-all")
    assert make_result(gateway=gateway).manifest["gateway"] == {
        "routing": "round-robin",
        "queue": "reject-all",
        "disaggregation": "",
        "max_outstanding_per_instance": None,
    }
    assert make_result().manifest["gateway"] is None


def test_deployment_in_words() -> None:
    """A single pool reads as an instance does; pools of several models name them."""
    one = make_context(pools=[make_pool(min_instances=2, max_instances=8)], gpu="H100")
    assert one.deployment == "meta-llama/Llama-3.1-8B-Instruct on H100, TP 1, 2 to 8 instances"
    pools = [make_pool("chat", num_instances=3), make_pool("code", model="coder")]
    assert make_context(pools=pools, model=pools[0].model).deployment.endswith(
        "on 4 GPUs: 3 x H100 TP1 (chat), 1 x coder on H100 TP1 (code)"
    )
    assert make_context(num_instances=1).deployment.endswith("on H100, TP 1, 1 instance")


def test_servers_of_several_ranks_in_words() -> None:
    """A server counts once, its ranks are named; all their GPUs count."""
    ranks = make_pool(num_instances=2, data_parallel_size=2)
    one = make_context(pools=[ranks])
    assert one.deployment.endswith("on H100, TP 1, 1 instance of 2 data-parallel ranks")
    servers = make_pool("a", num_instances=4, data_parallel_size=2)
    assert make_context(pools=[servers, make_pool("b")]).deployment.endswith(
        "on 5 GPUs: 2 x H100 TP1 DP2 (a), 1 x H100 TP1 (b)"
    )


def test_wall_clock_facts_stand_apart() -> None:
    """Two results of one run differ only in run_info and in vLLM's date."""
    run = make_run([served(gaps_us=[3])], counters=[make_counters(num_events=9)])
    one, two = make_result(run=run), make_result(run=run)
    two._run_info = RunInfo.collect(wall_s=99.0)
    first, second = one.to_json_dict(), two.to_json_dict()
    assert first["run_info"]["num_engine_events"] == 9
    assert first["date"] == "20250301-123005"
    assert first["run_info"]["date"] == "2025-03-01T12:30:05+00:00"
    assert second["run_info"]["wall_s"] == 99.0
    for volatile in ("date", "run_info"):
        assert first.pop(volatile) != second.pop(volatile)
    assert first == second


def test_work_of_the_simulator_is_no_result() -> None:
    """The count of engine events, which coalescing changes, stands in run_info only."""
    run = make_run([served()], counters=[make_counters(num_events=5)])
    document = make_result(run=run).to_json_dict()
    assert "num_events" not in document["engine"]["per_instance"][0]


def test_json_blocks_and_order() -> None:
    """After vLLM's keys and the latencies come the blocks, in fixed order."""
    run = make_run([served(slo_class="a")], counters=[make_counters(prefix_queries_tokens=0)])
    document = make_result(run=run).to_json_dict()
    assert list(document)[-12:] == [
        "kv_cache",
        "engine",
        "conservation",
        "per_class",
        "per_tenant",
        "per_pool",
        "per_instance",
        "cluster",
        "accuracy",
        "manifest",
        "run_info",
        "metric_definitions",
    ]
    assert document["kv_cache"]["num_blocks_per_instance"] == 100
    assert document["kv_cache"]["prefix_hit_rate"] is None
    assert document["engine"]["per_instance"][0]["num_kv_blocks"] == 100
    assert document["conservation"]["completed"] == 1
    assert list(document["per_class"]) == ["a"]
    assert "input_lens" not in document


def test_every_reported_number_is_defined() -> None:
    """Each metric of the document has an entry in metric_definitions."""
    document = make_result().to_json_dict(detailed=True)
    defined = set(document["metric_definitions"])
    blocks = {**document["kv_cache"], **document["engine"]}
    facts = {"num_blocks_per_instance", "num_blocks_source", "num_instances", "num_gpus"}
    assert set(blocks) - facts - {"per_instance"} <= defined
    for key in set(document) - {"date", "backend", "model_id", "num_prompts", "manifest"}:
        tag = key.partition("_")[2].removesuffix("_ms") if key.endswith("_ms") else key
        given = {"request_rate", "burstiness", "max_concurrency", "run_info", "per_class"}
        given |= {"kv_cache", "engine", "conservation", "cluster", "metric_definitions"}
        given |= {"per_tenant", "per_pool", "per_instance", "accuracy"}
        assert tag in defined | given


def test_infinite_rate_is_vllms_string() -> None:
    """All at once is the string "inf" in JSON and a float in Python."""
    result = make_result(request_rate=math.inf)
    assert result.summary["request_rate"] == math.inf
    assert result.to_json_dict()["request_rate"] == "inf"


def test_detailed_arrays() -> None:
    """One entry per request, in seconds, null without a token; itls are left out and said."""
    rows = [served(500_000, ttft_us=250_000, gaps_us=[1]), dropped(600_000, reason="too long")]
    document = make_result(rows).to_json_dict(detailed=True)
    assert document["input_lens"] == [10, 10]
    assert document["output_lens"] == [2, 0]
    assert document["start_times"] == [0.5, 0.6]
    assert document["ttfts"] == [0.25, None]
    assert document["errors"] == ["", "dropped: too long"]
    assert "itls" not in document
    assert "pooled" in document["metric_definitions"]["itls"]["formula"]


def test_summary_is_flat() -> None:
    """The summary holds plain scalars only, the engine's metrics among them."""
    summary = make_result([served(gaps_us=[4])]).summary
    assert {type(value) for value in summary.values()} <= {str, int, float, type(None)}
    assert summary["num_preemptions"] == 0
    assert "kv_usage_peak_frac" in summary


def test_html_escapes_names() -> None:
    """Names cannot inject markup into a notebook."""
    page = make_result(model="<script>")._repr_html_()
    assert "&lt;script&gt; on H100" in page
    assert "<script>" not in page
    assert "<td>Mean TTFT (ms)</td><td style='text-align:right'>0.10</td>" in page
    assert "n/a" in page


def test_html_of_a_cluster() -> None:
    """A cluster shows its pools, its balance and its times; one instance alone does not."""
    page = make_cluster_result()._repr_html_()
    assert "<caption>meta-llama/Llama-3.1-8B-Instruct on 3 GPUs: 1 x H100 TP1 (p, prefill)" in page
    assert "<td>GPUs, mean</td><td style='text-align:right'>4.50</td>" in page
    assert "<td>Mean transfer time (ms)</td><td style='text-align:right'>30.00</td>" in page
    alone = make_result()._repr_html_()
    assert "GPUs, mean" not in alone
    assert "transfer time" not in alone


def test_decisions() -> None:
    """Decisions are a frame where they were kept."""
    frame = make_cluster_result().decisions
    assert frame is not None
    assert frame["is_chosen"].tolist() == [1, 1, 0, 1]
    assert frame["regret"].tolist()[1:3] == [1.75, 0.0]
    assert make_result().decisions is None


def test_repr() -> None:
    """The prompt shows what it is."""
    expected = "<Result meta-llama/Llama-3.1-8B-Instruct on H100: 1/2 completed>"
    assert repr(make_result([served(), dropped()])) == expected


def test_save(tmp_path: Path) -> None:
    """A saved result is the JSON document."""
    path = tmp_path / "result.json"
    result = make_result()
    result.save(path)
    assert json.loads(path.read_text()) == result.to_json_dict()


@pytest.mark.parametrize("rank", [-1, 100.5, math.nan])
def test_percentile_out_of_range(rank: float) -> None:
    """A percentile lies in 0..100."""
    with pytest.raises(ConfigError, match=r"must be in 0\.\.100; got"):
        make_context(percentiles=[rank])
