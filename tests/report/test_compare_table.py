from __future__ import annotations

import math
from dataclasses import replace

import pytest

from blis_sim.capacity.compared import METRICS, ComparedRun
from blis_sim.report.compare_table import WIDTH, render_comparison
from tests.report.compare_rows import make_failed, make_pool, make_row

WIDE = dict.fromkeys(METRICS, 99_999.0)


def table_of(*rows: ComparedRun) -> list[str]:
    return render_comparison(rows).splitlines()


def test_what_rows_have_in_common_stands_above() -> None:
    """One model and one rate need no column."""
    text = table_of(make_row(), make_row("A100-80"))
    assert text[:2] == ["model: some/model-8B", "load: a load, seed 42"]
    assert text[3].split()[:3] == ["GPU", "TP", "TTFT"]
    assert [line.split()[0] for line in text[7:9]] == ["H100", "A100-80"]
    assert text[7].split()[-2:] == ["26,237", "roofline-v2"]


def test_what_differs_is_a_column() -> None:
    """Models without their organisation, and rates."""
    text = table_of(make_row(), make_row(model="other/big", request_rate=math.inf))
    assert text[2].split()[:4] == ["model", "GPU", "TP", "rate"]
    assert text[6].split()[:4] == ["model-8B", "H100", "1", "4"]
    assert text[7].split()[:4] == ["big", "H100", "1", "inf"]


def test_a_failed_row_makes_no_column_of_rates() -> None:
    """It has none: nothing was resolved."""
    assert "rate" not in table_of(make_row(), make_failed())[3].split()


def test_goodput_is_shown_with_limits() -> None:
    """Only then there is any."""
    good = make_row(metrics={"request_goodput": 3.5})
    assert "goodput" not in table_of(make_row())[3]
    assert "3.50" in table_of(good)[7]


def test_failed_rows_have_dashes_and_a_note() -> None:
    """The reason stands below the table."""
    text = table_of(make_row(), make_failed())
    assert text[8].split() == ["T4", "1", *"-" * 8, "not", "simulated"]
    assert text[10] == "note: T4 TP 1: not simulated: too small"


def test_rows_with_names() -> None:
    """They stand in front; what runs where is said above, once where it is the same."""
    used = {"mean_gpus": 2.5, "gpu_hours": 0.25}
    pools = [make_pool(tensor_parallel_size=2)]
    rows = [make_row(name=name, pools=pools, metrics=used) for name in ("a", "b")]
    text = table_of(*rows)
    assert text[1:4] == ["GPUs: H100 TP2", "latency model: roofline-v2", "load: a load, seed 42"]
    assert text[5].split()[:3] == ["scenario", "GPUs", "TTFT"]
    assert text[9].split() == ["a", "2.5", *"-" * 7, "0.250"]


def test_deployments_that_differ_are_a_column_where_there_is_room() -> None:
    """Else they are listed above, each with its rows."""
    rows = [make_row(name="a"), make_row("L4", name="b"), make_row("L4", name="c, d")]
    narrow = table_of(*rows)
    assert narrow[4].split()[:3] == ["scenario", "GPU", "GPUs"]
    assert narrow[9].split()[:3] == ["b", "L4", "1"]
    wide = table_of(*(replace(row, metrics=WIDE) for row in rows))
    assert wide[1:3] == ["GPUs of a: H100", "GPUs of b; c, d: L4"]
    assert max(map(len, wide)) <= WIDTH


def test_loads_and_seeds_that_differ_are_said_by_row() -> None:
    """Such rows have not met the same requests."""
    text = table_of(make_row(name="a"), make_row(name="b", seed=7))
    assert text[3:5] == ["load of a: a load, seed 42", "load of b: a load, seed 7"]


@pytest.mark.parametrize("name", ["", "a name", "long " * 30])
def test_no_table_is_wider_than_the_page(name: str) -> None:
    """Columns are left out, and said to be; at last a name is cut."""
    rows = [
        make_row("RTX-PRO-6000", "meta-llama/" + "m" * 25, tp=8, name=name, metrics=WIDE),
        make_row("L4", name=name and f"{name} 2", request_rate=5.0, metrics=WIDE),
    ]
    text = render_comparison(rows)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "RTX-PRO-6000" in text
    assert "left out for its width: " in text
    assert "(--csv has all)" in text


def test_an_autoscaled_cluster_has_its_bounds() -> None:
    """And the GPUs it had in the mean, without a name, too."""
    pools = [make_pool(scaled=(1, 8))]
    text = table_of(make_row(pools=pools, metrics={"mean_gpus": 3.14}))
    assert text[3].split()[:3] == ["GPU", "TP", "GPUs"]
    assert text[7].split()[:7] == ["1", "to", "8", "x", "H100", "1", "3.1"]
