"""``blis tune``: all trials as CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from blis_sim.metrics.definitions import metric_definitions
from blis_sim.metrics.plain import to_plain
from blis_sim.report.sweep_files import DEPLOYMENT, records_csv
from blis_sim.version import package_version

if TYPE_CHECKING:
    from blis_sim.capacity.tune_trial import Trial, Tuning


def tune_csv(tuning: Tuning) -> str:
    """Return one line per trial, in order of suggestion."""
    return records_csv([_record(trial) for trial in tuning.trials])


def _record(trial: Trial) -> dict[str, Any]:
    record = trial.to_json_dict()
    settings = record.pop("settings")
    return {"number": record.pop("number"), **settings, **record, **dict(_figures(trial))}


def _figures(trial: Trial) -> Iterator[tuple[str, Any]]:
    outcome = trial.outcome
    if outcome is None:
        return
    taken = set(trial.settings)
    yield from ((name, outcome.deployment.get(name)) for name in DEPLOYMENT if name not in taken)
    yield from outcome.metrics.items()
    yield "num_requests", outcome.num_requests


def tune_json(tuning: Tuning) -> str:
    """Return everything as strict JSON text, ending in a newline."""
    answer = tuning.to_json_dict()
    answer["trials"] = [
        trial.to_json_dict()
        | {
            "deployment": {} if trial.outcome is None else trial.outcome.deployment,
            "metrics": trial.metrics,
        }
        for trial in tuning.trials
    ]
    document = {
        "blis_sim_version": package_version(),
        **answer,
        "metric_definitions": metric_definitions(),
    }
    return json.dumps(to_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
