from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from blis_sim.errors import InvariantError
from blis_sim.metrics.conservation import check_conservation
from blis_sim.metrics.records import ABSENT, Decision, RunData, ScalingEvent, Status
from tests.metrics.builders import Row, cluster_rows, dropped, make_cluster_run, make_run, served

Change = Callable[[RunData], None]


def make_sound_run() -> RunData:
    """A cluster with requests at every stage; breaks no law."""
    sent = {"dispatched_us": 510_000, "prefill_instance": 0}
    early = Row(*(500_000, 510_000, 520_000), cached_tokens=0, **sent)
    rows = [
        *cluster_rows(),
        Row(500_000, instance=None, status=Status.IN_GATEWAY),
        dropped(500_000, status=Status.REJECTED, reason="full"),
        Row(500_000, instance=None, status=Status.TIMED_OUT),
        Row(500_000, instance=0, dispatched_us=510_000, status=Status.IN_FRONTEND),
        Row(**vars(early) | {"status": Status.RUNNING, "instance": 0, "prefill_instance": None}),
        Row(
            **vars(early)
            | {"status": Status.IN_TRANSFER, "instance": 1, "handed_over_us": 531_000}
        ),
    ]
    return make_cluster_run(rows)


def test_sound_run_passes() -> None:
    """A cluster that breaks no law is accepted."""
    check_conservation(make_sound_run(), num_injected=9)


def test_first_token_may_come_before_the_transfer() -> None:
    """Where the prefill gives the first token, only the second comes after the transfer."""
    run = make_sound_run()
    run.requests.first_token_us[0] -= 100_000
    run.requests.last_token_us[0] -= 100_000
    assert run.requests.first_token_us[0] < run.requests.transferred_us[0]
    check_conservation(run)


def test_cache_that_was_lost_is_not_transferred() -> None:
    """A request that goes over at once, without its KV cache, need not be counted."""
    run = make_sound_run()
    run.requests.transferred_us[0] = run.requests.handed_over_us[0]
    check_conservation(run)
    run.counters[1].num_transfers = 0
    check_conservation(run)


def put(column: str, row: int, value: int) -> Change:
    def change(run: RunData) -> None:
        getattr(run.requests, column)[row] = value

    return change


def instance(number: int, **values: Any) -> Change:
    def change(run: RunData) -> None:
        for name, value in values.items():
            setattr(run.instances[number], name, value)

    return change


def scaled(**values: Any) -> Change:
    def change(run: RunData) -> None:
        for name, value in values.items():
            setattr(run.scaling[1], name, value)

    return change


def decided(chosen: int, scores: tuple[float, ...] | None) -> Change:
    def change(run: RunData) -> None:
        run.decisions = [Decision(0, 0, "serve", (0, 1), chosen, scores)]

    return change


def lose_an_instance(run: RunData) -> None:
    run.instances.pop()


def count_a_transfer(run: RunData) -> None:
    run.counters[2].num_transfers += 1


def forget_a_transfer(run: RunData) -> None:
    run.counters[2].num_transfers -= 1


def lose_prefill(run: RunData) -> None:
    run.requests.prefill_instance[0] = ABSENT


LAWS = [
    (lose_an_instance, r"instances must be as many as counters \(3\); got 2"),
    (instance(2, pool=2), "instance 2: pool must be < 2; got 2"),
    (instance(2, started_us=600_000), "instance 2: started <= ready"),
    (instance(2, drained_us=100_000), "instance 2: .* started <= drained"),
    (instance(2, stopped_us=800_000), "instance 2: .* drained <= stopped"),
    (instance(2, drained_us=None), "instance 2: .* drained <= stopped"),
    (put("dispatched_us", 1, 499_999), "request 1: dispatched_us must be >= arrival_us"),
    (put("dispatched_us", 1, 530_001), "request 1: enqueued_us must be >= dispatched_us"),
    (put("dispatched_us", 3, 510_000), "request 3: .* in the gateway, must not have been disp"),
    (put("dispatched_us", 4, 510_000), "request 4: a rejected request, .* must not have been"),
    (put("dispatched_us", 2, ABSENT), "request 2: an enqueued request must have been dispatched"),
    (put("instance", 6, ABSENT), "request 6: a dispatched request must have an instance"),
    (instance(0, ready_us=510_001), "request 0: .* dispatched to an instance that is ready"),
    (instance(0, drained_us=520_000), "request 1: .* that is ready and not drained"),
    (put("prefill_instance", 0, 3), "request 0: prefill_instance must be < 3"),
    (put("prefill_instance", 0, 1), "request 0: prefill_instance must be another than instance"),
    (lose_prefill, "request 0: a request that was handed over must have prefill_instance"),
    (put("handed_over_us", 0, 19_999), "request 0: handed_over_us must be >= scheduled_us"),
    (put("transferred_us", 0, 99_999), "request 0: transferred_us must be >= handed_over_us"),
    (put("handed_over_us", 0, ABSENT), "request 0: transferred_us must be >= handed_over_us"),
    (put("transferred_us", 0, 400_001), "request 0: last_token_us must be >= transferred_us with"),
    (put("transferred_us", 0, ABSENT), "request 0: .* must have transferred_us"),
    (put("transferred_us", 8, 600_000), "request 8: a request in transfer must have been handed"),
    (put("handed_over_us", 8, ABSENT), "request 8: a request in transfer must have been handed"),
    (count_a_transfer, r"instance 2: num_transfers must be .* \(1 to 1\); got 2"),
    (forget_a_transfer, r"instance 2: num_transfers must be .* \(1 to 1\); got 0"),
    (scaled(pool=2), "scaling event 1: pool must be < 2; got 2"),
    (scaled(after=2), "scaling event 1: it must change a number"),
    (scaled(after=-1), "scaling event 1: it must change a number"),
    (scaled(time_us=199_999), "scaling events must be in order of time"),
    (decided(2, None), "a decision must choose one of its candidates"),
    (decided(1, (0.5,)), "a decision must have a score for each candidate"),
]


@pytest.mark.parametrize(("change", "law"), LAWS, ids=[law[:50] for _, law in LAWS])
def test_each_law_is_enforced(change: Change, law: str) -> None:
    """Breaking one law of a sound cluster is an InvariantError that names the law."""
    run = make_sound_run()
    change(run)
    with pytest.raises(InvariantError, match=law):
        check_conservation(run)


def test_without_a_cluster_nothing_is_dispatched() -> None:
    """The columns of a gateway are absent where there is none."""
    run = make_run([served(0, dispatched_us=0)])
    with pytest.raises(InvariantError, match="without a cluster nothing must be dispatched"):
        check_conservation(run)
    run = make_run([served(0)], scaling=[ScalingEvent(0, 0, 1, 2, 1.0)])
    with pytest.raises(InvariantError, match="scaling event 0: pool must be < 0"):
        check_conservation(run)
