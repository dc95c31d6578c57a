"""Small loads of other programs, as nested values, and how to write them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from blis_sim.config.workload import WorkloadSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.importing import read_foreign

GAUSSIAN = {"type": "gaussian", "params": {"mean": 400, "std_dev": 120, "min": 100, "max": 800}}
CONSTANT = {"type": "constant", "params": {"value": 64}}


def blis_client(**changes: Any) -> dict[str, Any]:
    """Return a client of a BLIS spec with some settings changed; None takes one out."""
    client: dict[str, Any] = {
        "id": "a",
        "rate_fraction": 1.0,
        "arrival": {"process": "poisson"},
        "input_distribution": copy.deepcopy(GAUSSIAN),
        "output_distribution": copy.deepcopy(CONSTANT),
        "timeout": 0,
    }
    client |= changes
    return {key: value for key, value in client.items() if value is not None}


def blis_spec(*clients: dict[str, Any], **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"version": "2", "aggregate_rate": 10}
    if clients:
        spec["clients"] = list(clients)
    return {k: v for k, v in (spec | changes).items() if v is not None}


def inference_perf(load: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    """Return a configuration of inference-perf with shared prefixes."""
    pool = {
        "num_groups": 10,
        "num_prompts_per_group": 10,
        "system_prompt_len": 100,
        "question_len": 491,
        "output_len": 247,
    }
    stages = [{"rate": 5, "duration": 600}, {"rate": 10, "duration": 600}]
    return {
        "load": {"type": "constant", "stages": stages, "num_workers": 4} | (load or {}),
        "data": {"type": "shared_prefix", "shared_prefix": pool} | data,
    }


def write_yaml(path: Path, values: object) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def write_chunk(folder: Path, number: int, rows: str, lengths: dict[str, Any]) -> None:
    """Write the two files of a ServeGen client."""
    folder.mkdir(exist_ok=True)
    (folder / f"chunk-{number}-trace.csv").write_text(rows)
    (folder / f"chunk-{number}-dataset.json").write_text(json.dumps(lengths))


def check_importable_or_refused(path: Path, values: object, kind: str) -> None:
    """Assert that a load is imported as valid settings or refused in one line of ours."""
    message = ""
    try:
        found = read_foreign(write_yaml(path, values), kind)
    except ConfigError as error:
        message = str(error)
    else:
        assert found is not None
        WorkloadSettings.model_validate(found.settings)
        return
    assert path.name in message
    assert "\n" not in message


def spoiled(values: Any, bad: tuple[Any, ...]) -> Iterator[Any]:
    """Yield copies of nested values, each with one value replaced or one key misspelt."""
    for path in _paths(values):
        for replacement in bad:
            changed = copy.deepcopy(values)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = replacement
            yield changed
        if isinstance(path[-1], str):
            changed = copy.deepcopy(values)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            parent[f"{path[-1]}x"] = parent.pop(path[-1])
            yield changed


def _paths(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        values.items()
        if isinstance(values, dict)
        else enumerate(values)
        if isinstance(values, list)
        else ()
    )
    for key, value in items:
        yield (*above, key)
        yield from _paths(value, (*above, key))
