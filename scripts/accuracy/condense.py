"""From the JSON documents of ``blis validate`` to what the page needs, and may, say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from accuracy.statistics import summaries
from blis_sim.catalog.gpus import load_gpu
from blis_sim.errors import CatalogError

Document = Mapping[str, Any]

IN_FLIGHT = ((8, "under 8"), (16, "8 to 16"), (32, "16 to 32"), (64, "32 to 64"))
MOST = "64 and more"
NOT_KNOWN = "not known"
NO_CONFIG = "no config of the model is shipped"


def condensed(
    shipped: Document, runs: Document | None, silicon: Mapping[str, Document]
) -> dict[str, Any]:
    """Return all that the page is written from.

    Parameters
    ----------
    shipped : mapping
        ``blis validate``: rows that may be shown with what was measured.
    runs : mapping or None
        ``blis validate --runs FILE`` for a table that may not be shipped: of its other rows only
        errors are kept.
    silicon : mapping
        Engine -> ``blis validate --silicon --sample all --engine ENGINE``.
    """
    licensed = {row["dataset"] for row in shipped["experiments"]}
    others = [] if runs is None else runs["experiments"]
    return {
        "blis_sim_version": shipped["blis_sim_version"],
        "overrides": shipped["asked"]["overrides"],
        "figures": {name: each["unit"] for name, each in shipped["metric_definitions"].items()},
        "shipped": [_shown(row) for row in shipped["experiments"]],
        "requests": [
            {name: each[name] for name in ("file", "model", "gpu", "num_completed")}
            | {"times": _rounded(each["times"])}
            for each in shipped["requests"]
        ],
        "others": [_row(row) for row in others if row["dataset"] not in licensed],
        "silicon": {engine: _silicon(document) for engine, document in silicon.items()},
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its errors, and nothing from which its measured figures follow."""
    kept = ("dataset", "exp_id", "stage", "role", "model", "tp", "load")
    return (
        {name: row[name] for name in kept}
        | {
            "gpu": gpu_name(row["gpu"]),
            "in_flight": in_flight(row["requests_in_flight"]),
            "latency_model": row["latency_model"],
            "errors": _errors(row),
        }
        | ({"reason": row["reason"]} if "reason" in row else {})
    )


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    pairs = {
        name: [_rounded(each["measured"]), _rounded(each["predicted"])]
        for name, each in row["metrics"].items()
    }
    return _row(row) | {"measured_predicted": pairs}


def _errors(row: Mapping[str, Any]) -> dict[str, float]:
    if "reason" in row:
        return {}
    return {name: round(each["error_pct"], 2) for name, each in row["metrics"].items()}


def gpu_name(written: str) -> str:
    """Return the name that the catalog has for a GPU."""
    try:
        return load_gpu(written).name
    except CatalogError:
        return written


def in_flight(requests: float | None) -> str:
    if requests is None:
        return NOT_KNOWN
    return next((name for end, name in IN_FLIGHT if requests < end), MOST)


def fit(reason: str) -> str:
    """Return why a row was not simulated, without the sizes of a model that does not fit."""
    return (
        "the weights do not fit" if reason.startswith("tensor_parallel_size must be") else reason
    )


def _rounded(value: Any) -> Any:
    """Return numbers with five significant digits, however deep they are."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _silicon(document: Document) -> dict[str, Any]:
    rows = [_with_throughput(row) for row in document["experiments"]]
    simulated = [row for row in rows if "reason" not in row]
    reasons = Counter(fit(row["reason"]) for row in rows if "reason" in row)
    for each in document["left_out"]:
        reasons[each["reason"]] += each["num_rows"]
    models: Counter[str] = Counter()
    for each in document["left_out"]:
        if each["reason"] == NO_CONFIG:
            models[each["model"]] += each["num_rows"]
    return {
        "num_rows": len(rows) + sum(each["num_rows"] for each in document["left_out"]),
        "num_simulated": len(simulated),
        "not_simulated": dict(reasons.most_common()),
        "without_config": dict(models.most_common()),
        "all": summaries(simulated),
        "by_deployment": [
            {"model": model, "gpu": gpu, "summary": summaries(group)}
            for (model, gpu), group in _grouped(simulated, "model", "gpu")
        ],
        "by_tp": [
            {"tp": tp, "summary": summaries(group)} for (tp,), group in _grouped(simulated, "tp")
        ],
        "by_in_flight": [
            {"in_flight": name, "summary": summaries(group)}
            for name in (*(name for _, name in IN_FLIGHT), MOST)
            if (group := [row for row in simulated if row["in_flight"] == name])
        ],
    }


def _grouped(
    rows: Sequence[dict[str, Any]], *columns: str
) -> list[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return sorted(groups.items())


def _with_throughput(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the error of its throughput.

    Of so many users with one request open each it is users / E2E (Little's law), measured and
    predicted alike: no throughput was published.
    """
    kept = _row(row)
    e2e = kept["errors"].pop("e2e_mean_ms", None)
    if e2e is not None:
        each = row["metrics"]["e2e_mean_ms"]
        throughput = 100 * (each["measured"] / each["predicted"] - 1)
        kept["errors"] |= {"e2e_mean_ms": e2e, "throughput": round(throughput, 2)}
    return kept
