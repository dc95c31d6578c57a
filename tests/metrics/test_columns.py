from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.metrics.columns import Column, request_columns, timeseries_columns, to_frame
from blis_sim.metrics.records import Status
from tests.metrics.builders import (
    Row,
    dropped,
    make_cluster_result,
    make_cluster_run,
    make_counters,
    make_result,
    make_run,
    make_timeseries,
    served,
)

NAMES = [
    "request_id",
    "arrival_us",
    "enqueued_us",
    "scheduled_us",
    "first_token_us",
    "last_token_us",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "queue_ms",
    "scheduling_delay_ms",
    "ttft_ms",
    "tpot_ms",
    "e2e_ms",
    "num_preemptions",
    "instance",
    "slo_class",
    "tenant",
    "status",
    "recached_tokens",
    "length_capped",
    "reason",
    "dispatched_us",
    "prefill_instance",
    "handed_over_us",
    "transferred_us",
    "pool",
    "gateway_ms",
    "transfer_ms",
]


def column_of(columns: list[Column], name: str) -> Column:
    return next(column for column in columns if column.name == name)


def test_names_and_order() -> None:
    """The columns are the documented ones, in that order."""
    assert [column.name for column in request_columns(make_run([served()]))] == NAMES


def test_frame_of_a_completed_request() -> None:
    """A completed request has all its times and latencies."""
    row = Row(
        arrival_us=1_000,
        enqueued_us=1_100,
        scheduled_us=2_600,
        first_token_us=5_001,
        gaps_us=[1_000, 1_001, 1_001],
        slo_class="api",
        tenant="t",
        length_capped=1,
    )
    record = make_result([row]).requests.iloc[0]
    assert record["queue_ms"] == 1.5
    assert record["scheduling_delay_ms"] == 1.6
    assert record["ttft_ms"] == 4.001
    assert record["tpot_ms"] == 1.000667
    assert record["e2e_ms"] == 7.003
    assert record["last_token_us"] == 8_003
    assert (record["slo_class"], record["tenant"], record["status"]) == ("api", "t", "completed")
    assert record["length_capped"] == 1


def test_frame_of_a_dropped_request() -> None:
    """What never happened is missing, and the reason is told."""
    record = make_result([dropped(5)]).requests.iloc[0]
    for name in ("enqueued_us", "scheduled_us", "first_token_us", "last_token_us", "instance"):
        assert record.isna()[name]
    for name in ("queue_ms", "scheduling_delay_ms", "ttft_ms", "tpot_ms", "e2e_ms"):
        assert math.isnan(record[name])
    assert record["slo_class"] is None
    assert "max_model_len" in record["reason"]


def test_frame_of_a_cluster() -> None:
    """A request that was handed over has its way; one that was not has no transfer."""
    frame = make_cluster_result().requests
    assert frame["pool"].tolist() == ["d", "d", "d"]
    assert frame["dispatched_us"].tolist() == [10_000, 530_000, 510_000]
    assert frame["gateway_ms"].tolist() == [10.0, 30.0, 10.0]
    assert frame["transfer_ms"].tolist()[:2] == [40.0, 20.0]
    last = frame.iloc[2]
    for name in ("prefill_instance", "handed_over_us", "transferred_us", "transfer_ms"):
        assert last.isna()[name]


def test_request_without_an_instance_has_no_pool() -> None:
    """Without a cluster, or before it is sent to an instance, there is no pool."""
    assert make_result([served()]).requests["pool"].tolist() == [None]
    result = make_cluster_result(make_cluster_run([dropped()]))
    assert result.requests["pool"].tolist() == [None]
    assert result.requests["gateway_ms"].isna().all()


def test_unfinished_request_has_no_e2e() -> None:
    """TTFT exists with the first token; TPOT and E2E only for completed requests."""
    record = make_result([served(ttft_us=9, gaps_us=[5], status=Status.ABORTED)]).requests.iloc[0]
    assert record["ttft_ms"] == 0.009
    assert math.isnan(record["tpot_ms"])
    assert math.isnan(record["e2e_ms"])


def test_types_do_not_depend_on_the_data() -> None:
    """A run without any absent value has the same column types as one with many."""
    full = make_result([served(slo_class="a", tenant="b")]).requests.dtypes
    sparse = make_result([dropped()]).requests.dtypes
    assert full.to_dict() == sparse.to_dict()
    assert str(full["first_token_us"]) == "Int64"
    assert str(full["arrival_us"]) == "int64"
    assert str(full["ttft_ms"]) == "float64"


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=7))
def test_tpot_is_the_exact_quotient_to_the_nanosecond(gaps_us: list[int]) -> None:
    """TPOT in ms has six decimals, rounded half up from the exact fraction."""
    columns = request_columns(make_run([served(gaps_us=gaps_us)]))
    tpot = column_of(columns, "tpot_ms")
    exact_ns = Fraction(1_000 * sum(gaps_us), len(gaps_us))
    assert tpot.decimals == 6
    assert int(tpot.data[0]) == math.floor(exact_ns + Fraction(1, 2))


def test_one_token_has_no_tpot() -> None:
    """TPOT needs two tokens."""
    columns = request_columns(make_run([served(), served(gaps_us=[5])]))
    present = column_of(columns, "tpot_ms").present
    assert present is not None
    assert present.tolist() == [False, True]


def test_timeseries_by_hand() -> None:
    """Usage is of the instance's own pool; tokens are counted since its last sample."""
    samples = make_timeseries(
        time_us=[500_000, 500_000, 1_000_000, 1_000_000, 2_000_000],
        instance=[0, 1, 0, 1, 0],
        num_waiting=[3, 0, 2, 0, 1],
        num_running=[1, 0, 4, 0, 2],
        kv_blocks=[25, 0, 50, 30, 100],
        generated_tokens=[7, 0, 10, 4, 10],
    )
    pools = [make_counters(num_kv_blocks=100), make_counters(num_kv_blocks=300)]
    run = make_run([served()], counters=pools, timeseries=samples)
    frame = make_result(run=run).timeseries
    assert frame is not None
    assert frame["time_s"].tolist() == [0.5, 0.5, 1.0, 1.0, 2.0]
    assert frame["queue_depth"].tolist() == [3, 0, 2, 0, 1]
    assert frame["batch_size"].tolist() == [1, 0, 4, 0, 2]
    assert frame["kv_usage_frac"].tolist() == [0.25, 0.0, 0.5, 0.1, 1.0]
    assert frame["kv_blocks"].tolist() == [25, 0, 50, 30, 100]
    # The first interval is the shortest one; the last of instance 0 is a whole second.
    assert frame["tokens_per_s"].tolist() == [14.0, 0.0, 20.0, 8.0, 10.0]


def test_timeseries_of_a_cluster() -> None:
    """A sample names its pool and how many of the pool's instances take requests."""
    samples = make_timeseries(
        time_us=[400_000, 400_000, 800_000, 800_000, 800_000],
        instance=[0, 1, 0, 1, 2],
        kv_blocks=[10, 50, 20, 100, 50],
        generated_tokens=[0, 4, 0, 2, 3],
        num_ready=[1, 1, 1, 2, 2],
    )
    frame = make_cluster_result(make_cluster_run(timeseries=samples)).timeseries
    assert frame is not None
    assert frame["pool"].tolist() == ["p", "d", "p", "d", "d"]
    assert frame["num_instances"].tolist() == [1, 1, 1, 2, 2]
    assert frame["kv_usage_frac"].tolist() == [0.1, 0.25, 0.2, 0.5, 0.25]
    assert frame["tokens_per_s"].tolist() == [0.0, 10.0, 0.0, 5.0, 7.5]


def test_timeseries_without_a_cluster() -> None:
    """One instance has no pool and no number of instances."""
    run = make_run([served()], timeseries=make_timeseries(time_us=[10]))
    frame = make_result(run=run).timeseries
    assert frame is not None
    assert frame["pool"].tolist() == [None]
    assert frame["num_instances"].isna().all()


def test_single_instant_has_no_rate() -> None:
    """One instant alone does not say over how long its tokens came."""
    run = make_run([served()], timeseries=make_timeseries(time_us=[10], generated_tokens=[3]))
    frame = make_result(run=run).timeseries
    assert frame is not None
    assert math.isnan(frame["tokens_per_s"][0])


def test_unsampled_run_has_no_timeseries() -> None:
    """Without samples there is no table, not an empty one."""
    assert timeseries_columns(make_run([served()])) is None
    assert make_result([served()]).timeseries is None


def test_frame_of_no_rows() -> None:
    """A run without requests gives an empty frame with all columns."""
    frame = make_result([]).requests
    assert list(frame.columns) == NAMES
    assert len(frame) == 0


def test_labels_may_be_absent_or_not() -> None:
    """A text column maps codes to labels and absence to None."""
    codes = np.array([1, 0, 7], dtype=np.int64)
    column = Column("x", codes, np.array([True, True, False]), labels=["a", "b"])
    assert to_frame([column])["x"].tolist() == ["b", "a", None]
