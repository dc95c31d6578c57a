"""Which measured runs are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.errors import ConfigError
from blis_sim.validation.read_runs import read_runs
from blis_sim.validation.selection import cases_of, engine_key, sampled
from blis_sim.validation.shipped import SILICON, SILICON_LEFT_OUT, read_left_out, shipped
from tests.validation.tables import records, row


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        (None, "vllm"),
        ("vLLM v0.15.1", "vllm"),
        ("a fork of vLLM 0.9", "vllm"),
        ("SGLang", "sglang"),
    ],
)
def test_engines_are_told_by_name(engine: str | None, name: str) -> None:
    """A table that names none means vLLM."""
    assert engine_key(engine) == name


def test_other_engines_are_simulated_only_where_asked_for(tmp_path: Path) -> None:
    """Then each says so; otherwise it has a problem."""
    table = records(tmp_path, row(), row(exp_id="b", engine="SGLang 0.5.9"))
    mine, other = cases_of(table)
    assert mine.problem == ""
    assert "engine must be vLLM" in other.problem
    (other,) = cases_of(table, "sglang")
    assert other.problem == ""
    assert other.notices == ("the server was SGLang 0.5.9; vLLM is simulated",)
    (mine,) = cases_of(table, "vLLM")
    assert mine.notices == ()
    with pytest.raises(ConfigError, match="--engine must be a known name; got 'trtllm'"):
        cases_of(table, "trtllm")


def test_a_sample_does_not_depend_on_the_rest_of_the_table(tmp_path: Path) -> None:
    """So many of each model, GPU and TP, in their order."""
    cells = [(f"{name}{number}", name) for name in ("1", "2") for number in range(6)]
    table = records(tmp_path, *(row(exp_id=exp_id, tp=tp) for exp_id, tp in cells))
    kept = sampled(table, 2)
    assert [record.tp for record in kept] == [1, 1, 2, 2]
    assert [r for r in table if r in kept] == kept
    assert sampled(table[::-1], 2) == kept[::-1]
    assert sampled(table[6:], 2) == kept[2:]
    assert set(map(id, kept)) < set(map(id, sampled(table, 3)))
    assert sampled(table, 9) == list(table)


def test_the_shipped_sample_and_what_it_lacks_are_all_published_rows() -> None:
    """None is hidden: 5,221 in all, and every one of the table can be set up."""
    table, left_out = read_runs(shipped(SILICON)), read_left_out(shipped(SILICON_LEFT_OUT))
    assert len(table) + sum(each.num_rows for each in left_out) == 5_221
    assert {engine_key(record.engine) for record in table} == {"vllm", "tensorrt-llm", "sglang"}
    assert [case.problem for case in cases_of(table, "vllm") if case.problem] == []
    assert all(record.concurrency for record in table)
