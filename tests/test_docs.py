"""The reference pages say what the declarations say."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from blis_sim.cli.main import main
from blis_sim.config.cluster import (
    AdmissionPolicy,
    DisaggregationSettings,
    PoolSettings,
    RoutingPolicy,
    Scorer,
)
from blis_sim.config.lengths import DurationSettings, LengthKind, LengthPart, LengthSettings
from blis_sim.config.scenario import Scenario
from blis_sim.config.tree import item_section, section
from blis_sim.config.workload import (
    ArrivalProcess,
    ClientSettings,
    LoadSettings,
    PresetName,
    WorkloadSettings,
)
from blis_sim.metrics.columns import request_columns
from blis_sim.metrics.definitions import (
    CLUSTER_METRICS,
    ENGINE_METRICS,
    KV_CACHE_METRICS,
    LATENCIES,
    SERVING_METRICS,
)
from blis_sim.workload.presets import preset
from blis_sim.workload.trace import trace_formats
from tests.metrics.builders import make_run, served

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCENARIO = (DOCS / "scenario.md").read_text(encoding="utf-8")
WORKLOADS = (DOCS / "workloads.md").read_text(encoding="utf-8")
METRICS = (DOCS / "metrics.md").read_text(encoding="utf-8")

# Parts that are described elsewhere: their settings are those of another part.
ELSEWHERE = {
    (PoolSettings, "engine"),
    (PoolSettings, "latency"),
    (PoolSettings, "autoscaling"),
    (DisaggregationSettings, "decode_routing"),
}

# Where a default of none stands for something that is worked out.
DERIVED = {
    "engine.max_model_len",
    "engine.max_num_seqs",
    "engine.max_num_batched_tokens",
    "engine.num_gpu_blocks_override",
    "workload.request_rate",
    "workload.num_requests",
    "workload.preset",
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


def sections(text: str) -> dict[str, str]:
    """Return the text under each heading of level 2 or 3, up to the next one."""
    parts = re.split(r"^#{2,3} (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the path and the default of every setting; ``[]`` stands for an item of a list.

    Lengths and waiting times have tables of their own; a client's settings are those of a load.
    """
    for name, field in model.model_fields.items():
        if model is ClientSettings and name in LoadSettings.model_fields:
            continue
        if model is LengthPart and name in LengthSettings.model_fields:
            continue
        if (model, name) in ELSEWHERE:
            yield prefix + name, None
            continue
        part, item = section(model, name), item_section(model, name)
        is_drawn = part in {LengthSettings, DurationSettings}
        if part is None or is_drawn or not isinstance(field.default, BaseModel):
            yield prefix + name, field.default
        if part is not None and not is_drawn:
            yield from settings(part, f"{prefix}{name}.")
        if item is not None:
            yield from settings(item, f"{prefix}{name}[].")


def shown(path: str, default: object) -> str:
    """Return a default as the page writes it."""
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "derived" if path in DERIVED else "none"
    value = default.value if isinstance(default, Enum) else default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def described(text: str) -> dict[str, str]:
    """Return the settings of a part of docs/scenario.md with their defaults."""
    rows = [(row[0].strip("`"), row[1]) for row in table_rows(text)]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def expected(model: type[BaseModel]) -> dict[str, str]:
    """Return the settings of a model with their defaults as docs/scenario.md writes them."""
    return {path: shown(path, default) for path, default in settings(model)}


def test_every_setting_is_described_with_its_default() -> None:
    """docs/scenario.md has a row for each setting and for nothing else."""
    parts = sections(SCENARIO)
    assert described(parts.pop("Lengths")) == expected(LengthSettings)
    assert described(parts.pop("Waiting times")) == expected(DurationSettings)
    rest = described("".join(parts.values()))
    assert rest == expected(Scenario)
    paths = {f"workload.{name}" for name in WorkloadSettings.model_fields if name != "arrivals"}
    assert paths | {"workload.clients[].name", "workload.arrivals.cv"} <= rest.keys()


@pytest.mark.parametrize(
    ("names", "heading"),
    [(RoutingPolicy, "Routing"), (Scorer, "Routing"), (AdmissionPolicy, "Gateway")],
)
def test_every_policy_and_scorer_is_named(names: type[Enum], heading: str) -> None:
    """docs/scenario.md lists what can be chosen."""
    text = sections(SCENARIO)[heading]
    assert [name.value for name in names if f"`{name.value}`" not in text] == []


def test_every_metric_is_described_as_it_is_declared() -> None:
    """docs/metrics.md repeats tag, unit and formula of each declaration, and nothing else."""
    expected = [[f"`{latency.tag}`", latency.title, latency.formula] for latency in LATENCIES]
    metrics = (*SERVING_METRICS, *KV_CACHE_METRICS, *ENGINE_METRICS, *CLUSTER_METRICS)
    expected += [[f"`{metric.tag}`", metric.unit, metric.formula] for metric in metrics]
    assert table_rows(METRICS.partition("| column |")[0]) == expected


def test_every_column_is_described_in_order() -> None:
    """docs/metrics.md has the columns of the requests file."""
    names = [column.name for column in request_columns(make_run([served(0, ttft_us=1)]))]
    rows = table_rows(METRICS.partition("| column |")[2])
    assert [name.strip("`") for row in rows for name in row[0].split(", ")] == names


# -- docs/workloads.md ----------------------------------------------------


def fenced(language: str) -> list[str]:
    """Return the blocks of docs/workloads.md in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", WORKLOADS, re.MULTILINE | re.DOTALL)


def names_in(heading: str) -> list[str]:
    """Return the first cells of the tables below a heading of docs/workloads.md."""
    return [row[0].strip("`") for row in table_rows(sections(WORKLOADS)[heading])]


@pytest.mark.parametrize("spec", fenced("yaml"), ids=lambda text: text.partition("\n")[0][:40])
def test_every_spec_shown_is_a_load(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each YAML block can be run and described as it stands."""
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(spec, encoding="utf-8")
    assert main(["run", "--workload-spec", "spec.yaml", "--dry-run"]) == 0
    assert main(["workload", "describe", "spec.yaml", "--json", "figures.json"]) == 0
    figures = json.loads(Path("figures.json").read_text(encoding="utf-8"))
    assert figures["num_requests"] > 0


def test_outputs_shown_are_those_of_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text blocks, one after the other in one folder, print what the page shows."""
    monkeypatch.chdir(tmp_path)
    Path("workloads").symlink_to(DOCS.parent / "workloads")
    for spec in fenced("yaml"):
        if named := re.match(r"# (\S+\.yaml)\n", spec):
            Path(named.group(1)).write_text(spec, encoding="utf-8")
    for block in fenced("text"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            assert main(shlex.split(command)[1:]) == 0
            captured = capsys.readouterr()
            assert captured.err + captured.out == output


def test_every_process_distribution_and_format_is_named() -> None:
    """docs/workloads.md has a row for each, and the presets' figures."""
    assert names_in("Arrivals") == list(ArrivalProcess)
    assert names_in("Traces")[: len(trace_formats())] == [known.name for known in trace_formats()]
    presets = list(get_args(PresetName))
    assert names_in("Lengths") == [*LengthKind, *presets]
    for row in table_rows(sections(WORKLOADS)["Lengths"])[-len(presets) :]:
        for cell, lengths in zip(row[1:], preset(row[0].strip("`")), strict=True):
            figures = (lengths.mean, lengths.stdev, lengths.min, lengths.max)
            assert cell.rstrip("| ") == ", ".join(f"{figure:g}" for figure in figures)
