from __future__ import annotations

import re

from blis_sim.metrics.context import GatewayContext
from blis_sim.metrics.records import InstanceData, PoolData
from blis_sim.metrics.result import Result
from blis_sim.report.table import render_table
from tests.metrics.builders import (
    cluster_counters,
    cluster_rows,
    make_cluster_result,
    make_cluster_run,
    make_counters,
    make_pool,
    make_result,
    make_run,
    served,
)


def section(result: Result, title: str) -> list[str]:
    """The lines of a section."""
    lines = render_table(result).splitlines()
    (start,) = [n for n, line in enumerate(lines) if line.strip("-") == title and "--" in line]
    rest = lines[start + 1 :]
    return rest[: next(n for n, line in enumerate(rest) if line.startswith(("--", "==")))]


def make_single_pool(num_instances: int, **more: object) -> Result:
    """A pool of instances, the first with all requests."""
    rows = [served(0, dispatched_us=0, ttft_us=1_000_000)]
    counters = [make_counters(rows, num_prefill_tokens=10, busy_us=500_000)]
    counters += [make_counters() for _ in range(num_instances - 1)]
    run = make_run(
        rows,
        counters=counters,
        pools=[PoolData("pool", "mixed", "m", "H100", 1)],
        instances=[InstanceData(0) for _ in range(num_instances)],
    )
    return make_result(run=run, pools=[make_pool("pool", num_instances=num_instances, **more)])


def test_section_by_hand() -> None:
    """A line per pool, then balance, fairness, gateway, transfers, GPUs and scaling."""
    assert section(make_cluster_result(), "Cluster") == [
        "pool  requests  in tok/s  out tok/s  busy %  KV %  hit %  TTFT ms",
        "p            2      50.0        0.0    20.0  10.0   10.0    200.0",
        "d            3      20.0        7.0    50.0  23.1    n/a    166.7",
        "Jain index of instances (requests):      1.00",
        "Load imbalance of instances (max/mean):  1.69",
        "Jain index of tenants (tokens):          0.68",
        "Mean gateway time (ms):                  16.67",
        "P99 gateway time (ms):                   29.60",
        "KV transfers:                            2",
        "KV blocks transferred:                   4",
        "Mean transfer time (ms):                 30.00",
        "P99 transfer time (ms):                  39.80",
        "GPUs, mean:                              4.50",
        "GPU-hours:                               0.00125",
        "Scaling events:                          2",
        "d: 1 to 2 instances, mean 1.45",
    ]


def test_heading_lists_the_pools() -> None:
    """Each pool with its number, GPU, TP and role; what they share is told once."""
    lines = render_table(make_cluster_result()).splitlines()
    assert lines[:6] == [
        "meta-llama/Llama-3.1-8B-Instruct on 3 GPUs: 1 x H100 TP1 (p, prefill), 1 x A100",
        "  TP2 (d, decode)",
        "Latency: blackbox (a coefficient row for this model, GPU and TP); data:",
        "  configs/coefficients.csv; also available: roofline-v1",
        "Engine 0.15.1 (vllm defaults): max_num_seqs 1024, max_num_batched_tokens 8192,",
        "  enable_prefix_caching on",
    ]


def test_heading_says_how_requests_get_there() -> None:
    """Routing, then queue and hand-over where there are any."""
    gateway = GatewayContext(
        routing="vllm-dp; reports every 100 ms",
        queue="at most 8 requests per instance, queue fcfs",
        disaggregation="always, first token from decode",
    )
    lines = render_table(make_cluster_result(gateway=gateway)).splitlines()
    assert lines[2:5] == [
        "Routing: vllm-dp; reports every 100 ms",
        "Gateway: at most 8 requests per instance, queue fcfs",
        "Disaggregation: always, first token from decode",
    ]
    plain = render_table(make_cluster_result(gateway=GatewayContext(routing="random")))
    assert plain.splitlines()[2] == "Routing: random"
    assert "\nGateway:" not in plain
    assert "\nDisaggregation:" not in plain


def test_heading_where_pools_differ() -> None:
    """What is not the same for all pools names the pools."""
    pools = (
        make_pool("p", role="prefill", engine_settings={"max_num_seqs": 8}),
        make_pool("d", role="decode", latency_model="roofline-v1", latency_reason="forced"),
        make_pool("e", role="decode", latency_model="roofline-v1", latency_reason="forced"),
    )
    heading = " ".join(render_table(make_cluster_result(pools=pools)).split("=====")[0].split())
    assert "[p] Latency: blackbox (a coefficient row" in heading
    assert "[d, e] Latency: roofline-v1 (forced)" in heading
    assert "[p] Engine: max_num_seqs 8" in heading
    assert "[d, e] Engine 0.15.1 (vllm defaults): max_num_seqs 1024" in heading


def test_kv_blocks_of_pools_that_differ() -> None:
    """The KV caches of different pools have a row each."""
    assert section(make_cluster_result(), "Engine")[:2] == [
        "KV blocks per instance, p:               100",
        "KV blocks per instance, d:               200",
    ]
    pools = (make_pool("p"), make_pool("d"))
    assert section(make_cluster_result(pools=pools), "Engine")[0] == (
        "KV blocks per instance:                  100"
    )


def test_instances_of_a_small_pool() -> None:
    """A single pool of up to eight instances shows each; nothing of transfers or scaling."""
    assert section(make_single_pool(2), "Cluster") == [
        "instance  requests  in tok/s  out tok/s  busy %  KV %  hit %  TTFT ms",
        "0                1      10.0        1.0    50.0   0.0    0.0     1000",
        "1                0       0.0        0.0     0.0   0.0    n/a      n/a",
        "Jain index of instances (requests):      0.50",
        "Load imbalance of instances (max/mean):  2.00",
        "GPUs, mean:                              2.00",
        "GPU-hours:                               0.000556",
    ]
    assert [line[:8] for line in section(make_single_pool(8), "Cluster")[:9]] == [
        "instance",
        *(f"{number}       " for number in range(8)),
    ]
    assert section(make_single_pool(9), "Cluster")[1].startswith("pool")


def test_time_in_the_gateway_shows_where_one_may_wait() -> None:
    """With a limit of requests per instance also when nobody waited."""
    gateway = GatewayContext(routing="random", max_outstanding_per_instance=4)
    run = make_single_pool(2).run
    limited = make_result(run=run, pools=[make_pool("pool", num_instances=2)], gateway=gateway)
    assert "Mean gateway time (ms):                  0.00" in section(limited, "Cluster")


def test_an_instance_that_was_never_ready_says_so() -> None:
    """It served nothing because it could not."""
    rows = [served(0, dispatched_us=0, ttft_us=1_000_000)]
    run = make_run(
        rows,
        counters=[make_counters(rows), make_counters()],
        pools=[PoolData("pool", "mixed", "m", "H100", 1)],
        instances=[InstanceData(0), InstanceData(0, started_us=600_000, ready_us=1_600_000)],
    )
    result = make_result(run=run, pools=[make_pool("pool")])
    assert section(result, "Cluster")[2] == "1         not ready"


def test_autoscaled_pool() -> None:
    """A pool that may grow says how many instances there were."""
    rows = section(make_single_pool(1, min_instances=1, max_instances=4), "Cluster")
    assert rows[-4:] == [
        "Scaling events:                          0",
        "Instances, mean:                         1.00",
        "Instances ready at once, fewest:         1",
        "Instances ready at once, most:           1",
    ]


def test_everything_fits_80_columns() -> None:
    """Long names of pools are cut, large numbers are shown whole."""
    rows = cluster_rows()
    pools = [
        PoolData("prompts of the long documents" * 3, "prefill", "m", "H100", 1),
        PoolData("d", "decode", "m", "A100", 2),
    ]
    counters = cluster_counters()
    counters[0].num_prefill_tokens = 123_456_789
    run = make_cluster_run(rows, pools=pools, counters=counters)
    contexts = [make_pool(pools[0].name, num_kv_blocks=5), make_pool("d")]
    text = render_table(make_cluster_result(run, pools=contexts))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "123456789" in text
    assert re.search(r"^prompts of [a-z ]*\.\.\. +2 ", text, re.MULTILINE)


def test_chosen_latency_sections() -> None:
    """Gateway and transfer times can be shown in full."""
    text = render_table(make_cluster_result(), latencies=["gateway", "transfer"])
    assert "-------------------Gateway Time-------------------" in text
    assert "Median transfer time (ms):               30.00" in text


def test_one_instance_alone_has_no_such_section() -> None:
    """Without a cluster the table is what it was."""
    assert "Cluster" not in render_table(make_result())
