"""The reference pages say what the declarations say."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from blis_sim.config.tree import section
from blis_sim.config.lengths import LengthSettings
from blis_sim.config.scenario import Scenario
from blis_sim.config.workload import WorkloadSettings
from blis_sim.metrics.columns import request_columns
from blis_sim.metrics.definitions import (
    ENGINE_METRICS,
    KV_CACHE_METRICS,
    LATENCIES,
    SERVING_METRICS,
)
from tests.metrics.builders import make_run, served

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCENARIO = (DOCS / "scenario.md").read_text(encoding="utf-8")
METRICS = (DOCS / "metrics.md").read_text(encoding="utf-8")

# Where a default of none stands for something that is worked out.
DERIVED = {
    "engine.max_model_len",
    "engine.max_num_seqs",
    "engine.max_num_batched_tokens",
    "engine.num_gpu_blocks_override",
    "workload.request_rate",
    "workload.num_requests",
    "workload.prompt",
    "workload.output",
}


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of all rows whose first cell begins with a name in backticks."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the path and the default of every setting."""
    for name, field in model.model_fields.items():
        part = section(model, name)
        if part is not None and part is not LengthSettings:
            yield from settings(part, f"{prefix}{name}.")
        else:
            yield prefix + name, field.default


def shown(path: str, default: object) -> str:
    """Return a default as the page writes it."""
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "derived" if path in DERIVED else "none"
    value = default.value if isinstance(default, Enum) else default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_every_setting_is_described_with_its_default() -> None:
    """docs/scenario.md has a row for each setting and for nothing else."""
    everything = [*settings(Scenario), *settings(LengthSettings)]
    expected = {path: shown(path, default) for path, default in everything}
    rows = {row[0].strip("`"): row[1] for row in table_rows(SCENARIO)}
    assert rows == expected
    assert WorkloadSettings.model_fields.keys() <= {name.split(".")[-1] for name in rows}


def test_every_metric_is_described_as_it_is_declared() -> None:
    """docs/metrics.md repeats tag, unit and formula of each declaration, and nothing else."""
    expected = [[f"`{latency.tag}`", latency.title, latency.formula] for latency in LATENCIES]
    metrics = (*SERVING_METRICS, *KV_CACHE_METRICS, *ENGINE_METRICS)
    expected += [[f"`{metric.tag}`", metric.unit, metric.formula] for metric in metrics]
    assert table_rows(METRICS.partition("| column |")[0]) == expected


def test_every_column_is_described_in_order() -> None:
    """docs/metrics.md has the columns of the requests file."""
    names = [column.name for column in request_columns(make_run([served(0, ttft_us=1)]))]
    rows = table_rows(METRICS.partition("| column |")[2])
    assert [name.strip("`") for row in rows for name in row[0].split(", ")] == names
