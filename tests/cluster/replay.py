"""Each instance of a finished run once more, by the independent step-by-step reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from blis_sim.cluster.config import ClusterConfig, PoolConfig
from blis_sim.metrics.records import RunData, Status
from blis_sim.workload.request import RequestSpec
from tests.engine.builders import gaps, rows
from tests.engine.test_equality import COUNTERS, REQUEST_FIELDS
from tests.reference import Reference


def check_replay(config: ClusterConfig, run: RunData, specs: Sequence[RequestSpec]) -> None:
    """Check every time and counter of a run of mixed pools that came to its end.

    What the gateway did is taken from the run: who was sent where, and when.
    """
    seen = {row.request_id: row for row in rows(run)}
    itl: Counter[int | None] = Counter()
    for number, record in enumerate(run.instances):
        pool = config.pools[record.pool]
        sent = [s for s in specs if _went_to(seen[s.request_id], number)]
        reference = _reference(pool, sent, {s.request_id: seen[s.request_id] for s in sent}).run()
        itl += reference.itl
        for expected in reference.records:
            row = seen[expected.spec.request_id]
            values = {name: getattr(row, name) for name in REQUEST_FIELDS}
            wanted = {name: getattr(expected, name) for name in REQUEST_FIELDS}
            if row.status is not Status.COMPLETED:
                wanted["last_token_us"] = None
            assert (row.status.name.lower(), values) == (expected.status, wanted)
        counters = {name: getattr(run.counters[number], name) for name in COUNTERS}
        assert counters == {name: reference.counters[name] for name in COUNTERS}
    del itl[None]  # first tokens
    assert gaps(run) == dict(itl)


def _went_to(row: Any, instance: int) -> bool:
    return row.dispatched_us is not None and row.instance == instance


def _reference(pool: PoolConfig, specs: list[RequestSpec], seen: dict[int, Any]) -> Any:
    engine, scheduler = pool.engine, pool.engine.scheduler
    settings = SimpleNamespace(
        block_size=engine.block_size,
        num_kv_blocks=engine.num_kv_blocks,
        prefix_caching=engine.enable_prefix_caching,
        async_scheduling=engine.async_scheduling,
        max_num_seqs=scheduler.max_num_seqs,
        max_num_batched_tokens=scheduler.max_num_batched_tokens,
        max_model_len=scheduler.max_model_len,
        long_prefill_token_threshold=scheduler.long_prefill_token_threshold,
        policy=scheduler.policy.value,
        chunked_prefill=scheduler.enable_chunked_prefill,
        reserve_full_sequence=scheduler.reserve_full_sequence,
        horizon_us=None,
    )
    reference = Reference(specs, pool.latency, settings)
    for record in reference.records:
        row = seen[record.spec.request_id]
        record.enter_us += row.dispatched_us - record.spec.arrival_us
    return reference
