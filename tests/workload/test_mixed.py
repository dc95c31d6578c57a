"""Several clients at once: shares, common settings, independence, and memory."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from blis_sim.errors import SimulationError
from blis_sim.workload.mixed import ClientWorkload, MixedWorkload, merged
from blis_sim.workload.request import RequestSpec

from .builders import make_requests, make_workload, write_trace
from .served import most_open, serve

LOOP = {"process": "closed_loop", "num_users": 2}
CHAT: dict[str, Any] = {"name": "chat", "tenant": "chat", "preset": "chatbot"}
DOCS: dict[str, Any] = {"name": "docs", "tenant": "docs", "preset": "summarization"}
CODE: dict[str, Any] = {"name": "code", "tenant": "code", "prompt": 900, "output": 20}


def by_client(clients: list[dict[str, Any]], **common: Any) -> dict[str | None, list[RequestSpec]]:
    """Return the requests of each client, without their numbers among all."""
    found: dict[str | None, list[RequestSpec]] = {}
    for request in make_requests(clients=clients, **common):
        found.setdefault(request.tenant, []).append(request._replace(request_id=0))
    return found


# -- merging ----------------------------------------------------------------


def test_streams_are_merged_by_arrival() -> None:
    """In order of arrival, at one instant in order of the streams, numbered anew."""
    one = [RequestSpec(k, at, 1, 1) for k, at in enumerate([1, 5, 5])]
    two = [RequestSpec(k, at, 2, 1) for k, at in enumerate([0, 5, 9])]
    rows = [(r.request_id, r.arrival_us, r.prompt_tokens) for r in merged([iter(one), iter(two)])]
    assert rows == [(0, 0, 2), (1, 1, 1), (2, 5, 1), (3, 5, 1), (4, 5, 2), (5, 9, 2)]


def test_a_mixed_load_is_its_clients() -> None:
    """Every client's requests, as it would send them, and nothing else."""
    clients = [{**CHAT, "num_requests": 50}, {**DOCS, "request_rate": 3.0, "duration_s": 20.0}]
    workload = make_workload(clients=clients)
    assert isinstance(workload, MixedWorkload)
    assert [len(list(part)) for part in workload.parts] == [50, len(list(workload)) - 50]
    requests = list(workload)
    assert [r.request_id for r in requests] == list(range(len(requests)))
    arrivals = [r.arrival_us for r in requests]
    assert arrivals == sorted(arrivals)
    assert list(workload) == requests


def test_facts_of_several_clients() -> None:
    """Names, labels and numbers of all clients are told."""
    clients = [{**CHAT, "slo_class": "gold"}, {"num_requests": 30, "slo_class": "free"}]
    workload = make_workload(clients=clients, num_requests=90)
    assert workload.num_requests == 90
    assert workload.description.startswith("2 clients, the first 90 requests; chat: chatbot: ")
    assert "client-2: distribution: 30 requests" in workload.description
    assert workload.slo_classes == ("gold", "free")
    assert workload.tenants == ("chat",)


def test_the_number_of_a_load_that_ends_is_the_sum() -> None:
    """Clients with counts of their own make a load with their sum, or less with a limit."""
    clients = [{**CHAT, "num_requests": 50}, {**DOCS, "num_requests": 70}]
    assert make_workload(clients=clients).num_requests == 120
    assert len(make_requests(clients=clients)) == 120
    assert make_workload(clients=clients, num_requests=80).num_requests == 80
    assert len(make_requests(clients=clients, num_requests=80)) == 80
    assert make_workload(clients=clients, num_requests=500).num_requests == 120


# -- shares -------------------------------------------------------------------


def test_clients_get_their_share_of_the_rate() -> None:
    """Of n requests a client with share p sends p*n, within 4.5 standard errors."""
    shares = {"chat": 0.6, "docs": 0.3, "code": 0.1}
    clients = [{**c, "rate_fraction": shares[c["name"]]} for c in (CHAT, DOCS, CODE)]
    requests = make_requests(clients=clients, request_rate=50.0, num_requests=20_000)
    counts = Counter(r.tenant for r in requests)
    for name, share in shares.items():
        error = math.sqrt(20_000 * share * (1 - share))
        assert counts[name] == pytest.approx(20_000 * share, abs=4.5 * error)
    assert requests[-1].arrival_us / 1e6 == pytest.approx(400, abs=4.5 * math.sqrt(20_000) / 50)


def test_clients_get_their_share_of_every_stage() -> None:
    """With shares of stages each client has exactly its part of each, normalised."""
    found = by_client(
        [{**CHAT, "rate_fraction": 0.75}, {**DOCS, "rate_fraction": 0.25}],
        stages=[{"rate": 4, "duration_s": 100}, {"rate": 8, "duration_s": 100}],
        arrivals={"normalize_span": True},
    )
    for name, first, both in [("chat", 300, 900), ("docs", 100, 300)]:
        arrivals = [r.arrival_us for r in found[name]]
        assert len(arrivals) == both
        assert (arrivals[first - 1], arrivals[-1]) == (100_000_000, 200_000_000)


def test_one_client_with_the_whole_rate_is_a_load_at_that_rate() -> None:
    """A share of 1 stretches a client's gaps by nothing: the same as its own rate."""
    shared = by_client([{**CHAT, "rate_fraction": 1}], request_rate=7.0, num_requests=50)
    assert shared == by_client([{**CHAT, "request_rate": 7.0}], num_requests=50)


def test_clients_with_and_without_a_share_go_together() -> None:
    """Shares are of the common rate; another client has its own beside it."""
    found = by_client(
        [{**CHAT, "rate_fraction": 1}, {**DOCS, "request_rate": 40.0}],
        request_rate=10.0,
        duration_s=100.0,
    )
    assert len(found["chat"]) == pytest.approx(1000, abs=4.5 * math.sqrt(1000))
    assert len(found["docs"]) == pytest.approx(4000, abs=4.5 * math.sqrt(4000))


# -- independence ---------------------------------------------------------------


def draws(requests: list[RequestSpec]) -> list[tuple[Any, ...]]:
    return [(r.prompt_tokens, r.output_tokens, r.prefix_group) for r in requests]


PREFIXES = {"prefix_tokens": 32, "num_prefix_groups": 4, "num_requests": 60}
ONE, TWO, THREE = ({**client, **PREFIXES} for client in (CHAT, DOCS, CODE))
FIRST = by_client([ONE, TWO])["chat"]
"""What the client named chat sends beside another."""
OTHERS: list[tuple[str, list[dict[str, Any]]]] = [
    ("alone", [ONE]),
    ("with another", [ONE, TWO, THREE]),
    ("in another place", [THREE, ONE]),
    ("beside a changed one", [ONE, {**TWO, "prompt": 77, "request_rate": 9.0}]),
    ("beside users", [ONE, {**TWO, "arrivals": LOOP}]),
    ("beside conversations", [{**TWO, "sessions": {"rounds": 3}}, ONE]),
]


@pytest.mark.parametrize("clients", [c for _, c in OTHERS], ids=[name for name, _ in OTHERS])
def test_other_clients_change_nothing_for_a_named_client(clients: list[dict[str, Any]]) -> None:
    """Adding, removing, moving or changing a client leaves the others' requests as they are."""
    assert by_client(clients)["chat"] == FIRST


@pytest.mark.parametrize("factor", [0.2, 0.5, 1.0])
def test_another_share_stretches_the_same_requests(factor: float) -> None:
    """Lengths and prefix groups stay, and gaps are stretched by the change of the rate."""
    others = [{**DOCS, "rate_fraction": 1 - factor}] if factor < 1 else []
    common = {"request_rate": 10.0, "duration_s": 300.0, "prefix_tokens": 16}
    found = by_client([{**CHAT, "rate_fraction": factor}, *others], **common)["chat"]
    reference = by_client([{**CHAT, "rate_fraction": 1}], **common)["chat"]
    assert draws(found) == draws(reference)[: len(found)]
    for one, other in zip(found, reference, strict=False):
        assert one.arrival_us == pytest.approx(other.arrival_us / factor, abs=1 / factor)


def test_another_name_is_another_client() -> None:
    """A client's draws depend on its name."""
    assert draws(by_client([{**ONE, "name": "talk"}])["chat"]) != draws(FIRST)


def test_unnamed_clients_are_called_by_position() -> None:
    """``client-1`` is the name of the first: naming it so changes nothing."""
    first, second = {"tenant": "a", "num_requests": 9}, {"tenant": "b", "num_requests": 9}
    assert by_client([first, second]) == by_client(
        [{**first, "name": "client-1"}, {**second, "name": "client-2"}]
    )


# -- common settings ------------------------------------------------------------


def test_common_settings_are_what_clients_do_not_say() -> None:
    """A setting at the top is each client's, unless the client has one of its own."""
    clients = [{**CHAT, "timeout_s": 5.0}, {"name": "other", "tenant": "other", "priority": 2}]
    found = by_client(
        clients, num_requests=40, output=9, timeout_s=2.0, slo_class="gold", start_s=10.0
    )
    assert {(r.timeout_us, r.slo_class, r.priority) for r in found["chat"]} == {
        (5_000_000, "gold", 0)
    }
    assert {(r.timeout_us, r.slo_class, r.priority) for r in found["other"]} == {
        (2_000_000, "gold", 2)
    }
    assert {r.output_tokens for rows in found.values() for r in rows} == {9}
    assert min(r.arrival_us for rows in found.values() for r in rows) > 10_000_000


def test_null_takes_a_common_setting_away() -> None:
    """A client that says null has none, whatever is common."""
    found = by_client([CHAT, {**DOCS, "timeout_s": None}], timeout_s=2.0, num_requests=40)
    assert {r.timeout_us for r in found["docs"]} == {None}


def test_clients_share_a_prefix_by_its_name() -> None:
    """Prefixes belong to a client, unless a name is given that another names too."""
    own = by_client([ONE, TWO])
    assert {r.prefix_group for r in own["chat"]} == {f"chat/prefix-{k}" for k in range(4)}
    assert {r.prefix_group for r in own["docs"]} == {f"docs/prefix-{k}" for k in range(4)}
    shared = by_client(
        [CHAT, DOCS, {**CODE, "prefix_group": "other"}],
        prefix_group="rules", prefix_tokens=64, num_requests=60,
    )  # fmt: skip
    groups = {name: {r.prefix_group for r in rows} for name, rows in shared.items()}
    assert groups == {"chat": {"rules"}, "docs": {"rules"}, "code": {"other"}}


def test_pools_and_sessions_belong_to_their_client() -> None:
    """Prompts and conversations of two clients are never the same by chance of a name."""
    pool = {"kind": "shared_prefix", "num_groups": 1, "num_prompts_per_group": 1,
            "system_prompt_len": 9, "question_len": 9, "output_len": 1}  # fmt: skip
    found = by_client(
        [{"name": n, "tenant": n, "prompts": pool} for n in ("a", "b")], num_requests=20
    )
    for name in ("a", "b"):
        assert {(r.prompt_id, r.prefix_group) for r in found[name]} == {
            (f"{name}/prompt-0", f"{name}/group-0")
        }
    served = serve(
        make_workload(clients=[CHAT, DOCS], sessions={"rounds": 2}, num_requests=20).clients()
    )
    assert all(s.spec.session_id.startswith(f"{s.spec.tenant}/session-") for s in served)


def test_a_trace_and_drawn_requests_go_together(tmp_path: Path) -> None:
    """A client may replay a trace beside another that draws."""
    path = write_trace(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,5,1\n4,6,1\n")
    found = by_client([{"trace": path}, {**CHAT, "arrivals": "constant", "num_requests": 5}])
    assert [(r.arrival_us, r.prompt_tokens) for r in found[None]] == [(0, 5), (4_000_000, 6)]
    assert len(found["chat"]) == 5


# -- clients who wait -------------------------------------------------------------


def test_a_cap_of_all_holds_over_all_clients() -> None:
    """max_outstanding of the whole counts all clients' requests, a client's only its own."""
    clients = [{**CHAT, "max_outstanding": 2, "request_rate": 20.0}, DOCS]
    workload = make_workload(clients=clients, max_outstanding=5, num_requests=200)
    assert isinstance(workload, ClientWorkload)
    slow = serve(workload.clients(), service_us=lambda s: 20_000_000)
    assert len(slow) == 200
    assert most_open(slow) == 5
    assert most_open([s for s in slow if s.spec.tenant == "chat"]) == 2
    assert workload.description.endswith("; at most 5 open")


def test_users_beside_arrivals() -> None:
    """Users of one client keep their number open while another's requests come and go."""
    clients = [{**CHAT, "arrivals": LOOP}, {**DOCS, "request_rate": 2.0}]
    served = serve(make_workload(clients=clients, num_requests=300).clients())
    users = [s for s in served if s.spec.tenant == "chat"]
    assert most_open(users) == 2
    rest = [s.spec._replace(request_id=0) for s in served if s.spec.tenant == "docs"]
    alone = by_client([{**DOCS, "request_rate": 2.0}], num_requests=300)["docs"]
    assert rest == alone[: len(rest)]


def test_a_staged_mix_waits_for_all_clients() -> None:
    """A stage of all clients begins when the requests of all have been answered."""
    served = serve(
        make_workload(
            clients=[{**CHAT, "rate_fraction": 0.5}, {**DOCS, "rate_fraction": 0.5}],
            stages=[{"rate": 2, "duration_s": 10}] * 2,
            arrivals={"normalize_span": True},
            stage_gap_s=3.0,
        ).clients(),
        service_us=lambda s: 9_000_000 if s.tenant == "docs" else 1,
    )
    assert len(served) == 40
    first, second = served[:20], served[20:]
    begin_us = max(s.end_us for s in first) + 3_000_000
    assert begin_us == 10_000_000 + 9_000_000 + 3_000_000
    assert max(s.spec.arrival_us for s in second) == begin_us + 10_000_000
    assert min(s.spec.arrival_us for s in second) > begin_us


def test_a_staged_mix_lasts_as_long_as_its_longest_client() -> None:
    """A client that stops earlier ends no stage, and has no part in later ones."""
    workload = make_workload(
        clients=[
            {**CHAT, "rate_fraction": 0.5, "duration_s": 4.0},
            {**DOCS, "rate_fraction": 0.5},
        ],
        stages=[{"rate": 2, "duration_s": 10}] * 2,
        arrivals={"process": "constant"},
        stage_gap_s=3.0,
    )
    served = serve(workload.clients(), service_us=lambda s: 0)
    seconds = {
        name: [s.spec.arrival_us / 1e6 for s in served if s.spec.tenant == name]
        for name in ("chat", "docs")
    }
    assert seconds["chat"] == [1, 2, 3, 4]
    assert seconds["docs"] == [*range(1, 11), *range(14, 24)]


def test_listing_a_load_that_would_stand_still_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Users who do not think would send for ever to a server that answers at once."""
    monkeypatch.setattr("blis_sim.workload.mixed._MOST_AT_ONCE", 1000)
    workload = make_workload(arrivals=LOOP, duration_s=1.0, prompt=1, output=1)
    with pytest.raises(SimulationError, match="workload must have a num_requests"):
        for _ in workload:
            pass


def test_a_load_with_feedback_lists_what_a_ready_server_would_get() -> None:
    """Walked without a server, rounds follow after the think time alone."""
    workload = make_workload(
        num_requests=1, arrivals="constant", sessions={"rounds": 3, "think_time_s": 4.0}
    )
    assert [r.arrival_us for r in workload] == [1_000_000, 5_000_000, 9_000_000]
    assert list(workload) == list(workload)
    assert len(list(islice(make_workload(arrivals=LOOP), 7))) == 7


# -- memory -------------------------------------------------------------------------


def peak_of_walk(count: int, **settings: Any) -> int:
    """Return the most bytes held while a load is walked."""
    requests = iter(make_workload(num_requests=count, **settings))
    next(requests)
    tracemalloc.start()
    try:
        assert sum(1 for _ in requests) == count - 1
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MANY: dict[str, dict[str, Any]] = {
    "clients": {
        "clients": [{**c, "rate_fraction": 0.5} for c in (ONE, TWO)],
        "request_rate": 100.0,
    },
    "capped": {"request_rate": 100.0, "max_outstanding": 8},
    "users": {"arrivals": {**LOOP, "think_time_s": 1.0}},
}


@pytest.mark.parametrize("kind", MANY)
def test_memory_does_not_grow_with_what_has_not_arrived(kind: str) -> None:
    """Walking ten times the requests needs no more memory."""
    settings = dict(MANY[kind])
    # More than two chunks of 4,096 for each client, so that a whole one is drawn while counting.
    counts = (20_000, 60_000) if "clients" in settings else (9_000, 18_000)
    if "clients" in settings:
        settings["clients"] = [{**c, "num_requests": None} for c in settings["clients"]]
    few, many = (peak_of_walk(count, **settings) for count in counts)
    assert many < 1.2 * few + 100_000
    assert many < 16_000_000
