"""``--timeseries-out``: one row per sample and instance.

The columns are time_s, instance, queue_depth, batch_size, kv_usage_frac, kv_blocks,
tokens_per_s and, of a cluster, pool and num_instances (of the pool, ready at that time).
"""

from __future__ import annotations

from blis_sim.metrics.columns import timeseries_columns
from blis_sim.report.columns_file import RunTable

TIMESERIES = RunTable(
    "--timeseries-out",
    timeseries_columns,
    "a run that was sampled; got one without samples; run again with sampling on",
)
