"""KV transfers: conservation, and a model that goes microsecond by microsecond."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from blis_sim.cluster.links import FAR_US
from tests.engine.builders import fixed

from .transfers import Planned, ends, make_links


@dataclass
class Flow:
    """A transfer of the model: it flows from ``flow_us`` until it ends or is cancelled."""

    planned: Planned
    left: Fraction
    flow_us: int
    is_over: bool = False


def model_ends(
    bandwidths: list[float], latency_us: int, transfers: list[Planned]
) -> list[int | None]:
    """Go microsecond by microsecond with the definition of a rate."""
    flows = [
        Flow(planned, Fraction(planned.num_bytes), planned.start_us + latency_us)
        for planned in transfers
    ]
    found: list[int | None] = [None] * len(flows)
    now_us = 0
    while not all(flow.is_over for flow in flows):
        for number, flow in enumerate(flows):
            if flow.is_over or flow.flow_us > now_us:
                flow.is_over |= flow.planned.cancel_us == now_us
                continue
            is_free = (
                bandwidths[flow.planned.source] == bandwidths[flow.planned.destination] == inf
            )
            if flow.left <= 0 or is_free:
                flow.is_over, found[number] = True, now_us
            flow.is_over |= flow.planned.cancel_us == now_us
        active = [flow for flow in flows if not flow.is_over and flow.flow_us <= now_us]
        for flow in active:
            planned = flow.planned
            sent = sum(other.planned.source == planned.source for other in active)
            received = sum(other.planned.destination == planned.destination for other in active)
            shares = (
                (bandwidths[planned.source], sent),
                (bandwidths[planned.destination], received),
            )
            flow.left -= min(Fraction(str(b)) / n for b, n in shares if b != inf)
        now_us += 1
    return found


BANDWIDTHS = st.lists(st.sampled_from([1, 2.5, 3, 7, 0.3, inf]), min_size=4, max_size=4)


@st.composite
def transfer_lists(draw: Any, *, can_cancel: bool = True) -> list[Planned]:
    transfers = []
    for _ in range(draw(st.integers(1, 8))):
        start_us = draw(st.integers(0, 15))
        after_us = draw(st.integers(0, 20)) if can_cancel and draw(st.booleans()) else FAR_US
        transfers.append(
            Planned(
                source=draw(st.integers(0, 3)),
                destination=draw(st.integers(0, 3)),
                num_bytes=draw(st.integers(0, 40)),
                start_us=start_us,
                cancel_us=start_us + after_us,
            )
        )
    return transfers


@fixed
@given(bandwidths=BANDWIDTHS, latency_us=st.integers(0, 6), transfers=transfer_lists())
def test_ends_are_those_of_the_definition(
    bandwidths: list[float], latency_us: int, transfers: list[Planned]
) -> None:
    """The integral of a transfer's rate, taken apart into microseconds, reaches its bytes."""
    got = ends(make_links(*bandwidths, latency_us=latency_us), *transfers)
    assert got == model_ends(bandwidths, latency_us, transfers)


@fixed
@given(
    bandwidths=BANDWIDTHS,
    latency_us=st.integers(0, 6),
    transfers=transfer_lists(can_cancel=False),
)
def test_the_order_of_calls_at_one_instant_changes_nothing(
    bandwidths: list[float], latency_us: int, transfers: list[Planned]
) -> None:
    """Starts before or after reports, the last transfer first: the ends are the same."""
    first = ends(make_links(*bandwidths, latency_us=latency_us), *transfers)
    again = ends(make_links(*bandwidths, latency_us=latency_us), *transfers, late=True)
    assert first == again


@fixed
@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=30),
    gaps_us=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    bandwidth=st.sampled_from([1, 7, 12.5, 1000]),
    is_sending=st.booleans(),
)
def test_a_busy_card_carries_its_bandwidth(
    sizes: list[int], gaps_us: list[int], bandwidth: float, is_sending: bool
) -> None:
    """Until the last end all bytes have passed, and at most a microsecond per end is lost."""
    transfers, now_us = [Planned(*((0, 1) if is_sending else (1, 0)), 5 * ceil(bandwidth))], 0
    for num_bytes, gap_us in zip(sizes, gaps_us, strict=False):
        now_us = min(now_us + gap_us, 4)  # the first one keeps the card busy until all are there
        transfers.append(Planned(*((0, 1) if is_sending else (1, 0)), num_bytes, now_us))
    last_us = max(end for end in ends(make_links(bandwidth, inf), *transfers) if end is not None)
    total = sum(transfer.num_bytes for transfer in transfers)
    exact = total / Fraction(str(bandwidth))
    assert exact <= last_us <= exact + len(transfers)


@fixed
@given(
    count=st.integers(1, 30),
    num_bytes=st.integers(0, 1000),
    bandwidth=st.sampled_from([1, 7, 0.3, 1000]),
)
def test_simultaneous_equal_transfers_end_together(
    count: int, num_bytes: int, bandwidth: float
) -> None:
    """All of them at the moment at which the card has carried them all."""
    expected = ceil(count * num_bytes / Fraction(str(bandwidth)))
    got = ends(make_links(bandwidth, inf), *[Planned(0, 1, num_bytes)] * count)
    assert got == [expected] * count


def test_many_sharers_are_exact_too() -> None:
    """With up to 100 sharers at a time, one more every other microsecond."""
    transfers = [Planned(0, 1, 2000 + 37 * number, 2 * number) for number in range(120)]
    got = ends(make_links(1000, inf), *transfers)
    assert got == model_ends([1000, inf], 0, transfers)


def test_former_ends_do_not_pile_up() -> None:
    """Each of 300 comings and goings gives the one that stays another end."""
    links = make_links(1000, inf)
    links.start(0, 0, 1, 10**9, 0)
    for number in range(1, 300):
        links.start(number, 0, 1, 10**6, 2 * number)
        links.cancel(number, 2 * number + 1)
    assert len(links._ends) < 100
    # 299 us at half the bandwidth
    assert links.next_end_us() == 10**6 + 299 // 2 + 1
