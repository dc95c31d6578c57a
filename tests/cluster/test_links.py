"""KV transfers: hand-computed ends."""

from __future__ import annotations

from math import inf

import pytest

from blis_sim.cluster.links import FAR_US

from .transfers import Planned, ends, make_links


@pytest.mark.parametrize("latency_us", [0, 50])
@pytest.mark.parametrize("start_us", [0, 7])
@pytest.mark.parametrize(
    ("num_bytes", "bandwidth", "flow_us"),
    [
        (1000, 10, 100),
        (1001, 10, 101),
        (1, 10, 1),
        (3, 0.1, 30),
        (7, 2.5, 3),
        (0, 10, 0),
        (10**12, inf, 0),
        (10**15, 50_000, 2 * 10**10),
    ],
)
def test_a_single_transfer_takes_the_latency_and_its_bytes_by_the_bandwidth(
    latency_us: int, start_us: int, num_bytes: int, bandwidth: float, flow_us: int
) -> None:
    """Rounded up to whole microseconds; a tenth of a byte per microsecond is exactly that."""
    links = make_links(bandwidth, bandwidth, latency_us=latency_us)
    expected = start_us + latency_us + flow_us
    assert ends(links, Planned(0, 1, num_bytes, start_us)) == [expected]
    assert links.next_end_us() == FAR_US


def test_the_slower_card_decides() -> None:
    """Whichever side it is on; an unlimited one never does."""
    assert ends(make_links(10, 4), Planned(0, 1, 100)) == [25]
    assert ends(make_links(4, 10), Planned(0, 1, 100)) == [25]
    assert ends(make_links(inf, 4), Planned(0, 1, 100)) == [25]
    assert ends(make_links(4, inf), Planned(0, 1, 100)) == [25]


def test_transfers_of_one_source_share_its_card() -> None:
    """300 and 100 bytes at 10 bytes/us: both at 5 until 20, then 200 bytes at 10."""
    links = make_links(10, 10, 10)
    assert ends(links, Planned(0, 1, 300), Planned(0, 2, 100)) == [40, 20]


def test_transfers_to_one_destination_share_its_card() -> None:
    """The second one comes at 10: 200 bytes are left, both at 5 until 50."""
    links = make_links(10, 10, 10)
    assert ends(links, Planned(0, 2, 300), Planned(1, 2, 200, 10)) == [50, 50]


def test_equal_transfers_end_together() -> None:
    """A third of 10 bytes/us has no finite decimals; 100 bytes each take exactly 30 us."""
    links = make_links(10, inf)
    assert ends(links, *[Planned(0, 1, 100)] * 3) == [30, 30, 30]


def test_rounded_thirds_do_not_delay_an_end() -> None:
    """There are three all the time, the third another one each microsecond: ends stay at 30."""
    others = [Planned(0, 1, 100, start_us, start_us + 1) for start_us in range(29)]
    got = ends(make_links(10, inf), *[Planned(0, 1, 100)] * 2, *others, Planned(0, 1, 100, 29))
    assert got[:2] == [30, 30]


def test_long_transfers_are_not_rounded_by_the_microsecond() -> None:
    """After 3e9 us at a third of 10 bytes/us, 9e10 of 1e11 bytes are left, at 5 bytes/us."""
    links = make_links(10, inf)
    transfers = Planned(0, 1, 10**11), Planned(0, 1, 10**11), Planned(0, 1, 10**11, 0, 3 * 10**9)
    assert ends(links, *transfers) == [21 * 10**9, 21 * 10**9, None]


def test_directions_do_not_disturb_each_other() -> None:
    """Cards are full duplex."""
    links = make_links(10, 10)
    assert ends(links, Planned(0, 1, 100), Planned(1, 0, 100)) == [10, 10]


def test_a_share_that_cannot_be_used_stays_unused() -> None:
    """0 sends to 1 and 2 at 5 each, though 1, which also receives from 3, takes only 4."""
    links = make_links(10, 8, 10, 10)
    got = ends(links, Planned(0, 1, 80), Planned(0, 2, 100), Planned(3, 1, 80))
    assert got == [20, 20, 20]


def test_a_transfer_in_its_latency_takes_no_bandwidth() -> None:
    """100 bytes flow from 50 to 60 alone; the second ones' flow begins at 60 only."""
    links = make_links(10, 10, latency_us=50)
    assert ends(links, Planned(0, 1, 100, 0), Planned(0, 1, 100, 10)) == [60, 70]
    assert ends(links, Planned(0, 1, 100, 100), Planned(0, 1, 100, 105)) == [165, 170]


def test_who_ends_when_another_begins_to_flow_does_not_disturb_it() -> None:
    """The first ends at 15.1, rounded up to 16, when the flow of the second begins: 9.5 us."""
    links = make_links(10, 10, latency_us=5)
    assert ends(links, Planned(0, 1, 101, 0), Planned(0, 1, 95, 11)) == [16, 26]


def test_a_cancelled_transfer_leaves_its_bandwidth_to_the_others() -> None:
    """At 10, 50 of 100 bytes are left for the one that stays."""
    links = make_links(10, 10)
    assert ends(links, Planned(0, 1, 100), Planned(0, 1, 100, 0, 10)) == [15, None]


@pytest.mark.parametrize("cancel_us", [20, 49, 50, 55, 60])
def test_a_cancelled_transfer_never_ends(cancel_us: int) -> None:
    """In its latency, while it flows, and at its end if that was not reported."""
    links = make_links(10, 10, latency_us=50)
    links.start(7, 0, 1, 100, 0)
    links.cancel(7, cancel_us)
    assert links.next_end_us() == FAR_US
    assert links.pop_ended(1000) == []
    with pytest.raises(KeyError, match="7"):
        links.cancel(7, 1000)


def test_ends_are_reported_once_in_order_of_number() -> None:
    """However late one asks, and whichever ended first."""
    links = make_links(10, 10, 10, 10)
    for number, num_bytes in ((5, 10), (3, 30), (4, 20)):
        links.start(number, 0, 1, num_bytes, 0)
    links.start(1, 2, 3, 1000, 0)
    assert links.next_end_us() == 3
    assert links.pop_ended(2) == []
    assert links.pop_ended(99) == [3, 4, 5]
    assert links.next_end_us() == 100
    assert links.pop_ended(100) == [1]
    assert links.pop_ended(100) == []


def test_what_was_due_before_a_call_is_done_first() -> None:
    """The first transfer left the card at 10, though nobody asked: the second one is alone."""
    links = make_links(10, 10)
    links.start(0, 0, 1, 100, 0)
    links.start(1, 0, 1, 100, 50)
    assert links.next_end_us() == 10
    assert links.pop_ended(59) == [0]
    assert links.next_end_us() == 60


def test_an_end_that_nobody_asked_for_frees_bandwidth_in_time() -> None:
    """The shorter one ends at 20; of 200 bytes then left 100 are gone at 30, and all at 40."""
    links = make_links(10, 10)
    links.start(0, 0, 1, 100, 0)
    links.start(1, 0, 1, 300, 0)
    links.start(2, 1, 0, 1000, 30)
    assert links.pop_ended(30) == [0]
    assert links.next_end_us() == 40


def test_a_number_may_be_used_again() -> None:
    """After a cancellation at the same instant too."""
    links = make_links(10, 10, latency_us=5)
    links.start(0, 0, 1, 100, 0)
    links.cancel(0, 0)
    links.start(0, 0, 1, 200, 0)
    assert links.pop_ended(24) == []
    assert links.pop_ended(25) == [0]
    links.start(0, 0, 1, 10, 25)
    assert links.pop_ended(31) == [0]
