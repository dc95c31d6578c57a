"""Coalesced = plain loop = independent step-by-step reference, on random scenarios."""

import os
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from blis_sim.catalog.gpus import RooflineV1Constants
from blis_sim.config.engine import SchedulingPolicy
from blis_sim.engine.batch import SchedulerSettings
from blis_sim.engine.simulation import EngineConfig, Simulation
from blis_sim.latency.blackbox import BlackboxModel
from blis_sim.latency.roofline_v1 import RooflineV1Model, V1Shape
from blis_sim.metrics.conservation import check_conservation
from blis_sim.metrics.records import ABSENT, Status
from blis_sim.workload.request import RequestSpec
from tests.latency.roofline_v2_built import small_model
from tests.watched import WatchedReference

NUM_EXAMPLES = int(os.environ.get("BLIS_EQUALITY_EXAMPLES", "400"))
REQUEST_FIELDS = (
    "enqueued_us",
    "scheduled_us",
    "first_token_us",
    "last_token_us",
    "output_tokens",
    "cached_tokens",
    "recached_tokens",
    "num_preemptions",
)
COUNTERS = (
    "num_steps",
    "busy_us",
    "num_preemptions",
    "kv_block_us",
    "running_us",
    "batch_tokens",
    "batch_requests",
    "peak_kv_blocks",
)


class SlowSchedulingModel(BlackboxModel):
    """A blackbox with scheduling and preemption time, to see that both are counted."""

    def scheduling_time(self):
        return 13

    def preemption_time(self):
        return 7


class NoShortcutModel(BlackboxModel):
    """A blackbox that does not say that its steps are uniform."""

    def uniform_decode_time(self, batch):
        return None

    def decode_run(self, batch, num_steps):
        return np.full(num_steps, self.step_time(batch), dtype=np.int64)


def small_v1(tp):
    """A tiny transformer on a tiny GPU: step times depend on context and vary."""
    shape = V1Shape(
        num_layers=2,
        hidden_size=64,
        num_attention_heads=4,
        attention_weights=3 * 64 * 64,
        kv_elements_per_token=64,
        active_mlp_width=128,
        dense_mlp_width=128,
        num_experts=0,
        experts_per_token=0,
        expert_width=0,
        weight_bytes=2,
        activation_bytes=2,
    )
    gpu = RooflineV1Constants(
        peak_tflops=1e-4,
        bandwidth_tb_per_s=2e-6,
        bandwidth_efficiency=0.72,
        mfu_prefill=0.65,
        mfu_decode=0.12,
        per_layer_overhead_us=2,
        fixed_overhead_us=3,
        allreduce_us=1,
        tp_scaling_exponent=1.0,
        prefill_bw_factor=1.0,
        decode_bw_factor=1.0,
    )
    return RooflineV1Model(shape, gpu, tp)


MODELS = {
    "round blackbox": lambda: BlackboxModel((0, 0, 0), (10, 0, 0)),
    "blackbox": lambda: BlackboxModel((30, 1.5, 3), (70, 2.5, 3.5)),
    "long steps": lambda: BlackboxModel((0, 0, 0), (100, 1, 1)),
    "slow scheduling": lambda: SlowSchedulingModel((0, 0, 2), (9, 1, 1)),
    "no shortcut": lambda: NoShortcutModel((5, 0, 1), (20, 1, 2)),
    "v1": lambda: small_v1(1),
    "v1 tp2": lambda: small_v1(2),
    "v2": lambda: small_model(1),
    "v2 tp2": lambda: small_model(2),
}


SHARING = ("nothing", "group", "session", "group session", "prompt", "group prompt", "hashes")
"""What a request may share; several of them in one text add up."""


@dataclass
class Case:
    model: str
    engine: SimpleNamespace
    requests: list = field(default_factory=list)


@st.composite
def engines(draw):
    block_size = draw(st.sampled_from([1, 2, 2, 4, 16]))
    max_model_len = draw(st.integers(12, 60))
    chunked = draw(st.sampled_from([True, True, True, False]))
    max_num_seqs = draw(st.integers(2, 8))
    budget = draw(st.integers(max_num_seqs, 48))
    smallest_pool = -(-max_model_len // block_size)
    return SimpleNamespace(
        block_size=block_size,
        max_model_len=max_model_len,
        chunked_prefill=chunked,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget if chunked else max(budget, max_model_len),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 3, 8])) if chunked else 0,
        num_kv_blocks=smallest_pool
        + draw(st.integers(0, smallest_pool // 2) | st.sampled_from([0, 0, 0, 0, 0, 0, 400])),
        prefix_caching=draw(st.sampled_from([True] * 7 + [False])),
        policy=draw(st.sampled_from(["fcfs", "fcfs", "priority", "sjf"])),
        async_scheduling=draw(st.booleans()),
        reserve_full_sequence=draw(st.sampled_from([False, False, True])),
        horizon_us=draw(st.sampled_from([None, None, None, 700, 3000])),
    )


@st.composite
def hashes(draw, prompt, piece):
    """One path of a tree that forks at the root: a number tells all that stand before it."""
    branch = draw(st.integers(0, 1))
    turn = draw(st.integers(0, 2))
    numbers = [depth + 100 * branch for depth in range(-(-prompt // piece))]
    return tuple(n + 1000 * piece + 10 * turn * (d > turn) for d, n in enumerate(numbers))


@st.composite
def cases(draw):
    engine = draw(engines())
    longest = draw(st.sampled_from([6, engine.max_model_len // 2, engine.max_model_len + 2]))
    model = draw(
        st.sampled_from(["round blackbox", "round blackbox", "long steps", *sorted(MODELS)])
    )
    grid = 10 if model == "round blackbox" else draw(st.sampled_from([1, 10]))
    often = draw(st.sampled_from(["nothing", "group", "group", "hashes", *SHARING]))
    piece = draw(st.sampled_from([1, 3, 4, 8]))
    spread = draw(st.sampled_from([1, 4, 15, 60]))
    requests, arrival = [], 0
    for number in range(draw(st.integers(3, 14))):
        arrival += grid * draw(st.integers(0, spread))
        prompt = draw(st.integers(1, longest))
        shared = draw(st.sampled_from(["nothing", "nothing", often, often, often, *SHARING]))
        group = draw(st.sampled_from(["a", "a", "b"])) if "group" in shared else None
        session = draw(st.sampled_from(["s", "t"])) if "session" in shared else None
        prompt_id = draw(st.sampled_from(["p", "p", "q"])) if "prompt" in shared else None
        hashed = shared == "hashes"
        patience = draw(st.sampled_from([None, None, None, "timeout", "abort"]))
        delay = grid * draw(st.integers(1, 8) | st.integers(1, 150)) if patience else None
        requests.append(
            RequestSpec(
                request_id=number,
                arrival_us=arrival,
                prompt_tokens=prompt,
                output_tokens=draw(st.integers(0, 40)),
                max_output_tokens=draw(st.sampled_from([None, None, None, 0, 1, 9])),
                prefix_group=group,
                prefix_tokens=min(prompt, draw(st.integers(0, 40))) if group else 0,
                session_id=session,
                priority=draw(st.integers(0, 2)),
                timeout_us=delay if patience == "timeout" else None,
                abort_us=delay if patience == "abort" else None,
                prompt_id=prompt_id,
                block_hashes=draw(hashes(prompt, piece)) if hashed else None,
                hash_block_tokens=piece if hashed else 512,
            )
        )
    return Case(model, engine, requests)


def simulate(case, *, coalesce):
    engine = case.engine
    config = EngineConfig(
        SchedulerSettings(
            max_num_seqs=engine.max_num_seqs,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            max_model_len=engine.max_model_len,
            long_prefill_token_threshold=engine.long_prefill_token_threshold,
            policy=SchedulingPolicy(engine.policy),
            enable_chunked_prefill=engine.chunked_prefill,
            reserve_full_sequence=engine.reserve_full_sequence,
        ),
        num_kv_blocks=engine.num_kv_blocks,
        block_size=engine.block_size,
        enable_prefix_caching=engine.prefix_caching,
        async_scheduling=engine.async_scheduling,
        coalesce=coalesce,
    )
    simulation = Simulation(
        config, MODELS[case.model](), case.requests, horizon_us=engine.horizon_us
    )
    run = simulation.run()
    check_conservation(run)
    return run, simulation.instance.num_tokens_ahead > 0


def as_observed(run):
    """Return what a run shows, in the reference's terms."""
    columns = run.requests
    requests = {}
    for row, number in enumerate(columns.request_id.tolist()):
        values = {name: int(getattr(columns, name)[row]) for name in REQUEST_FIELDS}
        values = {name: None if v == ABSENT else v for name, v in values.items()}
        values["status"] = Status(int(columns.status[row])).name.lower()
        values["length_capped"] = bool(columns.length_capped[row])
        requests[number] = values
    counters = {name: getattr(run.counters[0], name) for name in COUNTERS}
    itl = dict(zip(run.itl_us.tolist(), run.itl_count.tolist(), strict=True))
    return requests, counters, itl


def as_expected(case):
    reference = WatchedReference(case.requests, MODELS[case.model](), case.engine).run()
    requests = {}
    for record in reference.records:
        values = {name: getattr(record, name) for name in REQUEST_FIELDS}
        values["status"] = record.status
        is_short = record.owes < record.spec.output_tokens
        values["length_capped"] = record.status == "completed" and is_short
        if record.status != "completed":
            values["last_token_us"] = None
        requests[record.spec.request_id] = values
    counters = {name: reference.counters[name] for name in COUNTERS}
    return reference, (requests, counters, dict(reference.itl))


class Reach:
    """How often the examples went where it is difficult."""

    def __init__(self):
        self.examples = 0
        self.seen = Counter()

    def note(self, reference, *, has_run_ahead):
        reached = reference.reached
        self.examples += 1
        self.seen["preempts"] += reference.counters["num_preemptions"] > 0
        self.seen["head refused for blocks"] += reached["refused_passes"] > 0
        self.seen["shared hit"] += reached["group_hits"] + reached["session_hits"] > 0
        self.seen["prompt hit"] += reached["prompt_hits"] > 0
        self.seen["hash hit"] += reached["hash_hits"] > 0
        self.seen["own hit"] += reached["own_hits"] > 0
        self.seen["waiting abort"] += reached["waiting_aborts"] > 0
        self.seen["boundary arrival"] += reached["boundary_arrivals"] > 0
        self.seen["ran ahead"] += has_run_ahead

    def share(self, what):
        return self.seen[what] / self.examples


def test_coalesced_equals_plain_equals_reference():
    """Every time, gap and counter is the same in all three; the examples reach far enough."""
    reach = Reach()

    @settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        derandomize="BLIS_EQUALITY_SEED" not in os.environ,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(cases())
    def check(case):
        reference, expected = as_expected(case)
        plain, _ = simulate(case, coalesce=False)
        assert as_observed(plain) == expected
        coalesced, has_run_ahead = simulate(case, coalesce=True)
        assert as_observed(coalesced) == expected
        reach.note(reference, has_run_ahead=has_run_ahead)

    check()
    wanted = {
        "preempts": 0.2,
        "head refused for blocks": 0.2,
        "shared hit": 0.2,
        "prompt hit": 0.015,
        "hash hit": 0.03,
        "own hit": 0.1,
        "waiting abort": 0.1,
        "boundary arrival": 0.1,
        "ran ahead": 0.1,
    }
    shares = {what: reach.share(what) for what in wanted}
    assert reach.examples >= 300
    missed = {what: share for what, share in shares.items() if share < wanted[what]}
    assert not missed, f"reach of {reach.examples} examples: {shares}"


@pytest.mark.parametrize("model", sorted(MODELS))
def test_models_are_used(model):
    """Each model of the property gives positive step times."""
    assert MODELS[model]().step_time(SimpleBatch()) >= 1


class SimpleBatch:
    num_decodes, sum_decode_context, prefills, num_prefill_tokens = 2, 9, (), 0
