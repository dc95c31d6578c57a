"""The router's decisions as a table: what was chosen, and what else could have been."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blis_sim.metrics.columns import Column
from blis_sim.metrics.percentiles import Float64Array, Int64Array
from blis_sim.metrics.records import Decision, RunData

_SCORE_DECIMALS = 6


def decision_columns(run: RunData) -> list[Column] | None:
    """Return one row per decision and candidate, or None when they were not kept.

    ``regret`` is the best score of the decision less the candidate's own: what choosing it
    gives up, in the unit of the scores. Where nothing was compared there is neither.
    """
    decisions = run.decisions
    if decisions is None:
        return None
    num_candidates = [len(decision.candidates) for decision in decisions]
    purposes = list(dict.fromkeys(decision.purpose for decision in decisions))
    codes = {purpose: code for code, purpose in enumerate(purposes)}

    def repeated(values: Sequence[int]) -> Int64Array:
        return np.repeat(np.array(values, dtype=np.int64), num_candidates)

    instance = np.array([i for each in decisions for i in each.candidates], dtype=np.int64)
    is_chosen = instance == repeated([decision.chosen for decision in decisions])
    scores = _scores(decisions)
    return [
        Column("time_us", repeated([decision.time_us for decision in decisions])),
        Column("request_id", repeated([decision.request_id for decision in decisions])),
        Column("purpose", repeated([codes[each.purpose] for each in decisions]), labels=purposes),
        Column("instance", instance),
        Column("is_chosen", is_chosen.astype(np.int64)),
        _fixed("score", scores),
        _fixed("regret", _best(scores, num_candidates) - scores),
    ]


def _scores(decisions: Sequence[Decision]) -> Float64Array:
    """Return the scores of all candidates, NaN where there is none or not a finite one."""
    scores = np.array(
        [score for each in decisions for score in each.scores or (np.nan,) * len(each.candidates)],
        dtype=np.float64,
    )
    scores[~np.isfinite(scores)] = np.nan
    return scores


def _best(scores: Float64Array, num_candidates: Sequence[int]) -> Float64Array:
    """Return, for each candidate, the best score of its decision."""
    if not scores.size:
        return scores
    starts = np.cumsum([0, *num_candidates[:-1]])
    # fmax ignores NaN unless there is nothing else.
    return np.repeat(np.fmax.reduceat(scores, starts), num_candidates)


def _fixed(name: str, values: Float64Array) -> Column:
    present = ~np.isnan(values)
    scaled = np.rint(np.where(present, values, 0.0) * 10**_SCORE_DECIMALS)
    return Column(name, scaled.astype(np.int64), present, _SCORE_DECIMALS)
