"""A timeline shows every step and request of a run as they were, and changes nothing."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blis_sim.errors import ConfigError, SimulationError
from blis_sim.metrics.timeline import TimelineSettings
from blis_sim.report.timeline import Event, timeline_events
from blis_sim.report.timeline_file import write_timeline
from tests.cluster.builders import (
    make_cluster,
    make_pool,
    observed_cluster,
    serve_cluster,
    with_coalescing,
)
from tests.cluster.scenarios import ClusterScenario, clusters
from tests.engine.builders import fixed, make_specs, observed, simulate
from tests.engine.scenarios import Scenario, scenarios
from tests.metrics.builders import make_result

from .timelines import check_timeline, end, events_of, lanes_of

NUM_EXAMPLES = int(os.environ.get("BLIS_TIMELINE_EXAMPLES", "40"))
WHOLE = TimelineSettings()
many = settings(
    fixed,
    max_examples=NUM_EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@many
@given(scenarios(), st.sampled_from([None, None, 700]))
def test_random_engines(scenario: Scenario, horizon_us: int | None) -> None:
    """Steps add up to the counters, levels to the integrals, phases to the columns.

    The timeline is that of the plain loop, event for event; the results are those without one.
    """
    engine = scenario.settings | {"horizon_us": horizon_us}
    run = simulate(scenario.requests, timeline=WHOLE, **engine)
    events = check_timeline(run, [scenario.latency])
    plain = simulate(scenario.requests, timeline=WHOLE, coalesce=False, **engine)
    assert events_of(plain) == events
    assert observed(simulate(scenario.requests, **engine)) == observed(run) == observed(plain)


@many
@given(clusters())
def test_random_clusters(scenario: ClusterScenario) -> None:
    """The same in clusters: queues, transfers, timeouts, preemption, scaling."""
    config, requests, more = scenario.config, scenario.requests, scenario.settings
    run = serve_cluster(with_coalescing(config, True), requests, timeline=WHOLE, **more)
    events = check_timeline(run, [pool.latency for pool in config.pools])
    plain = serve_cluster(with_coalescing(config, False), requests, timeline=WHOLE, **more)
    assert events_of(plain) == events
    assert observed_cluster(serve_cluster(config, requests, **more)) == observed_cluster(run)


def spans(events: list[Event], pid: int) -> list[tuple[Any, ...]]:
    """Return name, start and end of the slices of a process."""
    return [(e["name"], e["ts"], end(e)) for e in events if e["ph"] == "X" and e["pid"] == pid]


def levels(events: list[Event], name: str) -> list[tuple[int, ...]]:
    """Return time and values of a counter."""
    found = (e for e in events if e["ph"] == "C" and e["name"] == name)
    return [(e["ts"], *e["args"].values()) for e in found]


ONE_SEAT = make_specs(
    {"prompt_tokens": 6, "output_tokens": 3},
    {"prompt_tokens": 4, "output_tokens": 2, "arrival_us": 5},
)


def test_by_hand() -> None:
    """Two requests on one seat: steps of 10 us, blocks of 4 tokens, a pool of 10.

    Request 0 computes 6 tokens at 0, decodes until 30; request 1 waits from 5 to 30.
    """
    run = simulate(ONE_SEAT, max_num_seqs=1, num_kv_blocks=10, max_model_len=40, timeline=WHOLE)
    events = events_of(run)
    assert spans(events, 1) == [
        ("prefill", 0, 10),
        ("decode", 10, 20),
        ("decode", 20, 30),
        ("prefill", 30, 40),
        ("decode", 40, 50),
    ]
    assert spans(events, 2) == [
        ("request 0", 0, 30),
        ("prefill", 0, 10),
        ("decode", 10, 30),
        ("request 1", 5, 50),
        ("waiting", 5, 30),
        ("prefill", 30, 40),
        ("decode", 40, 50),
    ]
    assert levels(events, "KV cache") == [(0, 2, 20.0), (30, 1, 10.0), (40, 2, 20.0), (50, 0, 0.0)]
    assert levels(events, "requests") == [(0, 1, 0), (5, 1, 1), (30, 1, 0), (50, 0, 0)]
    assert [e["args"]["context_tokens"] for e in events if e["pid"] == 1 and e["ph"] == "X"] == [
        *(0, 6, 7, 0, 4),
    ]
    assert [(e["name"], e["pid"], e["args"].get("name")) for e in events if e["ph"] == "M"] == [
        ("process_name", 1, "instance 0 (H100 TP 1)"),
        ("process_sort_index", 1, None),
        ("thread_name", 1, "engine steps"),
        ("process_name", 2, "requests"),
        ("process_sort_index", 2, None),
        ("thread_name", 2, "lane 1"),
        ("thread_name", 2, "lane 2"),
    ]


def test_a_part_shows_what_overlaps_it() -> None:
    """From 15 to 35 us: the steps under way are whole, the counters begin with what was so."""
    part = TimelineSettings(from_s=15e-6, duration_s=20e-6)
    run = simulate(ONE_SEAT, max_num_seqs=1, num_kv_blocks=10, max_model_len=40, timeline=part)
    events = events_of(run)
    assert spans(events, 1) == [("decode", 10, 20), ("decode", 20, 30), ("prefill", 30, 40)]
    assert levels(events, "KV cache") == [(15, 2, 20.0), (30, 1, 10.0)]
    assert levels(events, "requests") == [(15, 1, 1), (30, 1, 0)]
    assert [name for name, *_ in spans(events, 2) if "request" in name] == [
        *("request 0", "request 1"),
    ]


@settings(many, max_examples=NUM_EXAMPLES // 4)
@given(scenarios(), st.integers(0, 300), st.integers(1, 300))
def test_any_part(scenario: Scenario, from_us: int, duration_us: int) -> None:
    """What a part shows is what the whole shows there, and all of it."""
    start_us = scenario.requests[0].arrival_us
    load = [spec._replace(arrival_us=spec.arrival_us - start_us) for spec in scenario.requests]
    part = TimelineSettings(from_us * 1e-6, duration_us * 1e-6)
    until_us = from_us + duration_us
    some = events_of(simulate(load, timeline=part, **scenario.settings))
    every = events_of(simulate(load, timeline=WHOLE, **scenario.settings))
    steps = [e for e in every if e.get("cat") == "step" and e["ts"] < until_us]
    assert [e for e in some if e.get("cat") == "step"] == [e for e in steps if end(e) > from_us]
    for name in ("KV cache", "requests"):
        known = levels(every, name)
        _, *at_start = [level for level in known if level[0] <= from_us][-1]
        rest = [level for level in known if from_us < level[0] < until_us]
        assert levels(some, name) == [(from_us, *at_start), *rest]
    wanted = [whole for whole, _, _ in lanes_of(every, 2)]
    wanted = [w for w in wanted if w["ts"] < until_us and max(end(w), w["ts"] + 1) > from_us]
    assert [w["name"] for w, _, _ in lanes_of(some, 2)] == [w["name"] for w in wanted]


def test_preemption_by_hand() -> None:
    """Three prompts fill a pool of 3 blocks; at 10 the first needs one more, the last give way.

    The victims compute their prompt and the token they had again, when there is room.
    """
    load = make_specs(*({"prompt_tokens": 4, "output_tokens": 3} for _ in range(3)))
    run = simulate(load, num_kv_blocks=3, max_model_len=12, timeline=WHOLE)
    lanes = lanes_of(events_of(run), 2)
    told = [[(e["name"], e["ts"], end(e)) for e in phases] for _, phases, _ in lanes]
    assert told[0] == [("prefill", 0, 10), ("decode", 10, 30)]
    assert told[1][:2] == [("prefill", 0, 10), ("preempted", 10, 30)]
    assert told[1][2][0] == "recompute"
    assert [e["ts"] for e in lanes[1][2]] == [10]


def test_a_hand_over_by_hand() -> None:
    """A prompt computed apart: prefill, transfer of 2 blocks at 1 byte/us, decode elsewhere."""
    prefill = make_pool("p", role="prefill", nic_bytes_per_us=1)
    decode = make_pool("d", role="decode", nic_bytes_per_us=1)
    config = make_cluster(prefill, decode)
    load = make_specs({"prompt_tokens": 8, "output_tokens": 3})
    events = events_of(serve_cluster(config, load, timeline=WHOLE))
    ((whole, phases, _),) = lanes_of(events, 3)
    assert [(e["name"], e["ts"], end(e), e["args"]["instance"]) for e in phases] == [
        ("prefill", 0, 10, 0),
        ("transfer", 10, 18, 1),
        ("decode", 18, 48, 1),
    ]
    assert (whole["args"]["prefill_instance"], whole["args"]["instance"]) == (0, 1)
    names = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert names == [
        "instance 0 (pool p, prefill, GPU TP 1)",
        "instance 1 (pool d, decode, GPU TP 1)",
        "requests",
    ]


def test_queue_and_scaling_by_hand() -> None:
    """Two of three requests wait in the gateway until an instance is started; later two stop."""
    scaled = {
        "metric": "queue-depth",
        "target": 0.5,
        "min_instances": 1,
        "max_instances": 3,
        "interval_s": 20e-6,
        "startup_delay_s": 10e-6,
        "scale_down_stabilization_s": 0,
    }
    config = make_cluster(
        make_pool(autoscaling=scaled), gateway={"max_outstanding_per_instance": 1}
    )
    load = make_specs(*({"output_tokens": 9} for _ in range(3)), {"arrival_us": 300})
    run = serve_cluster(config, load, timeline=WHOLE)
    events = events_of(run)
    gateway = len(run.counters) + 2
    assert levels(events, "gateway queue") == [(0, 2), (30, 0)]
    assert levels(events, "instances of pool")[:2] == [(0, 1), (30, 3)]
    scalings = [e for e in events if e["ph"] == "i" and e["pid"] == gateway]
    assert scalings[0]["name"] == "pool: 1 to 3 instances"
    assert len(scalings) == len(run.scaling)
    assert {"started", "ready", "drained", "stopped"} <= {e["name"] for e in events}


def test_who_is_turned_away() -> None:
    """A prompt too long for the model is an instant at its arrival, with the reason."""
    run = simulate(make_specs({"prompt_tokens": 2000, "arrival_us": 7}), timeline=WHOLE)
    (event,) = (e for e in events_of(run) if e["ph"] == "i")
    assert (event["name"], event["ts"]) == ("request 0: dropped", 7)
    assert event["args"]["reason"].startswith("prompt_tokens >= max_model_len")


def test_too_many_events() -> None:
    """A timeline beyond the limit is refused: at once where its steps alone are too many."""
    load = make_specs({"output_tokens": 50})
    run = simulate(load, timeline=TimelineSettings(max_events=60))
    with pytest.raises(ConfigError, match=r"at most 60 events; got at least \d+ from 0 s to 0.0"):
        events_of(run)
    with pytest.raises(
        ConfigError, match=r"at most 40 events; got at least 41 from 0 s to 0\.00041 s"
    ):
        simulate(load, timeline=TimelineSettings(max_events=40))


def test_run_without_a_timeline() -> None:
    """Where nothing was logged there is nothing to draw."""
    run = simulate(make_specs({}))
    with pytest.raises(
        SimulationError, match="--timeline-out must follow a run that was recorded"
    ):
        events_of(run)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"from_s": -1}, "a timeline's from_s must be from 0 to 1e9 s; got -1"),
        ({"from_s": float("nan")}, "a timeline's from_s must be from 0 to 1e9 s; got nan"),
        ({"duration_s": 0}, "a timeline's duration_s must be from 0.000001 to 1e9 s; got 0"),
    ],
)
def test_bad_parts(part: dict[str, float], told: str) -> None:
    """A part has a start and a length."""
    with pytest.raises(ConfigError, match=told):
        TimelineSettings(**part)


def test_file_is_json_with_its_source(tmp_path: Path) -> None:
    """Plain and gzip hold the same; the head says what was simulated; a failure leaves nothing."""
    result = make_result(run=simulate(ONE_SEAT, timeline=WHOLE))
    for name in ("t.json", "t.json.gz"):
        write_timeline(result, tmp_path / name)
    text = (tmp_path / "t.json").read_bytes()
    assert gzip.decompress((tmp_path / "t.json.gz").read_bytes()) == text
    parsed = json.loads(text)
    assert parsed["traceEvents"] == list(timeline_events(result))
    assert parsed["displayTimeUnit"] == "ms"
    assert parsed["otherData"]["scenario_sha256"] == result.manifest["scenario_sha256"]
    assert parsed["otherData"]["model"] == "meta-llama/Llama-3.1-8B-Instruct"
    few = make_result(run=simulate(ONE_SEAT, timeline=TimelineSettings(max_events=6)))
    with pytest.raises(ConfigError, match="at most 6 events"):
        write_timeline(few, tmp_path / "few.json")
    assert not (tmp_path / "few.json").exists()


def test_steps_as_a_frame() -> None:
    """`Result.steps` has one row per engine step, or is None."""
    result = make_result(run=simulate(ONE_SEAT, max_num_seqs=1, timeline=WHOLE))
    frame = result.steps
    assert frame is not None
    assert frame["start_us"].tolist() == [0, 10, 20, 30, 40]
    assert frame["duration_us"].tolist() == [10] * 5
    assert frame["kind"].tolist() == ["prefill", "decode", "decode", "prefill", "decode"]
    assert make_result(run=simulate(ONE_SEAT)).steps is None
