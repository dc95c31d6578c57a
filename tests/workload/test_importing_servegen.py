"""ServeGen folders in our words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blis_sim.config.workload import WorkloadSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.importing import import_servegen, is_servegen, read_foreign
from tests.workload.import_samples import write_chunk

LENGTHS = {"0": {"input_tokens": "{100: 0.5, 200: 0.5}", "output_tokens": "{50: 1.0}"}}
ROWS = "0,1,0.8,Gamma,1,1\n600,0,0,,0,0\n1200,3,1.2,Gamma,1,1\n"


def clients(folder: Path, **part: Any) -> list[dict[str, Any]]:
    settings = import_servegen(folder, **part).settings
    WorkloadSettings.model_validate(settings)
    found: list[dict[str, Any]] = settings["clients"]
    return found


def test_a_chunk_is_a_client(tmp_path: Path) -> None:
    """Rows are stages until the next row; the last is as long as the one before."""
    write_chunk(tmp_path / "m", 7, ROWS, LENGTHS)
    (client,) = clients(tmp_path / "m")
    assert client["name"] == "chunk-7"
    assert client["stages"] == [
        {"rate": 1, "duration_s": 600},
        {"rate": 0, "duration_s": 600},
        {"rate": 3, "duration_s": 600},
    ]
    assert client["prompt"] == {
        "kind": "empirical",
        "values": [100, 200],
        "weights": [0.5, 0.5],
    }
    assert client["output"] == {"kind": "constant", "mean": 50}


def test_cv_is_the_mean_over_the_requests(tmp_path: Path) -> None:
    """600 requests at 0.8 and 1800 at 1.2: (600 x 0.8 + 1800 x 1.2) / 2400 = 1.1."""
    write_chunk(tmp_path / "m", 0, ROWS, LENGTHS)
    found = import_servegen(tmp_path / "m")
    assert found.settings["clients"][0]["arrivals"] == {"process": "gamma", "cv": 1.1}
    assert any("cv 1.1" in notice and "0.8 to 1.2" in notice for notice in found.notices)


def test_lengths_of_several_data_sets_are_mixed_by_requests(tmp_path: Path) -> None:
    """A row has the lengths of the last data set before it: 600 of 100 and 1800 of 300 tokens."""
    lengths = {
        "0": {"input_tokens": "{100: 2.0}", "output_tokens": "{1: 1}"},
        "1100.0": {"input_tokens": {"300": 5.0}, "output_tokens": "{1: 1}"},
        "9000": {"input_tokens": "{}", "output_tokens": "{}"},
    }
    write_chunk(tmp_path / "m", 0, ROWS, lengths)
    (client,) = clients(tmp_path / "m")
    assert client["prompt"]["values"] == [100, 300]
    assert client["prompt"]["weights"] == [0.25, 0.75]


def test_most_requests_decide_the_process(tmp_path: Path) -> None:
    write_chunk(tmp_path / "m", 0, "0,5,2,Weibull,1,1\n600,1,1,Gamma,1,1\n", LENGTHS)
    found = import_servegen(tmp_path / "m")
    assert found.settings["clients"][0]["arrivals"] == {"process": "weibull", "cv": 2}
    assert any("weibull arrivals all the time" in notice for notice in found.notices)


def test_no_pattern_is_poisson(tmp_path: Path) -> None:
    write_chunk(tmp_path / "m", 0, "0,5,0,,0,0\n", LENGTHS)
    assert clients(tmp_path / "m")[0]["arrivals"] == {"process": "poisson"}


def test_a_part_of_a_trace_begins_at_zero(tmp_path: Path) -> None:
    """900 s to 1500 s: nothing for 300 s, then the last row's rate for 300 s."""
    write_chunk(tmp_path / "m", 0, ROWS, LENGTHS)
    (client,) = clients(tmp_path / "m", start_s=900, duration_s=600)
    assert client["stages"] == [
        {"rate": 0, "duration_s": 300},
        {"rate": 3, "duration_s": 300},
    ]


def test_clients_that_send_nothing_are_left_out(tmp_path: Path) -> None:
    write_chunk(tmp_path / "m", 0, ROWS, LENGTHS)
    write_chunk(tmp_path / "m", 1, "1200,5,1,Gamma,1,1\n", LENGTHS)
    assert [c["name"] for c in clients(tmp_path / "m", duration_s=600)] == ["chunk-0"]


def test_busiest_clients(tmp_path: Path) -> None:
    """The largest are kept, in the order of their numbers; what is lost is named."""
    for number, rate in enumerate((1, 7, 2)):
        write_chunk(tmp_path / "m", number, f"0,{rate},1,Gamma,1,1\n", LENGTHS)
    found = import_servegen(tmp_path / "m", max_clients=2)
    assert [c["name"] for c in found.settings["clients"]] == ["chunk-1", "chunk-2"]
    assert "1 of 3 clients left out, with 10.0% of the requests" in found.notices


def test_like_notices_are_one(tmp_path: Path) -> None:
    for number in range(5):
        write_chunk(tmp_path / "m", number, ROWS, LENGTHS)
    (notice,) = import_servegen(tmp_path / "m").notices
    assert notice.endswith("likewise 4 more clients")


def test_days_need_a_part(tmp_path: Path) -> None:
    write_chunk(tmp_path / "m", 0, "0,1,1,Gamma,1,1\n90000,1,1,Gamma,1,1\n", LENGTHS)
    with pytest.raises(ConfigError, match=r"parts of at most a day.*--start and --duration"):
        import_servegen(tmp_path / "m")


def test_recognised(tmp_path: Path) -> None:
    write_chunk(tmp_path / "m", 0, ROWS, LENGTHS)
    assert is_servegen(tmp_path / "m")
    assert not is_servegen(tmp_path)
    found = read_foreign(tmp_path / "m")
    assert found is not None
    assert found.kind == "servegen"
    assert read_foreign(tmp_path) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,1,1\n", r"chunk-0-trace\.csv:1: a row must have start_s, rate, cv and pattern"),
        ("0,1,1,Gamma\n600,x,1,Gamma\n", r"chunk-0-trace\.csv:2: rate must be a number >= 0"),
        ("0,1,nan,Gamma\n", r":1: cv must be a number >= 0; got 'nan'"),
        ("0,1,1,Zipf\n", r":1: pattern must be Gamma, Weibull"),
        ("0,1,0,Gamma\n", r":1: cv must be > 0 with pattern Gamma"),
        ("0,1,1,Gamma\n\n0,1,1,Gamma\n", r":3: start_s must be greater"),
        ("0,0,0,,0,0\n", r"must have a client that sends from 0 s on"),
        ("", r"must have a client that sends"),
    ],
)
def test_bad_traces(tmp_path: Path, rows: str, message: str) -> None:
    write_chunk(tmp_path / "m", 0, rows, LENGTHS)
    with pytest.raises(ConfigError, match=message):
        import_servegen(tmp_path / "m")


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({}, r"must hold at least one distribution"),
        ({"x": LENGTHS["0"]}, r"a key must be a number of seconds; got 'x'"),
        ({"0": LENGTHS["0"] | {"image_tokens": "{1: 1}"}}, r"0\.image_tokens must not be there"),
        ({"0": LENGTHS["0"] | {"input_tokens": "100"}}, r"must be written as \{tokens: share"),
        ({"0": LENGTHS["0"] | {"input_tokens": "{a: 1}"}}, r"must have entries tokens: share"),
        ({"0": LENGTHS["0"] | {"input_tokens": {"5": -1}}}, r"shares >= 0; got 5: -1"),
        ({"0": [1]}, r"0 must be a mapping of distributions"),
    ],
)
def test_bad_lengths(tmp_path: Path, lengths: dict[str, Any], message: str) -> None:
    write_chunk(tmp_path / "m", 0, ROWS, lengths)
    with pytest.raises(ConfigError, match=message):
        import_servegen(tmp_path / "m")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be an existing folder"):
        import_servegen(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"must hold files chunk-<number>-trace\.csv; got none"):
        import_servegen(tmp_path)
    write_chunk(tmp_path / "m", 0, ROWS, LENGTHS)
    (tmp_path / "m" / "chunk-0-dataset.json").write_text("{")
    with pytest.raises(ConfigError, match=r"chunk-0-dataset\.json:1:2 must be valid JSON"):
        import_servegen(tmp_path / "m")
    (tmp_path / "m" / "chunk-0-dataset.json").unlink()
    with pytest.raises(ConfigError, match="must be a readable JSON file; got: No such file"):
        import_servegen(tmp_path / "m")


@pytest.mark.parametrize("part", [{"start_s": -1}, {"duration_s": 0}, {"max_clients": 0}])
def test_bad_parts(tmp_path: Path, part: dict[str, Any]) -> None:
    write_chunk(tmp_path / "m", 0, ROWS, LENGTHS)
    with pytest.raises(ConfigError, match=r"must (begin at >= 0 s|be >= 1)"):
        import_servegen(tmp_path / "m", **part)
