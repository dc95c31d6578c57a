"""Files of served requests, with and without measured times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.errors import CatalogError, ConfigError, TraceError
from blis_sim.validation.requests_file import read_requests
from blis_sim.validation.served_run import read_served_run
from blis_sim.validation.validate import Task, scenario_of
from tests.validation.tables import served, write_requests

ARRIVALS = ("input_toks", "output_toks", "arrival_time")


def without(item: dict[str, float], *keys: str) -> dict[str, float]:
    return {key: value for key, value in item.items() if key not in keys}


def test_times_count_from_entering_the_engine(tmp_path: Path) -> None:
    """In order of arrival, whatever their order in the file."""
    requests = read_requests(
        write_requests(tmp_path / "r.jsonl", [served(2), served(0), served(1)])
    )
    assert requests.arrival_us.tolist() == [0, 200_000, 400_000]
    assert requests.prompt_tokens.tolist() == [100, 101, 102]
    assert requests.ttft_us is not None
    assert requests.e2e_us is not None
    assert requests.ttft_us.tolist() == [100_000] * 3
    assert requests.e2e_us.tolist() == [1_000_000] * 3


def test_arrivals_alone(tmp_path: Path) -> None:
    """Are a load, and nothing to compare with."""
    items = [{key: served(n)[key] for key in ARRIVALS} for n in range(2)]
    requests = read_requests(write_requests(tmp_path / "r.jsonl", items))
    assert requests.arrival_us.tolist() == [0, 200_000]
    assert requests.ttft_us is None


BAD: list[tuple[dict[str, Any], str]] = [
    (served(1, input_toks=0), "input_toks must be a whole number of tokens from 1"),
    (served(1, output_toks=2.5), "output_toks must be a whole number of tokens"),
    (served(1, queued_ts=float("nan")), "queued_ts must be a number of seconds"),
    (served(1, first_token_ts=1.0), "first_token_ts must be at or after scheduled_ts"),
    (served(1, last_token_ts=1000.29), "last_token_ts must be at or after first_token_ts"),
    (served(1, tokens=3), "key must be a known name; got 'tokens'"),
    (without(served(1), "queued_ts"), "row must have queued_ts"),
    (without(served(1), "scheduled_ts"), "row must have scheduled_ts"),
]


@pytest.mark.parametrize(("item", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_a_bad_line_is_an_error_with_its_place(
    tmp_path: Path, item: dict[str, Any], message: str
) -> None:
    """File, line and key."""
    path = write_requests(tmp_path / "r.jsonl", [served(0), item])
    with pytest.raises(TraceError, match=rf"r\.jsonl:2: {message}"):
        read_requests(path)


def test_what_is_no_file_of_requests(tmp_path: Path) -> None:
    """Empty, something else, or absent."""
    (tmp_path / "r.jsonl").write_text("[1]\n", encoding="utf-8")
    with pytest.raises(TraceError, match=r"r\.jsonl:1: row must be a JSON object"):
        read_requests(tmp_path / "r.jsonl")
    (tmp_path / "r.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(TraceError, match="must have at least one request; got none"):
        read_requests(tmp_path / "r.jsonl")
    with pytest.raises(TraceError, match="must be a readable file; got: No such file"):
        read_requests(tmp_path / "absent.jsonl")
    path = write_requests(tmp_path / "r.jsonl", [without(served(0), "arrival_time", "queued_ts")])
    with pytest.raises(TraceError, match=r"r\.jsonl:1: row must have arrival_time"):
        read_requests(path)


# -- with the server's own words beside them ------------------------------

META = {
    "schema_version": 1,
    "model": "Qwen/Qwen3-14B",
    "vllm_version": "0.19.0",
    "engine_kwargs": {
        "model": "Qwen/Qwen3-14B",
        "tensor_parallel_size": 2,
        "enable_expert_parallel": False,
        "max_num_seqs": 64,
        "max_model_len": None,
        "dtype": "bfloat16",
        "kv_cache_dtype": "auto",
        "seed": 42,
    },
}


def served_run(folder: Path, **engine: object) -> Path:
    """Write a file of requests, and how the server was started beside it."""
    kwargs = {**META["engine_kwargs"], **engine}  # type: ignore[dict-item]
    (folder / "x_meta.json").write_text(json.dumps(META | {"engine_kwargs": kwargs}), "utf-8")
    return write_requests(folder / "x_requests.jsonl", [served(n) for n in range(3)])


def test_a_served_run_is_simulated_as_it_was_started(tmp_path: Path) -> None:
    """What was off, or left to the engine, is no setting."""
    case = read_served_run(served_run(tmp_path), "H100")
    assert case.problem == ""
    made = scenario_of(Task(case, tmp_path / "x_requests.jsonl"))
    assert (made.model, made.hardware, made.engine.version) == ("Qwen/Qwen3-14B", "H100", "0.19.0")
    assert (made.engine.tensor_parallel_size, made.engine.max_num_seqs) == (2, 64)
    assert made.engine.max_model_len is None


def test_what_of_a_server_is_not_simulated(tmp_path: Path) -> None:
    """Is named; the case has no scenario."""
    case = read_served_run(served_run(tmp_path, enable_expert_parallel=True), "H100")
    assert "engine_kwargs.enable_expert_parallel must not be True" in case.problem


def test_a_served_run_needs_both_files_and_times(tmp_path: Path) -> None:
    """Arrivals alone are nothing to compare with."""
    path = served_run(tmp_path)
    (tmp_path / "x_meta.json").write_text("{", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"x_meta\.json must be a readable JSON file"):
        read_served_run(path, "H100")
    (tmp_path / "x_meta.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"x_meta\.json must have a model and engine_kwargs"):
        read_served_run(path, "H100")
    (tmp_path / "x_meta.json").unlink()
    with pytest.raises(CatalogError, match=r"x_meta\.json must say how the server was started"):
        read_served_run(path, "H100")
    write_requests(path, [{key: served(0)[key] for key in ARRIVALS}])
    with pytest.raises(ConfigError, match="must have first_token_ts and last_token_ts"):
        read_served_run(path, "H100")
