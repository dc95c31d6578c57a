"""``--requests-out``: one row per request."""

from __future__ import annotations

from pathlib import Path

from blis_sim.metrics.columns import request_columns
from blis_sim.metrics.records import RunData
from blis_sim.report.columns_file import check_table_path, write_columns

FLAG = "--requests-out"


def check_requests_path(path: str | Path) -> None:
    """Check, before a run, that the requests can be written to ``path``.

    Raises
    ------
    ConfigError
        The suffix is unknown or the path cannot be written.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    """
    check_table_path(path, FLAG)


def write_requests(run: RunData, path: str | Path) -> None:
    """Write one row per request, in order of ``request_id``.

    ``*_us`` are whole microseconds of client time, empty when absent; ``*_ms`` have three
    decimals (``tpot_ms`` six). The suffix of ``path`` (``.csv``, ``.csv.gz``, ``.parquet``)
    says the format.

    Raises
    ------
    ConfigError
        The suffix is unknown or the file cannot be written.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    """
    write_columns(request_columns(run), path, FLAG)
