"""``--decisions-out``: one row per decision of the router and candidate."""

from __future__ import annotations

from pathlib import Path

from blis_sim.errors import SimulationError
from blis_sim.metrics.decision_columns import decision_columns
from blis_sim.metrics.result import Result
from blis_sim.report.columns_file import check_table_path, write_columns

FLAG = "--decisions-out"


def check_decisions_path(path: str | Path) -> None:
    """Check, before a run, that the decisions can be written to ``path``.

    Raises
    ------
    ConfigError
        The suffix is unknown or the path cannot be written.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    """
    check_table_path(path, FLAG)


def write_decisions(result: Result, path: str | Path) -> None:
    """Write time_us, request_id, purpose, instance, is_chosen, score, regret.

    A decision has a row for each instance that could have taken the request; the best score
    has regret 0. The suffix of ``path`` (``.csv``, ``.csv.gz``, ``.parquet``) says the format.

    Raises
    ------
    SimulationError
        The run did not keep its decisions.
    ConfigError
        The suffix is unknown or the file cannot be written.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    """
    columns = decision_columns(result.run)
    if columns is None:
        raise SimulationError(
            f"{FLAG} must follow a run that kept its routing decisions; got one without them; "
            "run again with decisions on"
        )
    write_columns(columns, path, FLAG)
