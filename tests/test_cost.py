"""What a run costs: GPU-hours times dated prices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blis_sim.api import load_scenario, simulate
from blis_sim.errors import CatalogError

LOAD = {"workload": {"num_requests": 20, "request_rate": 10}, "latency": {"model": "roofline-v1"}}


def cost(**scenario: Any) -> tuple[float | None, dict[str, float]]:
    result = simulate(load_scenario(LOAD | scenario))
    return result.cluster["cost_usd"], result.cluster["gpu_hours_by_gpu"]


def write(folder: Path, *rows: str) -> str:
    path = folder / "prices.csv"
    path.write_text("\n".join(["gpu,usd_per_gpu_hour,as_of", *rows, ""]))
    return str(path)


def test_your_prices_win(tmp_path: Path) -> None:
    """2 USD an hour for each of three GPUs, for as long as the run lasts."""
    prices = write(tmp_path, "H100,2,2026-11")
    found, hours = cost(cluster={"num_instances": 3}, prices=prices)
    assert found == pytest.approx(2 * hours["H100"])


def test_each_gpu_has_its_price(tmp_path: Path) -> None:
    """Of several offers the median counts: 3 of 1, 3 and 8."""
    prices = write(tmp_path, "H100,1,2026", "H100,3,2026", "H100,8,2026", "L40S,0.5,2026")
    pools = [{"name": "a"}, {"name": "b", "hardware": "L40S", "num_instances": 2}]
    found, hours = cost(cluster={"pools": pools}, prices=prices)
    assert hours["L40S"] == pytest.approx(2 * hours["H100"])
    assert found == pytest.approx(3 * hours["H100"] + 0.5 * hours["L40S"])


def test_without_a_price_there_is_no_cost() -> None:
    """Nobody's offer for a T4 is known: the cost is absent, not 0."""
    found, hours = cost(hardware="T4", model="qwen2.5-0.5b-instruct")
    assert found is None
    assert hours["T4"] > 0


def test_one_engine_costs_something_too() -> None:
    """The manifest says what a GPU costs, and who said so."""
    result = simulate(load_scenario(LOAD))
    price = result.manifest["prices"]["H100"]
    expected = price["usd_per_gpu_hour"] * result.cluster["gpu_hours"]
    assert result.cluster["cost_usd"] == pytest.approx(expected)
    assert price["num_offers"] == len(price["sources"]) >= 1
    tokens = sum(counters.num_generated_tokens for counters in result.run.counters)
    per_million = result.cluster["usd_per_million_output_tokens"]
    assert per_million == pytest.approx(expected / tokens * 1e6)


def test_a_wrong_price_names_its_cell(tmp_path: Path) -> None:
    """File, line and column."""
    with pytest.raises(CatalogError, match=r"prices\.csv:2:usd_per_gpu_hour must be .* > 0"):
        cost(prices=write(tmp_path, "H100,0,2026"))
