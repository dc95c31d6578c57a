"""Tables of measured runs: what a cell must be, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.errors import CatalogError
from blis_sim.validation.read_runs import read_runs
from tests.validation.tables import COLUMNS, MEASURED, records, row, write_table

SHARED = Path(__file__).resolve().parents[3] / "shared/data/measured/serving_runs.csv"


def test_a_row_of_defaults(tmp_path: Path) -> None:
    """Empty cells are absent, or nothing of the kind."""
    (record,) = records(tmp_path, row())
    assert (record.dataset, record.exp_id, record.role) == ("made", "a", "dev")
    assert (record.dp, record.precision, record.max_num_seqs) == (1, None, None)
    assert (record.prompt_pool, record.kv_offload, record.measure_from_s) == (0, 0, 0)
    assert (record.prefix_caching, record.client_cap, record.stage_gap_s) == (None, None, None)
    assert record.rows[0].measured == {}
    assert record.rows[0].is_whole_run


def test_every_column_is_read(tmp_path: Path) -> None:
    """Whole numbers may have a decimal point; lists have | between their numbers."""
    (record,) = records(
        tmp_path,
        row(
            stage=1,
            dp=2,
            precision="bf16",
            max_model_len="4096",
            max_num_seqs="128",
            max_num_batched_tokens="2048",
            gpu_memory_utilization="0.92",
            num_kv_blocks="",
            kv_offload="1023",
            prefix_caching="1",
            workload="codegen",
            prompt_pool="100.0",
            prefix_groups="10.0",
            system_prompt_tokens="50",
            prompt_tokens="591.5",
            output_tokens="247.0",
            client_cap="440.0",
            stage_rates="5|10.5",
            stage_durations_s="600 | 300",
            stage_gap_s="5.0",
            measure_from_s="30",
            note="noted",
            n_requests="1212",
            makespan_s="601",
            **{name: str(number) for number, name in enumerate(MEASURED, start=1)},
        ),
    )
    assert record.rows[0].stage == 1
    assert record.rows[0].measured == {
        **{name: number for number, name in enumerate(MEASURED, start=1)},
        "request_throughput": 1212 / 601,
    }
    assert (record.dp, record.precision, record.max_model_len) == (2, "BF16", 4096)
    assert (record.max_num_seqs, record.max_num_batched_tokens) == (128, 2048)
    assert (record.gpu_memory_utilization, record.num_kv_blocks) == (0.92, None)
    assert (record.kv_offload, record.prefix_caching, record.workload) == (1023, True, "codegen")
    assert (record.prompt_pool, record.prefix_groups, record.system_prompt_tokens) == (100, 10, 50)
    assert (record.prompt_tokens, record.output_tokens, record.client_cap) == (591.5, 247, 440)
    assert record.stage_rates == (5, 10.5)
    assert record.stage_durations_s == (600, 300)
    assert (record.stage_gap_s, record.measure_from_s) == (5, 30)


@pytest.mark.parametrize("text", ["256:0.9|4096:0.1", "256:0.9;4096:0.1", "256|4096:0.9|0.1"])
def test_a_mix_of_prompts(tmp_path: Path, text: str) -> None:
    """Lengths with their shares, in pairs or as two lists."""
    (record,) = records(tmp_path, row(prompt_tokens="", prompt_mix=text))
    assert record.prompt_mix == ((256, 0.9), (4096, 0.1))


def test_rows_of_one_experiment(tmp_path: Path) -> None:
    """They are told by dataset and exp_id, wherever they stand; settings agree as values."""
    two = {"stage_rates": "5|10", "stage_durations_s": "4|4"}
    first, other = records(
        tmp_path,
        row(stage=-1, **two),
        row(exp_id="b"),
        row(stage=0, stage_rates="5.0|10.0", stage_durations_s="4|4", n_requests="20"),
        row(stage=1, **two),
    )
    assert [(r.stage, r.line) for r in first.rows] == [(-1, 2), (0, 4), (1, 5)]
    assert [(r.stage, r.line) for r in other.rows] == [(-1, 3)]


def test_a_single_stage_may_have_any_number(tmp_path: Path) -> None:
    """It is one of a longer run, measured alone."""
    (record,) = records(tmp_path, row(stage=2))
    assert record.rows[0].stage == 2


BAD = {
    "stage": ["-2", "x", "1.0", "+1"],
    "tp": ["0", "1.5", "-1", "two", "1_000"],
    "dp": ["0"],
    "precision": ["FP7"],
    "engine": ["vLLM"],
    "max_model_len": ["8k"],
    "gpu_memory_utilization": ["0", "1.1", "nan"],
    "num_kv_blocks": ["0"],
    "kv_offload": ["yes"],
    "prefix_caching": ["2", "true"],
    "prompt_pool": ["-1", "2.5"],
    "prompt_tokens": ["0", "1e999", "-3", "inf"],
    "output_tokens": [""],
    "stage_rates": ["5|", "5,10", "0", ""],
    "stage_durations_s": ["4|4", "", "x"],
    "ttft_mean_ms": ["0", "-1", "nan", "1 ms"],
    "n_requests": ["0"],
    "makespan_s": ["0"],
    "client_cap": ["0"],
    "measure_from_s": ["-1"],
    "stage_gap_s": ["soon"],
    "prompt_mix": ["256", "256:0.5|x:0.5", "256:0", "0:1", "1:2:3"],
    "system_prompt_tokens": ["100"],
    "prefix_groups": ["3"],
    "concurrency": ["0", "4.5"],
    "requests_per_user": ["0", "3"],  # without users
    "range_ratio": ["0", "1.1", "x"],
    "kv_cache_dtype": ["fp4"],
    "async_scheduling": ["on"],
}
USERS = {"concurrency": 4, "stage_rates": "", "stage_durations_s": ""}


@pytest.mark.parametrize(
    ("column", "cell"), [(column, cell) for column, cells in BAD.items() for cell in cells]
)
def test_a_bad_cell_is_an_error_with_its_place(tmp_path: Path, column: str, cell: str) -> None:
    """File, line and column; the row before it is fine."""
    named = "system_prompt_tokens" if column == "prefix_groups" else column
    with pytest.raises(CatalogError, match=rf"runs\.csv:3:{named} must be .*; got "):
        records(tmp_path, row(), row(exp_id="b", **{column: cell}))


@pytest.mark.parametrize(
    ("cells", "place"),
    [
        ({"concurrency": 4}, "stage_rates must be empty with concurrency"),
        (USERS | {"client_cap": 4}, "client_cap must be empty with concurrency"),
        (USERS | {"requests_file": "r.jsonl"}, "requests_file must be empty with concurrency"),
        (USERS | {"stage": 0}, "stage must be -1"),
        (USERS | {"prompt_tokens": ""}, "prompt_tokens must be given"),
        (
            USERS | {"range_ratio": 0.8, "prompt_mix": "9:1"},
            "range_ratio must be empty with prompt_mix",
        ),
        (
            {"stage_rates": "", "stage_durations_s": ""},
            "stage_rates must be given, or c",
        ),
    ],
)
def test_users_and_ranges_go_with_some_cells_only(
    tmp_path: Path, cells: dict[str, object], place: str
) -> None:
    """A closed loop has no rates; a range is of plain lengths."""
    with pytest.raises(CatalogError, match=rf"runs\.csv:2:{place}"):
        records(tmp_path, row(**cells))


@pytest.mark.parametrize("column", ["dataset", "exp_id", "stage", "model", "gpu", "tp"])
def test_some_cells_are_needed(tmp_path: Path, column: str) -> None:
    """An experiment has a name, and a deployment."""
    with pytest.raises(CatalogError, match=rf"runs\.csv:2:{column} must be"):
        records(tmp_path, row(**{column: ""}))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"prompt_tokens": ""}, "prompt_tokens must be given, or prompt_mix or requests_file"),
        ({"prompt_pool": "4", "prompt_mix": "9:1"}, "prompt_pool must be empty or 0 with"),
        (
            {"prompt_pool": "5", "prefix_groups": "2", "system_prompt_tokens": "9"},
            r"prompt_pool must be a multiple of prefix_groups \(2\); got '5'",
        ),
        ({"requests_file": "r.jsonl"}, "stage_rates must be empty with requests_file"),
        (
            {"stage": "2", "stage_rates": "5|9", "stage_durations_s": "4|4"},
            "stage must be -1, or less than the 2 stages of stage_rates; got '2'",
        ),
    ],
)
def test_cells_that_contradict_each_other(
    tmp_path: Path, cells: dict[str, str], message: str
) -> None:
    """One of them is named, and what it should be."""
    with pytest.raises(CatalogError, match=rf"runs\.csv:2:{message}"):
        records(tmp_path, row(**cells))


def test_rows_of_one_experiment_agree(tmp_path: Path) -> None:
    """In every setting, and each has a stage of its own."""
    with pytest.raises(CatalogError, match=r":3:gpu must be 'H100' as in line 2, .* got 'L40S'"):
        records(tmp_path, row(), row(stage=0, gpu="L40S"))
    with pytest.raises(CatalogError, match=r":3:stage must be another than that of line 2"):
        records(tmp_path, row(), row())
    with pytest.raises(CatalogError, match=r":3:stage must be -1, or less than the 1 stages"):
        records(tmp_path, row(stage=0), row(stage=1))


def test_columns_may_be_absent_and_none_is_unknown(tmp_path: Path) -> None:
    """Those of the minimum are needed; an unknown one is named with the nearest."""
    text = write_table(tmp_path / "runs.csv", [row()]).read_text(encoding="utf-8")
    (tmp_path / "more.csv").write_text(text.replace("client_cap", "client_caps"), "utf-8")
    with pytest.raises(CatalogError, match=r"got 'client_caps'; nearest: client_cap"):
        read_runs(tmp_path / "more.csv")
    few = ("dataset", "exp_id", "stage", "model", "gpu", "tp", "output_tokens")
    few = (*few, "prompt_tokens", "stage_rates", "stage_durations_s")
    lines = [",".join(few), ",".join(row()[name] for name in few)]
    (tmp_path / "few.csv").write_text("\n".join(lines), encoding="utf-8")
    (record,) = read_runs(tmp_path / "few.csv")
    assert record.engine is None


@pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED} is not there")
def test_the_measured_table_is_read() -> None:
    """All of it: each of its columns is known here."""
    with SHARED.open(encoding="utf-8") as stream:
        assert set(next(stream).strip().split(",")) <= set(COLUMNS)
    found = read_runs(SHARED)
    assert sum(len(record.rows) for record in found) == 60
    assert {record.role for record in found} == {"calib", "dev"}
