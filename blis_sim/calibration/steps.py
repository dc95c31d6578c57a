"""Logs of engine steps: what was in each batch, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blis_sim.calibration.table import DataTable, FloatArray, Quantity, read_table
from blis_sim.errors import TraceError, nearest
from blis_sim.units import US_PER_MS, US_PER_S

PREFILL_TOKENS = Quantity(
    "prompt tokens of a step",
    dict.fromkeys(("prefill_tokens", "num_prefill_tokens", "batch_prefill_tokens"), 1.0),
)
DECODES = Quantity(
    "decoding requests of a step",
    dict.fromkeys(
        (
            *("num_decodes", "n_decode", "num_decode_reqs", "batch_num_decode_reqs"),
            *("decode_tokens", "batch_decode_tokens"),
        ),
        1.0,
    ),
)
DURATION = Quantity(
    "duration of a step",
    {
        f"{name}{unit}": factor
        for unit, factor in (("_us", 1.0), ("_ms", float(US_PER_MS)), ("_s", float(US_PER_S)))
        for name in ("step", "step_time", "step_duration", "duration", "dt_next")
    }
    | {"step_us_median": 1.0},
    is_positive=True,
)
PREFILLS = Quantity(
    "prompts of a step",
    dict.fromkeys(
        ("num_prefills", "n_prefill", "num_prefill_reqs", "batch_num_prefill_reqs"), 1.0
    ),
)
CONTEXT = Quantity(
    "mean context of the decodes, tokens",
    dict.fromkeys(("context_tokens_mean", "context_mean"), 1.0),
)
COUNT = Quantity(
    "steps that a row stands for",
    dict.fromkeys(("num_steps", "n"), 1.0),
    is_positive=True,
)
RUN = "exp_id"
"""Column that tells the runs of a log from one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLog:
    """Steps in the order of the file; one entry per row.

    Attributes
    ----------
    path : Path
        Where they are from.
    prefill_tokens, num_decodes : float64 array
        In the batch, >= 0.
    duration_us : float64 array
        Microseconds, > 0.
    count : float64 array
        Steps that a row stands for, > 0: 1, or those of which it is the mean or median.
    num_prefills : float64 array or None
        Prompts in the batch; None = the file does not say.
    context_tokens : float64 array or None
        Mean context of the decodes; None = the file does not say.
    notices : tuple of str
        What was left out.
    """

    path: Path
    prefill_tokens: FloatArray
    num_decodes: FloatArray
    duration_us: FloatArray
    count: FloatArray
    num_prefills: FloatArray | None = None
    context_tokens: FloatArray | None = None
    notices: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return int(self.duration_us.size)


def has_steps(names: tuple[str, ...]) -> bool:
    """Return whether a file with these columns may be a log of steps."""
    return all(each.column_in(names) is not None for each in (PREFILL_TOKENS, DECODES, DURATION))


def read_steps(path: Path, run: str | None = None) -> StepLog:
    """Read a log of engine steps, CSV or JSONL.

    Parameters
    ----------
    path : Path
        A row per step, or per kind of step with how many there were; see
        docs/calibration.md for the columns. Others are not read.
    run : str, optional
        Only rows with this ``exp_id``. A log of several runs needs it.

    Raises
    ------
    TraceError
        The file cannot be read, lacks a column, or a cell is not what it must be; names line
        and column.
    """
    table = _of_run(read_table(path), run)
    prefill_tokens, num_decodes = table.require(PREFILL_TOKENS), table.require(DECODES)
    duration_us, count = table.require(DURATION), table.find(COUNT)
    is_busy: npt.NDArray[np.bool_] = prefill_tokens + num_decodes > 0
    if not is_busy.any():
        raise TraceError(f"{path}: steps must have tokens; got {is_busy.size:,} without any")
    num_idle = int((~is_busy).sum())
    prefills, context = table.find(PREFILLS), table.find(CONTEXT)
    return StepLog(
        path=path,
        prefill_tokens=prefill_tokens[is_busy],
        num_decodes=num_decodes[is_busy],
        duration_us=duration_us[is_busy],
        count=(np.ones(is_busy.size) if count is None else count)[is_busy],
        num_prefills=None if prefills is None else prefills[is_busy],
        context_tokens=None if context is None else context[is_busy],
        notices=(f"{path}: {num_idle:,} steps without tokens left out",) if num_idle else (),
    )


def _of_run(table: DataTable, run: str | None) -> DataTable:
    """Return the rows of one run."""
    runs = list(dict.fromkeys(table.texts(RUN))) if RUN in table.names else []
    if run is None:
        if len(runs) > 1:
            raise TraceError(
                f"{table.path}: steps must be those of one deployment; got {len(runs)} runs in "
                f"the column {RUN}; choose one with --exp-id {nearest('', runs, 1)[0]}"
            )
        return table
    if run not in runs:
        known = ", ".join(nearest(run, runs)) if runs else f"no column {RUN}"
        raise TraceError(f"{table.path}: --exp-id must be a run of the log ({known}); got {run!r}")
    return table.take([place for place, each in enumerate(table.texts(RUN)) if each == run])
