"""``--timeseries-out``: one row per sample and instance."""

from __future__ import annotations

from pathlib import Path

from blis_sim.errors import SimulationError
from blis_sim.metrics.columns import timeseries_columns
from blis_sim.metrics.records import RunData
from blis_sim.report.columns_file import check_table_path, write_columns

FLAG = "--timeseries-out"


def check_timeseries_path(path: str | Path) -> None:
    """Check, before a run, that the time series can be written to ``path``.

    Raises
    ------
    ConfigError
        The suffix is unknown or the path cannot be written.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    """
    check_table_path(path, FLAG)


def write_timeseries(run: RunData, path: str | Path) -> None:
    """Write one row per sample and instance.

    The columns are time_s, instance, queue_depth, batch_size, kv_usage_frac, kv_blocks,
    tokens_per_s and, of a cluster, pool and num_instances (of the pool, ready at that time).
    The suffix of ``path`` (``.csv``, ``.csv.gz``, ``.parquet``) says the format.

    Raises
    ------
    SimulationError
        The run was not sampled.
    ConfigError
        The suffix is unknown or the file cannot be written.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    """
    columns = timeseries_columns(run)
    if columns is None:
        raise SimulationError(
            f"{FLAG} must follow a run that was sampled; got one without samples; run again "
            "with sampling on"
        )
    write_columns(columns, path, FLAG)
