from __future__ import annotations

import pytest

from blis_sim.capacity.compared import ComparedPool
from blis_sim.report.compare_names import deployment, notes_of
from tests.report.compare_rows import make_failed, make_pool, make_row


@pytest.mark.parametrize(
    ("pools", "words"),
    [
        ([make_pool()], "H100"),
        ([make_pool(num_instances=4)], "4 x H100"),
        ([make_pool(num_instances=2), make_pool("A100-80")], "2 x H100 + 1 x A100-80"),
        ([make_pool(num_instances=2), make_pool(num_instances=3)], "5 x H100"),
        ([make_pool(tensor_parallel_size=4, num_instances=2)], "2 x H100 TP4"),
        (
            [make_pool(role="prefill"), make_pool(role="decode", num_instances=3)],
            "1 x H100 (prefill) + 3 x H100 (decode)",
        ),
        ([make_pool(scaled=(1, 8)), make_pool()], "1 x H100 + 1 to 8 x H100"),
        ([make_pool(scaled=(1, 8))], "1 to 8 x H100"),
        (
            [make_pool(model="a/b"), make_pool(model="c/d")],
            "1 x H100 (b) + 1 x H100 (d)",
        ),
    ],
)
def test_a_deployment_in_words(pools: list[ComparedPool], words: str) -> None:
    """Alike pools are counted together; what is as everywhere is not said."""
    assert deployment(make_row(pools=pools)) == words


def test_tp_is_said_where_no_column_has_it() -> None:
    """Pools that differ in it cannot be in one cell."""
    alike = [make_pool(tensor_parallel_size=2), make_pool("L40S", tensor_parallel_size=2)]
    assert deployment(make_row(pools=alike), with_tp=False) == "1 x H100 + 1 x L40S"
    differ = [make_pool(), make_pool("L40S", tensor_parallel_size=2)]
    assert deployment(make_row(pools=differ), with_tp=False) == "1 x H100 + 1 x L40S TP2"


def test_what_failed_comes_first() -> None:
    """One note for all with the same reason, in front of those of the runs."""
    rows = [make_row(notices=["mind this"]), make_failed(), make_failed("V100")]
    assert notes_of(rows) == ["T4 TP 1, V100 TP 1: not simulated: too small", "mind this"]


def test_a_notice_of_some_rows_names_them() -> None:
    """One of all simulated rows does not; several models are told apart."""
    rows = [
        make_row(notices=["a", "b"]),
        make_row("L40S", notices=["b"]),
        make_row(model="other/big", notices=["b"]),
    ]
    assert notes_of(rows) == ["model-8B on H100 TP 1: a", "b"]


def test_rows_with_names_are_named_by_them() -> None:
    """The same deployment under three routers; a name may hold a comma."""
    rows = [make_row(name=name, notices=said) for name, said in (("pd", []), ("pd, x", ["n"]))]
    rows.append(make_row(name="c", notices=["n"]))
    assert notes_of(rows) == ["pd, x; c: n"]
