"""The reference engine against the shared conformance cases and scenarios worked out by hand."""

import csv
import random
from collections import Counter
from math import ceil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.latency.blackbox import BlackboxModel
from blis_sim.latency.roofline_v1 import RooflineV1Model, V1Shape
from blis_sim.workload.request import RequestSpec
from tests.watched import WatchedReference

CONFORMANCE = Path(__file__).parents[2] / "shared" / "conformance"
CASES = (
    "bb_chat",
    "bb_long_chunk",
    "bb_prefix",
    "bb_seqs",
    "cl_round-robin",
    "kv_pressure_nocache",
    "v1_8b_tp1",
    "v1_8b_tp2",
)

TIGHT = {"num_kv_blocks": 4, "block_size": 4, "prefix_caching": False}


class HandModel(BlackboxModel):
    """A step lasts 100 us, 1 us per prefill token and 10 us per decode; no frontend."""

    def __init__(self, *, alpha=(0, 0, 0), scheduling_us=0, preemption_us=0):
        super().__init__(alpha, (100, 1, 10))
        self.scheduling_us, self.preemption_us = scheduling_us, preemption_us

    def scheduling_time(self):
        return self.scheduling_us

    def preemption_time(self):
        return self.preemption_us


def make_settings(**changes):
    defaults = {
        "max_num_seqs": 256,
        "max_num_batched_tokens": 2048,
        "long_prefill_token_threshold": 0,
        "num_kv_blocks": 1000,
        "block_size": 16,
        "prefix_caching": True,
        "policy": "fcfs",
        "chunked_prefill": True,
        "async_scheduling": False,
        "reserve_full_sequence": False,
        "max_model_len": 100_000,
        "horizon_us": None,
    }
    assert changes.keys() <= defaults.keys()
    return SimpleNamespace(**(defaults | changes))


def simulate(*requests, model=None, **settings):
    """Run requests given as (arrival_us, prompt_tokens, output_tokens, other fields)."""
    specs = [
        RequestSpec(i, arrival, prompt, output, **(rest[0] if rest else {}))
        for i, (arrival, prompt, output, *rest) in enumerate(requests)
    ]
    return WatchedReference(specs, model or HandModel(), make_settings(**settings)).run()


def seen(record):
    return record.first_token_us, record.last_token_us, record.output_tokens


def load_case(name):
    folder = CONFORMANCE / name
    if not folder.is_dir():
        pytest.skip(f"the shared conformance case {name} is not there: {folder}")
    settings = yaml.safe_load((folder / "case.yaml").read_text())["settings"]
    with (folder / "trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    specs = [
        RequestSpec(
            i,
            int(row["arrival_us"]),
            int(row["prompt_tokens"]),
            int(row["output_tokens"]),
            prefix_group=row.get("prefix_group"),
            prefix_tokens=int(row.get("prefix_tokens", 0)),
        )
        for i, row in enumerate(rows)
    ]
    with (folder / "expected.csv").open() as file:
        expected = [(int(row["ttft_us"]), int(row["e2e_us"])) for row in csv.DictReader(file)]
    return settings, specs, expected


def make_model(settings):
    if settings.pop("latency_model") == "blackbox":
        return BlackboxModel(tuple(settings.pop("alpha")), tuple(settings.pop("beta")))
    shape = V1Shape.from_spec(load_model(settings.pop("model_config")))
    return RooflineV1Model(
        shape, load_gpu(settings.pop("hardware")).roofline_v1, settings.pop("tp")
    )


@pytest.mark.parametrize("name", CASES)
def test_conformance(name):
    """Every TTFT and E2E equals the expected one to the microsecond; all blocks come back."""
    settings, specs, expected = load_case(name)
    model = make_model(settings)
    num_instances = settings.pop("num_instances", 1)
    settings.pop("routing_policy", None)
    got = {}
    for instance in range(num_instances):
        reference = WatchedReference(
            specs[instance::num_instances], model, make_settings(**settings)
        ).run()
        for r in reference.records:
            arrival_us = r.spec.arrival_us
            times = r.first_token_us - arrival_us, r.last_token_us - arrival_us
            got[r.spec.request_id] = times
        assert len(reference.free) == settings["num_kv_blocks"]
    assert [got[i] for i in range(len(specs))] == expected


def test_prompt_in_chunks():
    """150 prompt tokens at a budget of 64 take three steps.

    Frontend int(20 + 0.1 * 150) = 35. Steps of 64, 64 and 22 tokens last 164, 164 and 122,
    two decodes 110 each: tokens at 485, 595, 705; the client sees them 5, 10 and 15 later.
    Blocks held: 4, 8, 10, 10, 10.
    """
    model = HandModel(alpha=(20, 0.1, 5))
    reference = simulate((0, 150, 3), model=model, max_num_batched_tokens=64)
    (r,) = reference.records
    assert (r.enqueued_us, r.scheduled_us, r.status) == (35, 35, "completed")
    assert seen(r) == (490, 720, 3)
    assert reference.itl == {115: 2}
    counters = reference.counters
    assert (counters["num_steps"], counters["busy_us"]) == (5, 670)
    assert (counters["batch_tokens"], counters["batch_requests"]) == (152, 5)
    assert counters["kv_block_us"] == 4 * 164 + 8 * 164 + 10 * (122 + 110 + 110)
    assert (counters["running_us"], counters["peak_kv_blocks"]) == (670, 10)


def test_one_token_prompt_is_a_prefill():
    """A request is a decode only once it has generated a token."""
    (r,) = simulate((0, 1, 2)).records
    assert seen(r) == (101, 211, 2)


def test_long_prefill_threshold():
    """A threshold of 50 cuts 120 prompt tokens into 50, 50 and 20: 150 + 150 + 120."""
    (r,) = simulate((0, 120, 1), long_prefill_token_threshold=50).records
    assert seen(r) == (420, 420, 1)


def test_arrival_on_a_boundary():
    """Who enters at the microsecond a step ends is in the next step: [110, 110 + 100 + 10 + 5)."""
    reference = simulate((0, 10, 2), (110, 5, 1))
    assert [seen(r) for r in reference.records] == [(110, 225, 2), (225, 225, 1)]
    assert reference.reached["boundary_arrivals"] == 1


@pytest.mark.parametrize(
    ("prefix_caching", "recached", "resumed_us"), [(True, 4, 666 + 105), (False, 0, 666 + 109)]
)
def test_preemption_and_own_blocks(prefix_caching, recached, resumed_us):
    """A preempted request hits its own blocks as far as they are still there.

    Blocks of 4, pool of 5; A owes 6, B 4, prompts of 8. Step 1 [0, 116) computes both
    prompts (A blocks 0 1, B 2 3). At 116 A takes block 4 and B preempts itself: free 3 2.
    B has 9 tokens, so it needs 3 blocks whatever it hits (hits lie on the free list), and
    is refused at 226, 336, 446; at 556 A takes block 3 and B is refused with 1 free block. A
    ends at 666. B hits block 2 only and computes 5 tokens of 9 (all 9 without caching).
    """
    reference = simulate(
        (0, 8, 6), (0, 8, 4), num_kv_blocks=5, block_size=4, prefix_caching=prefix_caching
    )
    a, b = reference.records
    assert seen(a) == (116, 666, 6)
    assert seen(b) == (116, resumed_us + 220, 4)
    assert reference.itl == {110: 7, resumed_us - 116: 1}
    assert (b.num_preemptions, b.cached_tokens, b.recached_tokens) == (1, 0, recached)
    assert (a.num_preemptions, reference.counters["num_preemptions"]) == (0, 1)
    assert reference.reached["refused_passes"] == 4
    assert reference.reached["own_hits"] == recached // 4


def test_preempted_request_is_first_in_the_queue():
    """TIGHT pool and two seats: B, preempted at 234, keeps C out until A has ended at 454.

    Then B's 9 tokens and C's 1 share the step [454, 564).
    """
    a, b, c = simulate((0, 7, 4), (0, 7, 3), (0, 1, 1), max_num_seqs=2, **TIGHT).records
    assert (seen(a), seen(b), seen(c)) == ((114, 454, 4), (114, 564, 3), (564, 564, 1))
    assert (b.num_preemptions, c.scheduled_us) == (1, 454)


@pytest.mark.parametrize(
    ("abort_us", "output_token_us", "a_seen"),
    [
        (150, 0, (110, 110, 1)),  # inside step 2: its token is dropped
        (220, 0, (110, 220, 2)),  # at its end: the token was first
        (220, 1, (111, 222, 2)),  # already on its way to the client
    ],
)
def test_abort_of_a_running_request(abort_us, output_token_us, a_seen):
    """An abort frees seat and blocks at the step end, 220, for B: [220, 330)."""
    model = HandModel(alpha=(0, 0, output_token_us))
    reference = simulate(
        (0, 10, 5, {"abort_us": abort_us}), (0, 10, 1), model=model, max_num_seqs=1
    )
    a, b = reference.records
    assert (a.status, seen(a)) == ("aborted", a_seen)
    assert (b.scheduled_us, b.first_token_us) == (220, 330 + output_token_us)
    assert reference.counters["kv_block_us"] == 330


def test_abort_before_running():
    """Waiting or in the frontend a request leaves at once, and was never scheduled."""
    gone = [(1, 10, 5, {"abort_us": abort_us}) for abort_us in (100, 4, 3)]
    reference = simulate((0, 10, 5), *gone, model=HandModel(alpha=(4, 0, 0)), max_num_seqs=1)
    assert [r.enqueued_us for r in reference.records] == [4, 5, 5, None]
    assert {(r.status, r.scheduled_us) for r in reference.records[1:]} == {("aborted", None)}
    assert reference.reached["waiting_aborts"] == 2


@pytest.mark.parametrize(
    ("limits", "status", "a_seen"),
    [
        ({"timeout_us": 480}, "completed", (160, 480, 3)),
        ({"timeout_us": 479}, "timed_out", (160, 480, 3)),
        ({"timeout_us": 329}, "timed_out", (160, 320, 2)),
        ({"timeout_us": 159}, "timed_out", (160, 160, 1)),
        ({"timeout_us": 400, "abort_us": 400}, "timed_out", (160, 480, 3)),
        ({"timeout_us": 401, "abort_us": 400}, "aborted", (160, 480, 3)),
    ],
)
def test_timeout_on_client_time(limits, status, a_seen):
    """Engine tokens at 110, 220, 330 are seen at 160, 320, 480.

    Whether the request was in time is the client's view; the tokens that count are those the
    engine had put out when the client left.
    """
    (r,) = simulate((0, 10, 3, limits), model=HandModel(alpha=(0, 0, 50))).records
    assert (r.status, seen(r)) == (status, a_seen)


def test_async_first_step():
    """A request that enters during step k is computed in step k + 2.

    A: step 1 [0, 110), step 2 [110, 220) fixed at 0, step 3 fixed at 110 with B, which came
    at 50: [220, 220 + 100 + 10 + 10). Synchronously B is in step 2: [110, 230).
    """
    requests = (0, 10, 3), (50, 10, 1)
    a, b = simulate(*requests, async_scheduling=True).records
    assert (b.scheduled_us, seen(a), seen(b)) == (110, (110, 340, 3), (340, 340, 1))
    a, b = simulate(*requests).records
    assert (b.scheduled_us, seen(a), seen(b)) == (110, (110, 340, 3), (230, 230, 1))


def test_async_scheduling_time_overlaps():
    """Two steps of 110 with 130 of scheduling last 130 each, synchronously 240 each."""
    model = HandModel(scheduling_us=130)
    (r,) = simulate((0, 10, 2), model=model, async_scheduling=True).records
    assert seen(r) == (130, 260, 2)
    (r,) = simulate((0, 10, 2), model=model).records
    assert seen(r) == (240, 480, 2)


def test_async_victim_keeps_its_token_in_flight():
    """TIGHT pool, prompts of 7: A owes 4, B 3, a preemption costs 7.

    Step 1 [0, 114), step 2 [114, 234) with both decoding. The pass at 114 gives A a third
    block and preempts B, whose second token still comes at 234. Step 3 [234, 234 + 117).
    B needs 3 blocks: refused at 234 and at 351, where A's last token is already in flight
    (step 4 [351, 461)) and nothing is left to fix. B recomputes 9 tokens: [461, 570).
    """
    reference = simulate(
        (0, 7, 4), (0, 7, 3), model=HandModel(preemption_us=7), async_scheduling=True, **TIGHT
    )
    a, b = reference.records
    assert (seen(a), seen(b)) == ((114, 461, 4), (114, 570, 3))
    assert reference.itl == {120: 2, 117: 1, 110: 1, 336: 1}
    assert reference.reached["refused_passes"] == 2


def test_async_victim_may_finish_in_the_waiting_queue():
    """As above with B owing 2: its last token comes at 234, A goes on alone."""
    reference = simulate(
        (0, 7, 4), (0, 7, 2), model=HandModel(preemption_us=7), async_scheduling=True, **TIGHT
    )
    a, b = reference.records
    assert (seen(a), seen(b), b.status) == ((114, 461, 4), (114, 234, 2), "completed")
    assert b.num_preemptions == 1
    assert reference.reached["refused_passes"] == 0


def test_async_abort_leaves_its_work_in_the_fixed_batch():
    """A and B decode in [120, 240), B aborts at 130; step 3 was fixed with both: 120 again."""
    reference = simulate((0, 10, 4), (0, 10, 9, {"abort_us": 130}), async_scheduling=True)
    a, b = reference.records
    assert (b.status, seen(b)) == ("aborted", (120, 120, 1))
    assert seen(a) == (120, 120 + 120 + 120 + 110, 4)
    assert reference.counters["kv_block_us"] == 2 * 240 + 230


def test_priority_victim_may_be_the_first():
    """TIGHT pool, prompts of 7; A (least urgent) is alone until 107.

    Step 2 [107, 224): A decodes, B's prompt. At 224 A needs a block and is the victim
    itself; the pass ends empty. The next one gives B its token and refuses A; the victim's 7
    us fall on this step: [224, 341). B ends at 561, A recomputes 9 tokens until 670.
    """
    requests = (0, 7, 4, {"priority": 1}), (1, 7, 4)
    model = HandModel(preemption_us=7)
    reference = simulate(*requests, model=model, policy="priority", **TIGHT)
    a, b = reference.records
    assert (seen(a), seen(b)) == ((107, 780, 4), (224, 561, 4))
    assert reference.itl == {117: 2, 446: 1, 110: 3}


def test_budget_of_a_victim_is_returned():
    """Blocks of 4, pool of 12, budget 8; A is the least urgent, C's prompt of 40 comes last.

    Steps end at 107 (A's 7), 221 (A, B's 4), 347, 473, 599, 725 (A, B, 6 of C each). At 725
    A takes the last block, B needs one too: A goes. B's decode leaves 7 for C, not 6.
    """
    requests = (0, 7, 9, {"priority": 1}), (1, 4, 6), (108, 40, 1)
    limits = {"max_num_batched_tokens": 8, "num_kv_blocks": 12, "block_size": 4}
    reference = simulate(*requests, policy="priority", prefix_caching=False, **limits)
    a, b, _ = reference.records
    assert (a.num_preemptions, seen(b)) == (1, (221, 725 + 117, 6))


@pytest.mark.parametrize(
    ("policy", "order"), [("fcfs", [1, 2, 3]), ("priority", [3, 1, 2]), ("sjf", [2, 3, 1])]
)
def test_waiting_order(policy, order):
    """One seat: arrival, (priority, arrival) or (prompt, arrival) decides who is next."""
    requests = (0, 10, 1), (1, 30, 1, {"priority": 1}), (2, 10, 1, {"priority": 1}), (3, 20, 1)
    records = simulate(*requests, policy=policy, max_num_seqs=1).records
    by_start = sorted(records, key=lambda r: r.scheduled_us)
    assert [r.spec.request_id for r in by_start] == [0, *order]


def test_no_output_and_length_caps():
    """0 tokens end with the prefill; max_output_tokens and max_model_len cap; some never fit."""
    two, three = {"max_output_tokens": 2}, {"max_output_tokens": 3}
    requests = (0, 10, 0), (1000, 10, 5, two), (2000, 10, 90), (3000, 12, 1), (3000, 10, 1, three)
    records = simulate(*requests, model=HandModel(alpha=(0, 0, 5)), max_model_len=12).records
    assert [seen(r) for r in records[:3]] == [(110, 110, 0), (1115, 1230, 2), (2115, 2230, 2)]
    assert [r.owes < r.spec.output_tokens for r in records[:3]] == [False, True, True]
    assert [r.status for r in records] == ["completed"] * 3 + ["dropped"] * 2


def test_shared_prefix_within_one_pass():
    """B hits the 2 blocks A fills in the same pass: 40 + 8 tokens, 3 + 1 blocks."""
    shared = {"prefix_group": "g", "prefix_tokens": 35}
    reference = simulate((0, 40, 1, shared), (0, 40, 1, shared))
    assert [seen(r) for r in reference.records] == [(148, 148, 1), (148, 148, 1)]
    assert [r.cached_tokens for r in reference.records] == [0, 32]
    assert (reference.reached["group_hits"], reference.counters["peak_kv_blocks"]) == (2, 4)


def test_fully_cached_prompt_computes_its_last_block():
    """Blocks of 4, one shared prompt of 8: B hits block 0 and fills a second copy of block 1.

    C (one token more) hits the older copy: what B freed last is not what C touched.
    A frees 1 0; B takes 0 and 2, frees 2 0; C takes 0, 1 and 3, frees 3 1 0.
    """
    shared = {"prefix_group": "g", "prefix_tokens": 8}
    requests = (0, 8, 1, shared), (1000, 8, 1, shared), (2000, 9, 1, shared)
    reference = simulate(*requests, block_size=4, num_kv_blocks=9)
    assert [r.first_token_us for r in reference.records] == [108, 1104, 2101]
    assert list(reference.free) == [4, 5, 6, 7, 8, 2, 3, 1, 0]


@pytest.mark.parametrize(("output_tokens", "cached"), [(13, 32), (12, 16)])
def test_session_history(output_tokens, cached):
    """The next round hits the full blocks of prompt + answer less the answer's last token."""
    session = {"session_id": "s"}
    records = simulate((0, 20, output_tokens, session), (9000, 50, 1, session)).records
    assert records[1].cached_tokens == cached


def test_eviction_takes_the_end_of_a_chain_first():
    """Pool of 4: C takes 3 blocks, the never used one and the two last of A's chain of 3.

    B (same group) finds one block left.
    """
    shared = {"prefix_group": "g", "prefix_tokens": 12}
    requests = (0, 12, 1, shared), (1000, 9, 1), (2000, 13, 1, shared)
    reference = simulate(*requests, num_kv_blocks=4, block_size=4)
    assert [r.cached_tokens for r in reference.records] == [0, 0, 4]


def test_unchunked_prompt_stops_admission():
    """Budget 30: A's 20 leave 10, B's 20 do not fit and C behind it is not looked at."""
    limits = {"max_num_batched_tokens": 30, "max_model_len": 30}
    reference = simulate((0, 20, 1), (0, 20, 1), (0, 5, 1), chunked_prefill=False, **limits)
    assert [r.scheduled_us for r in reference.records] == [0, 120, 120]
    assert reference.reached["refused_passes"] == 0


@pytest.mark.parametrize(("reserve", "scheduled_us", "refused"), [(False, 108, 0), (True, 212, 1)])
def test_reserve_full_sequence(reserve, scheduled_us, refused):
    """Budget 8, blocks of 4, pool of 5: at 108 A holds 3 blocks and B's 12 tokens need 3."""
    limits = {"max_num_batched_tokens": 8, "block_size": 4, "num_kv_blocks": 5}
    reference = simulate((0, 12, 1), (0, 12, 1), reserve_full_sequence=reserve, **limits)
    assert reference.records[1].scheduled_us == scheduled_us
    assert reference.reached["refused_passes"] == refused


def test_horizon():
    """Steps [10, 120), [120, 230), [230, 340), a frontend of 10: the state at 235, inclusive.

    The abort at 232 would take effect at 340.
    """
    requests = (0, 10, 9, {"abort_us": 232}), (225, 10, 9), (226, 10, 9), (236, 10, 9)
    reference = simulate(*requests, model=HandModel(alpha=(10, 0, 0)), horizon_us=235)
    assert [r.status for r in reference.records] == ["running", "waiting", "in_frontend"]
    assert seen(reference.records[0]) == (120, 230, 2)
    assert (reference.counters["num_steps"], reference.counters["running_us"]) == (2, 225)


class CheckedReference(WatchedReference):
    """Checks the books after every pass."""

    def schedule(self):
        step = super().schedule()
        owners = Counter(block for r in self.running for block in r.blocks)
        assert owners == +self.refs
        assert owners.keys().isdisjoint(self.free)
        assert len(owners) + len(self.free) == self.cfg.num_kv_blocks
        assert all(len(r.blocks) == ceil(r.computed / self.size) for r in self.running)
        assert all(not r.blocks for r in self.waiting)
        assert len(self.running) <= self.cfg.max_num_seqs
        assert step is None or 0 < sum(step[1].values()) <= self.cfg.max_num_batched_tokens
        return step


def random_scenario(rng):
    max_model_len = rng.randint(8, 48)
    settings = make_settings(
        num_kv_blocks=ceil(max_model_len / 4) + rng.randint(0, 8),
        block_size=4,
        max_model_len=max_model_len,
        max_num_seqs=rng.randint(1, 8),
        max_num_batched_tokens=rng.choice([8, 48, 64]),
        long_prefill_token_threshold=rng.choice([0, 5]),
        prefix_caching=rng.random() < 0.7,
        policy=rng.choice(["fcfs", "priority", "sjf"]),
        async_scheduling=rng.random() < 0.5,
        reserve_full_sequence=rng.random() < 0.5,
    )
    # One arrival at most per microsecond: see the tie rule of the priority victim.
    specs = [
        RequestSpec(
            i,
            arrival_us,
            rng.randint(1, max_model_len - 1),
            rng.randint(0, 20),
            prefix_group=rng.choice([None, "g"]),
            session_id=rng.choice([None, None, "s"]),
            priority=rng.randint(0, 1),
            timeout_us=rng.choice([None, rng.randint(0, 4000)]),
        )
        for i, arrival_us in enumerate(sorted(rng.sample(range(2000), 20)))
    ]
    specs = [spec._replace(prefix_tokens=spec.prompt_tokens // 2) for spec in specs]
    return specs, settings


@pytest.mark.parametrize("seed", range(60))
def test_books_balance(seed):
    """Each request ends once, tokens and times fit together, every block has its owners."""
    specs, settings = random_scenario(random.Random(seed))
    reference = CheckedReference(specs, HandModel(alpha=(3, 0, 2)), settings).run()
    assert Counter(r.status for r in reference.records).keys() <= {"completed", "timed_out"}
    assert len(reference.free) == settings.num_kv_blocks
    for r in reference.records:
        if r.status == "completed":
            assert r.output_tokens == r.owes
            assert r.enqueued_us <= r.scheduled_us < r.first_token_us <= r.last_token_us
    gaps = sum(max(r.output_tokens - 1, 0) for r in reference.records)
    assert sum(reference.itl.values()) == gaps
    assert reference.counters["peak_kv_blocks"] <= settings.num_kv_blocks
