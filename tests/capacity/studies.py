"""Small studies with keyword defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blis_sim.capacity.study import Label, Outcome, OutcomeStatus, Point
from blis_sim.config.loading import load_scenario
from blis_sim.config.scenario import Scenario

CHEAP = {"latency": {"model": "blackbox"}, "workload": {"num_requests": 5, "request_rate": 4}}


def make_scenario(**settings: Any) -> Scenario:
    """Return a scenario of five requests, a few milliseconds of work."""
    workload = CHEAP["workload"] | settings.pop("workload", {})
    return load_scenario(CHEAP | settings | {"workload": workload})


def make_point(seed: int = 1, labels: dict[str, Label] | None = None, **settings: Any) -> Point:
    """Return a point that its seed sets apart."""
    return Point(
        make_scenario(seed=seed, **settings), {"seed": seed} if labels is None else labels
    )


def make_points(count: int, **settings: Any) -> list[Point]:
    return [make_point(seed, **settings) for seed in range(1, count + 1)]


def make_outcome(status: str = "done", **more: Any) -> Outcome:
    more.setdefault("metrics", {"mean_ttft_ms": 12.5, "completed": 5, "std_ttft_ms": None})
    return Outcome(status=OutcomeStatus(status), **more)


def figures(outcome: Outcome) -> str:
    """Return an outcome as text, without the time it took."""
    values = outcome.to_json_dict()
    del values["wall_s"]
    return json.dumps(values, sort_keys=True)


def write_trace(path: Path, *rows: str) -> Path:
    """Write a trace of requests at 0, 1, 2, ... seconds, or of the rows given."""
    lines = rows or [f"{second},33,5" for second in range(5)]
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines, ""]))
    return path
