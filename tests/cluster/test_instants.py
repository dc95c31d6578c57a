"""What happens at one instant happens in the order of what it is, not of who was first."""

from __future__ import annotations

import pytest

from tests.engine.builders import make_specs, rows

from .builders import make_cluster, make_pool, serve_both_ways


@pytest.mark.parametrize("first", [0, 1])
def test_arrivals_join_the_queue_before_it_is_served(first: int) -> None:
    """Both instances end a request at 20, when an urgent one arrives: it passes who waits.

    Whichever instance's event was made first.
    """
    config = make_cluster(
        make_pool(num_instances=2, max_num_seqs=1),
        gateway={"max_outstanding_per_instance": 1, "queue_order": "priority"},
    )
    lengths = [2, 4] if first else [4, 2]
    run = serve_both_ways(
        config,
        make_specs(
            {"output_tokens": lengths[0], "priority": 1},
            {"output_tokens": lengths[1], "priority": 1},
            {"output_tokens": 1, "arrival_us": 1, "priority": 5},
            {"output_tokens": 1, "arrival_us": 1, "priority": 5},
            {"output_tokens": 1, "arrival_us": 20, "priority": 0},
        ),
    )
    dispatched = [row.dispatched_us for row in rows(run)]
    assert dispatched == [0, 0, 30, 40, 20]


def test_simultaneous_ends_on_several_instances() -> None:
    """Four instances end at one instant; who waits goes to them in the order of their numbers."""
    config = make_cluster(
        make_pool(num_instances=4),
        routing="least-loaded",
        gateway={"max_outstanding_per_instance": 1},
    )
    load = [{"output_tokens": 3}] * 4 + [{"arrival_us": 5, "output_tokens": 2}] * 4
    run = serve_both_ways(config, make_specs(*load))
    waited = rows(run)[4:]
    assert [row.dispatched_us for row in waited] == [30] * 4
    assert [row.instance for row in waited] == [0, 1, 2, 3]
