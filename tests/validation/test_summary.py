"""What errors amount to, in all and by group."""

from __future__ import annotations

from blis_sim.validation.compare import Compared, ValidatedRow
from blis_sim.validation.summary import ErrorSummary, summarize, summarize_groups


def validated(error_pct: float | None, **facts: object) -> ValidatedRow:
    """Return a row with one figure that is wrong by so much; None = not simulated."""
    predicted = None if error_pct is None else 100 + error_pct
    known: dict[str, object] = {
        "dataset": "made",
        "exp_id": "a",
        "stage": -1,
        "role": "dev",
        "model": "m",
        "gpu": "H100",
        "tp": 1,
        "load": "codegen",
        "in_flight": 4.0,
        "metrics": {"ttft_mean_ms": Compared(100, predicted)},
    }
    return ValidatedRow(**(known | facts))  # type: ignore[arg-type]


def test_mean_median_and_bias() -> None:
    """The first two without the sign; what was not simulated counts as 100 %."""
    rows = [validated(error) for error in (-10, 20, -30, None)]
    assert summarize(rows) == {"ttft_mean_ms": ErrorSummary(40, 25, 20, 4)}


def test_a_figure_that_no_row_has_is_absent() -> None:
    """And one that some have counts those."""
    more = validated(5, metrics={"e2e_mean_ms": Compared(100, 150)})
    summary = summarize([validated(10), more])
    assert {name: each.n for name, each in summary.items()} == {
        "ttft_mean_ms": 1,
        "e2e_mean_ms": 1,
    }
    assert summarize([]) == {}


def test_groups_add_up() -> None:
    """Each row is in one group; names of a GPU that mean the same are one."""
    rows = [
        validated(-10, model="m", in_flight=4.0),
        validated(-20, model="n", gpu="H100-80GB-HBM3-SXM", in_flight=40.0),
        validated(30, model="n", gpu="L40S", load="", tp=2, in_flight=None),
        validated(None, model="n", gpu="X1", in_flight=100.0),
    ]
    groups = summarize_groups(rows)
    counts = {
        grouping: {name: each["ttft_mean_ms"].n for name, each in of.items()}
        for grouping, of in groups.items()
    }
    assert counts == {
        "model": {"m": 1, "n": 3},
        "gpu": {"H100": 2, "L40S": 1, "X1": 1},
        "model_gpu": {"m on H100": 1, "n on H100": 1, "n on L40S": 1, "n on X1": 1},
        "tp": {"1": 3, "2": 1},
        "load": {"codegen": 3, "unnamed": 1},
        "in_flight": {"under 8": 1, "32 to 64": 1, "64 and more": 1},
    }
    assert groups["gpu"]["H100"]["ttft_mean_ms"].bias == -15
    assert groups["model"]["n"]["ttft_mean_ms"].mape == 50
