"""docs/routing.md says what the declarations say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from blis_sim.cluster.routing.affinity import BALANCE_ABS_THRESHOLD, BALANCE_REL_THRESHOLD
from blis_sim.cluster.routing.described import POLICIES, SCORERS
from blis_sim.config.cluster import DEFAULT_SCORERS, ClusterSettings, RoutingSettings
from tests.test_docs import sections, table_rows

PAGE = Path(__file__).resolve().parents[2].joinpath("docs", "routing.md").read_text("utf-8")
YAML = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def in_backticks(rows: Iterable[tuple[str, ...]]) -> list[list[str]]:
    return [[f"`{name}`", *rest] for name, *rest in rows]


def rows_below(heading: str) -> list[list[str]]:
    return [[cell.rstrip("| ") for cell in row] for row in table_rows(sections(PAGE)[heading])]


@pytest.mark.parametrize(("heading", "facts"), [("Policies", POLICIES), ("Scorers", SCORERS)])
def test_tables_repeat_the_declarations(heading: str, facts: Iterable[tuple[str, ...]]) -> None:
    """Row by row."""
    assert rows_below(heading) == in_backticks(facts)


def test_every_signal_is_explained() -> None:
    """What the declarations say is read has a row; the rest is words."""
    read = {signal for facts in (*POLICIES, *SCORERS) for signal in facts.reads.split(", ")}
    explained = {row[0].strip("`") for row in rows_below("Signals")}
    assert read - {"none", "as its scorers"} == explained


@pytest.mark.parametrize("block", YAML)
def test_examples_are_settings(block: str) -> None:
    """Each YAML block can be loaded; the one that shows the default scorers does."""
    shown = yaml.safe_load(block)["cluster"]
    routing = ClusterSettings.model_validate(shown).routing
    if routing.scorers is not None:
        assert routing.scorers == DEFAULT_SCORERS


def test_numbers_are_those_of_the_code() -> None:
    """Thresholds and capacity."""
    stated = {facts.name: facts.formula for facts in POLICIES}["prefix-affinity"]
    assert f"max - min > {BALANCE_ABS_THRESHOLD} and" in stated
    assert f"max > {BALANCE_REL_THRESHOLD:g} * min" in stated
    assert f"({RoutingSettings().prefix_index_blocks:_}, as".replace("_", " ") in PAGE
