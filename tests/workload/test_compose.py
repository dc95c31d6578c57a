"""Several loads as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blis_sim.config.workload import WorkloadSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.compose import Part, compose, read_parts
from blis_sim.workload.paths_in_settings import move_long_lengths, relative_paths, resolve_paths
from blis_sim.workload.stream import open_workload
from tests.workload.import_samples import blis_client, blis_spec, write_yaml

OTHER = Part("other", {"preset": "chatbot", "request_rate": 1, "duration_s": 60})


def composed(settings: dict[str, Any], **scales: float) -> list[dict[str, Any]]:
    """Return the clients that a part named ``a`` has beside another."""
    result = compose([Part("a", settings), OTHER], scales)
    WorkloadSettings.model_validate(result.settings)
    clients = result.settings["clients"]
    assert clients[-1]["name"] == "other"
    return list(clients[:-1])


def test_a_single_load_is_a_client_named_after_its_part() -> None:
    load = {"preset": "summarization", "request_rate": 3, "num_requests": 9, "tenant": "t"}
    assert composed(load) == [{"name": "a", **load}]


def test_fractions_become_rates() -> None:
    """Each client has its share of the common rate, and the common settings."""
    load = {
        "request_rate": 8,
        "duration_s": 60,
        "slo_class": "batch",
        "clients": [
            {"name": "x", "rate_fraction": 0.25, "slo_class": "standard"},
            {"name": "y", "rate_fraction": 0.75},
        ],
    }
    first, second = composed(load)
    assert (first["request_rate"], second["request_rate"]) == (2, 6)
    assert (first["slo_class"], second["slo_class"]) == ("standard", "batch")
    assert first["duration_s"] == second["duration_s"] == 60
    assert "rate_fraction" not in first


def test_stages_are_shared_too() -> None:
    stages = [{"rate": 4, "duration_s": 10, "end_rate": 8}, {"rate": 2, "duration_s": 5}]
    client, _ = composed(
        {
            "stages": stages,
            "clients": [{"name": "x", "rate_fraction": 0.5}, {"name": "y", "rate_fraction": 0.5}],
        }
    )
    assert client["stages"] == [
        {"rate": 2, "duration_s": 10, "end_rate": 4},
        {"rate": 1, "duration_s": 5},
    ]
    assert "num_requests" not in client
    # The part itself is as it was.
    assert stages[0]["rate"] == 4


def test_own_settings_win_over_common_ones() -> None:
    load = {
        "request_rate": 8,
        "duration_s": 5,
        "clients": [
            {"name": "x", "rate_fraction": 1.0},
            {"name": "y", "stages": [{"rate": 1, "duration_s": 5}], "duration_s": 3},
        ],
    }
    first, second = composed(load)
    assert (first["request_rate"], first["duration_s"]) == (8, 5)
    assert "request_rate" not in second
    assert second["duration_s"] == 3


def test_defaults_are_written_out() -> None:
    """What is 1 request/s and 100 requests alone is so in the composed load."""
    result = compose([Part("a", {"preset": "chatbot"}), OTHER])
    assert result.settings["clients"][0] == {
        "name": "a",
        "preset": "chatbot",
        "request_rate": 1,
        "num_requests": 100,
    }
    assert "a: 100 requests, the default" in result.notices


def test_names_are_kept_where_they_are_unique() -> None:
    """A name decides the draws, so it changes only where it must; the notice says which."""
    end = {"duration_s": 9, "request_rate": 1}
    one = {"clients": [{"name": "x", **end}, {"name": "y", **end}, {**end}]}
    two = {"clients": [{"name": "x", **end}, {"name": "z", **end}]}
    result = compose([Part("a", one), Part("b", two)])
    names = [client["name"] for client in result.settings["clients"]]
    assert names == ["a.x", "y", "a.client-3", "b.x", "z"]
    (notice,) = result.notices
    assert notice == "new names, so other draws of the same distributions: a.x, a.client-3, b.x"


def test_prefix_groups_of_different_parts_stay_apart() -> None:
    end = {"duration_s": 9, "request_rate": 1, "prefix_group": "system", "prefix_tokens": 9}
    one = {"clients": [{"name": "x", **end}, {"name": "y", **end}]}
    two = {"clients": [{"name": "z", **end}]}
    clients = compose([Part("a", one), Part("b", two)]).settings["clients"]
    assert [client["prefix_group"] for client in clients] == ["a.system", "a.system", "b.system"]


def test_everything_else_is_kept() -> None:
    load = {
        "prompts": {
            "kind": "shared_prefix",
            "num_groups": 2,
            "num_prompts_per_group": 2,
            "system_prompt_len": 5,
            "question_len": 5,
            "output_len": 5,
        },
        "arrivals": {"process": "closed_loop", "num_users": 3},
        "num_requests": 50,
        "max_outstanding": 2,
        "timeout_s": 9,
        "priority": 1,
    }
    assert composed(load) == [{"name": "a", **load}]


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            {"stages": [{"rate": 1, "duration_s": 1}], "stage_gap_s": 5},
            r"^a: stage_gap_s must",
        ),
        ({"num_requests": 5, "clients": [{}, {}]}, r"num_requests.*all its clients together"),
        ({"max_outstanding": 5, "clients": [{}, {}]}, r"max_outstanding.*all its clients"),
        (
            {"num_requests": 5, "clients": [{"sessions": {"rounds": 3}}]},
            r"num_requests.*; give duration_s in its place",
        ),
        ({"trace": "t.csv", "clients": [{}]}, r"trace must not be given"),
        ({"clients": [{}, {"duration_s": 5}]}, r"clients must each have an end"),
        ({"request_rate": 5, "clients": [{}]}, r"must have a rate_fraction each"),
        ({"clients": [{"rate_fraction": 1}]}, r"got 1 fractions of nothing"),
        ({"request_rate": 5, "clients": [{"rate_fraction": 0.5}]}, r"add up to 1; got 0\.5"),
        (
            {"duration_s": 5, "clients": [{"name": "x"}, {"name": "x"}]},
            r"different names; got x 2 times",
        ),
    ],
)
def test_what_one_load_cannot_say(load: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([Part("a", load), OTHER])


def test_one_client_may_have_the_common_limits() -> None:
    (client,) = composed({"num_requests": 5, "max_outstanding": 2, "clients": [{"name": "x"}]})
    assert (client["num_requests"], client["max_outstanding"]) == (5, 2)


def test_one_load_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least two loads; got 1"):
        compose([OTHER])


def test_scales() -> None:
    """Rates of all kinds are multiplied; a trace without a rate is played faster."""
    assert composed({"request_rate": 4, "num_requests": 5}, a=0.5)[0]["request_rate"] == 2
    stages = [{"rate": 4, "duration_s": 10, "end_rate": 8}]
    expected = [{"rate": 6, "duration_s": 10, "end_rate": 12}]
    assert composed({"stages": stages}, a=1.5)[0]["stages"] == expected
    assert composed({"trace": "t.csv", "rate_scale": 3}, a=2)[0]["rate_scale"] == 6
    with pytest.raises(ConfigError, match="got a closed loop; change num_users"):
        composed({"arrivals": "closed_loop", "num_requests": 5}, a=2)
    with pytest.raises(ConfigError, match="--scale must be a known name; got 'b'; nearest: "):
        compose([Part("a", {}), OTHER], {"b": 2})


def test_files_of_all_kinds(tmp_path: Path) -> None:
    """Ours, a scenario and a BLIS spec; equal stems are numbered."""
    folder = tmp_path / "sub"
    folder.mkdir()
    ours = write_yaml(tmp_path / "x.yaml", {"preset": "chatbot"})
    scenario = {"model": "m", "workload": {"preset": "chatbot", "trace": "t.csv"}}
    other = write_yaml(folder / "x.yaml", scenario)
    blis = write_yaml(tmp_path / "blis.yaml", blis_spec(blis_client()))
    parts = read_parts([ours, other, blis])
    assert [part.name for part in parts] == ["x-1", "x-2", "blis"]
    assert parts[1].settings["trace"] == str(folder / "t.csv")
    assert parts[1].notices == ("only its workload is taken, not model",)
    assert parts[2].settings["clients"][0]["name"] == "a"


def test_a_bad_file_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("preset: chatbot\nrequest_rate: -1\n")
    with pytest.raises(ConfigError, match=r"x\.yaml:2:1: request_rate must be > 0"):
        read_parts([path])
    path.write_text("preset: chatbot\nrequest_rte: 1\n")
    with pytest.raises(ConfigError, match=r"x\.yaml:2:1: request_rte must be a known name"):
        read_parts([path])


def test_paths_follow_the_file(tmp_path: Path) -> None:
    """Paths of a spec are resolved from its folder and written from another one."""
    table = {"kind": "empirical", "file": "l.txt"}
    load = {"clients": [{"trace": "t.csv"}, {"prompt": {"kind": "mixture", "parts": [table]}}]}
    resolved = resolve_paths(load, tmp_path / "in")
    assert resolved["clients"][0]["trace"] == str(tmp_path / "in" / "t.csv")
    moved = relative_paths(resolved, tmp_path / "out")
    assert moved["clients"][0]["trace"] == "../in/t.csv"
    assert moved["clients"][1]["prompt"]["parts"][0]["file"] == "../in/l.txt"
    assert load["clients"][0]["trace"] == "t.csv"


def test_long_tables_of_lengths_go_to_files(tmp_path: Path) -> None:
    """More than 64 values: one ``length,weight`` per line in a folder beside the spec."""
    long = {"kind": "empirical", "values": list(range(1, 101)), "weights": [0.5] * 100}
    short = {"kind": "empirical", "values": [1, 2]}
    load = {"clients": [{"name": "a/b", "prompt": long, "output": short}]}
    moved, written = move_long_lengths(load, tmp_path / "spec.yaml")
    assert moved["clients"][0]["prompt"] == {
        "kind": "empirical",
        "file": "spec-lengths/a-b-prompt.txt",
    }
    assert moved["clients"][0]["output"] == short
    assert written == [tmp_path / "spec-lengths" / "a-b-prompt.txt"]
    lines = written[0].read_text().splitlines()
    assert (lines[0], len(lines)) == ("1,0.5", 100)


def stream_of(settings: dict[str, Any], tenant: str) -> list[tuple[Any, ...]]:
    """Return the requests of a client, without their numbers in the whole load."""
    workload = open_workload(WorkloadSettings.model_validate(settings), 7)
    return [request[1:] for request in workload.requests() if request.tenant == tenant]


def test_named_clients_send_what_they_send_alone() -> None:
    """Composing changes nothing of a client that keeps its name but its requests' numbers."""
    part = {
        "stages": [{"rate": 4, "duration_s": 20}, {"rate": 8, "duration_s": 10}],
        "preset": "chatbot",
        "clients": [
            {
                "name": "x",
                "tenant": "x",
                "rate_fraction": 0.25,
                "arrivals": {"process": "weibull", "cv": 2},
            },
            {"name": "y", "tenant": "y", "rate_fraction": 0.75, "max_output_tokens": 50},
        ],
    }
    whole = compose([OTHER, Part("a", part)]).settings
    for tenant in ("x", "y"):
        alone = stream_of(part, tenant)
        assert len(alone) > 10
        assert stream_of(whole, tenant) == alone


def test_renamed_loads_have_other_draws_of_the_same_distributions() -> None:
    """Constant gaps do not depend on the draws and stay; lengths keep their distribution."""
    load = {
        "arrivals": "constant",
        "request_rate": 20,
        "duration_s": 100,
        "prompt": {"mean": 500, "stdev": 50},
        "output": 5,
        "tenant": "t",
    }
    alone = stream_of(load, "t")
    together = stream_of(compose([OTHER, Part("a", load)]).settings, "t")
    assert [request[0] for request in together] == [request[0] for request in alone]
    assert [request[1] for request in together] != [request[1] for request in alone]
    # Of 2000 lengths the mean has a standard error of 50 / sqrt(2000).
    mean = sum(request[1] for request in together) / len(together)
    assert mean == pytest.approx(500, abs=4 * 50 / 2000**0.5)
