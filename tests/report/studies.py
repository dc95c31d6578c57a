"""Made-up studies: a sweep, a plan and a search, as a store would give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import (
    Label,
    Outcome,
    OutcomeStatus,
    Point,
    StoredPoint,
    Study,
    StudyKind,
)
from blis_sim.config.scenario import Scenario

HOSTILE = "<script>alert('x')</script>\"&{{7*7}} $a$ %{x}"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
LIMITS = [{"metric": "p99_ttft_ms", "value": 200.0}, {"metric": "mean_tpot_ms", "value": 25.0}]
_CAPACITY_PER_S = {"H100": 30.0, "A100-80": 14.0, "L40S": 8.0}
_USD = {"H100": 3.99, "A100-80": 2.74, "L40S": 1.55}


def make_outcome(gpu: str = "H100", rate: float = 8.0, **changes: Any) -> Outcome:
    """Return what a queue with some capacity would show."""
    capacity = _CAPACITY_PER_S.get(gpu, 20.0)
    load = rate / capacity
    ttft = 30 + (300 * load**4 if load < 1 else 4000 * load)
    tpot = 240 / capacity * (1 + min(load, 1.5))
    served = min(rate, capacity)
    metrics = {
        "duration": 100.0,
        "completed": int(100 * served),
        "request_throughput": served,
        "request_goodput": None,
        "output_throughput": 250 * served,
        "output_throughput_per_gpu": 250 * served,
        "mean_ttft_ms": ttft / 2,
        "p99_ttft_ms": ttft,
        "mean_tpot_ms": tpot,
        "p99_itl_ms": 2 * tpot,
        "p99_e2el_ms": ttft + 300 * tpot,
        "kv_usage_peak_frac": min(1.0, load),
        "num_preemptions": 0,
        "mean_gpus": 1.0,
        "cost_usd": _USD.get(gpu, 2.0) * 100 / 3600,
        "usd_per_million_output_tokens": _USD.get(gpu, 2.0) * 1e6 / 3600 / (250 * served),
    }
    shape = [0.2 + (rank / 100) ** 2 for rank in range(101)]
    values: dict[str, Any] = {
        "status": OutcomeStatus.DONE,
        "deployment": {
            "model": MODEL,
            "gpu": gpu,
            "tensor_parallel_size": 1,
            "num_instances": 1,
            "num_gpus": 1,
            "latency_model": "roofline-v2",
            "latency_source": f"bench_data, kernels of {gpu}",
            "usd_per_gpu_hour": _USD.get(gpu),
        },
        "metrics": metrics,
        "quantiles": {
            "ttft": [ttft * each for each in shape],
            "itl": [tpot * each for each in shape],
        },
        "is_saturated": load > 1,
        "seed": 42,
        "request_rate": rate,
        "load": "400 requests of a made-up load",
        "scenario_sha256": "ab" * 32,
        "num_requests": 400,
        "wall_s": 0.5,
    }
    return Outcome(**(values | changes))


def make_point(labels: Mapping[str, Label], outcome: Outcome | None) -> StoredPoint:
    """Return a stored point."""
    return StoredPoint(
        key=repr(sorted(labels.items(), key=str)),
        labels=labels,
        scenario={"model": MODEL, "seed": 42, "hardware": str(labels.get("hardware", "H100"))},
        outcome=outcome,
        code_version="0.1.0+abc" if outcome is not None else "",
    )


def make_study(
    kind: StudyKind = StudyKind.SWEEP,
    points: Sequence[StoredPoint] = (),
    *,
    name: str = "a made-up study",
    asked: Mapping[str, Any] | None = None,
    answer: Mapping[str, Any] | None = None,
) -> Study:
    """Return a study."""
    return Study(
        number=1,
        kind=kind,
        name=name,
        asked=asked or {},
        answer=answer,
        created_at="2026-01-02T03:04:05+00:00",
        updated_at="2026-01-02T03:05:00+00:00",
        code_version="0.1.0+abc",
        points=tuple(points),
    )


def sweep_points(
    gpus: Sequence[str] = ("H100", "A100-80", "L40S"),
    rates: Sequence[float] = (2, 4, 8, 16),
    num_replications: int = 1,
) -> list[StoredPoint]:
    """Return a point for each GPU, rate and replication; T4 cannot run."""
    points = []
    for gpu in gpus:
        for rate in rates:
            for number in range(num_replications):
                labels: dict[str, Label] = {"hardware": gpu, "workload.request_rate": rate}
                if num_replications > 1:
                    labels["replication"] = number
                outcome = make_outcome(gpu, rate * (1 + number / 100))
                if gpu == "T4":
                    outcome = Outcome(
                        status=OutcomeStatus.INFEASIBLE, reason="the weights do not fit on a T4"
                    )
                points.append(make_point(labels, outcome))
    return points


def make_sweep(**changes: Any) -> Study:
    """Return a sweep over GPUs and rates that keeps two limits."""
    points = changes.pop("points", None) or sweep_points(("H100", "A100-80", "L40S", "T4"))
    return make_study(StudyKind.SWEEP, points, **({"asked": {"limits": LIMITS}} | changes))


def make_candidate(gpu: str = "H100", rank: int | None = 1, **changes: Any) -> dict[str, Any]:
    """Return a candidate of a plan with its probes."""
    rate = 0.8 * _CAPACITY_PER_S.get(gpu, 20.0)
    replicas = -(-40 // int(rate))
    probes = [
        {
            "rate": share * rate,
            "num_requests": 2000,
            "values": {key: _metrics(gpu, share * rate)[key] for key in _PROBED},
            "verdict": "kept" if share <= 1 else "missed",
            "is_saturated": share > 1.2,
        }
        for share in (0.5, 0.8, 1.0, 1.1, 1.4)
    ]
    return {
        "rank": rank,
        "model": MODEL,
        "gpu": gpu,
        "tensor_parallel_size": 1,
        "settings": {"engine.max_num_seqs": 256},
        "status": "found",
        "reason": "",
        "rate_per_replica": rate,
        "rate_low": 0.95 * rate,
        "rate_high": 1.05 * rate,
        "replicas": replicas,
        "num_gpus": replicas,
        "usd_per_hour": replicas * _USD.get(gpu, 2.0),
        "usd_per_million_output_tokens": replicas * _USD.get(gpu, 2.0) * 1e6 / 3600 / 10000,
        "headroom_frac": 0.12,
        "binds": "p99 TTFT",
        "is_pareto": rank == 1,
        "tokens_per_s_per_user": 1000 / _metrics(gpu, rate)["mean_tpot_ms"],
        "tokens_per_s_per_gpu": 250 * rate,
        "metrics": {key: _metrics(gpu, rate)[key] for key in _PROBED},
        "probes": probes,
        "num_simulations": 5,
        "num_requests": 10000,
    } | changes


_PROBED = ("p99_ttft_ms", "mean_tpot_ms", "p99_itl_ms")


def _metrics(gpu: str, rate: float) -> dict[str, float]:
    return {key: value or 0.0 for key, value in make_outcome(gpu, rate).metrics.items()}


def plan_answer(**changes: Any) -> dict[str, Any]:
    """Return the answer of a plan."""
    refused = {
        "rank": None,
        "model": MODEL,
        "gpu": "T4",
        "tensor_parallel_size": 1,
        "settings": {},
        "status": "infeasible",
        "reason": "the weights do not fit",
    }
    return {
        "sentence": "2 x H100 carry 40 requests/s within all limits for 7.98 USD per hour.",
        "target_rate": 40.0,
        "limits": LIMITS,
        "candidates": [
            make_candidate("H100", 1),
            make_candidate("A100-80", 2),
            make_candidate("L40S", 3),
            refused,
        ],
        "winner": 0,
        "verification": {
            "replicas": 2,
            "routing": "least-loaded",
            "values": {"p99_ttft_ms": 143.0, "mean_tpot_ms": 14.2},
            "verdict": "kept",
        },
        "num_simulations": 15,
        "num_requests": 30000,
        "num_pruned": 3,
        "prices": [{"gpu": "H100", "usd_per_gpu_hour": 3.99, "source": "a list, 2026"}],
    } | changes


def make_plan(**changes: Any) -> Study:
    """Return a plan with an answer."""
    asked = {"model": MODEL, "load": "chat", "limits": LIMITS, "target_rate": 40.0}
    values = {
        "name": "the cheapest deployment for chat at 40 requests/s",
        "asked": asked,
        "answer": plan_answer(),
        "points": [
            make_point(
                {"hardware": gpu, "engine.max_num_seqs": 256, "workload.request_rate": rate},
                make_outcome(gpu, rate),
            )
            for gpu, rate in (("H100", 20.0), ("H100", 24.0), ("A100-80", 10.0))
        ],
    }
    return make_study(StudyKind.PLAN, **(values | changes))


def make_tune(**changes: Any) -> Study:
    """Return a search with some trials."""
    trials = [
        {
            "number": number,
            "settings": {"engine.max_num_seqs": 32 * (number + 1), "engine.version": "0.15.1"},
            "value": 1000.0 + 90 * number * (9 - number) if number != 3 else None,
            "status": "done" if number != 3 else "missed",
            "reason": "" if number != 3 else "too slow",
        }
        for number in range(10)
    ]
    best = max(trials, key=lambda trial: trial["value"] or 0.0)  # type: ignore[arg-type, return-value]
    answer = {
        "sentence": "max_num_seqs 160 serves most: 2,800 output tokens/s per GPU.",
        "objective": "output_throughput_per_gpu",
        "best": {"settings": best["settings"], "value": best["value"]},
        "default": {"figure": 1000.0},
        "trials": trials,
    }
    return make_study(StudyKind.TUNE, **({"answer": answer, "name": "tune"} | changes))


def store_of(path: Path, *studies: Study) -> Path:
    """Write studies into a store and return its path."""
    with ResultStore(path) as store:
        for study in studies:
            asked = {"study": study.name} | dict(study.asked)
            number = store.begin(study.kind, study.name, asked)
            keys = [f"{number}:{point.key}" for point in study.points]
            points = [
                Point(Scenario.model_validate(point.scenario), point.labels)
                for point in study.points
            ]
            store.add_members(number, keys, points)
            for key, point, stored in zip(keys, points, study.points, strict=True):
                if stored.outcome is not None:
                    store.put(key, point, stored.outcome)
            if study.answer is not None:
                store.answer(number, study.answer)
    return path
