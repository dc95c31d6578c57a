from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.cli.main import main
from blis_sim.workload.request import RequestSpec
from tests.workload.builders import SHARED_TRACES, make_requests, write_trace

TRACE = """\
arrival_s,prompt_tokens,output_tokens,slo_class,prompt_id
0,33,5,chat,p
1,33,7,chat,p
3.5,100,9,batch,q
"""

SPEC = """\
request_rate: 4
num_requests: 50
prompt: {kind: lognormal, mean: 300, stdev: 200}
output: 20
tenant: us
"""


def write(folder: Path, text: str, name: str = "spec.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Return what a command that must succeed prints on stdout and on stderr."""
    assert main(["workload", *arguments]) == 0
    printed = capsys.readouterr()
    return printed.out, printed.err


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line with which a command must end, exit code 2."""
    assert main(["workload", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    text, _ = run(capsys, "describe", *arguments, "--json", "-")
    document: dict[str, Any] = json.loads(text)
    return document


def test_a_trace_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has the counts, the lengths, the classes and what prompts share."""
    text, err = run(capsys, "describe", str(write_trace(tmp_path, TRACE)))
    rows = {line[:40].strip(): line[40:].split() for line in text.splitlines()}
    assert rows["Requests"] == ["3"]
    assert rows["Span (s)"] == ["3.50"]
    assert rows["Shareable prefix (% of prompt tokens)"][0] == f"{100 * 32 / 166:.2f}"
    assert "chat" in text
    assert "batch" in text
    assert max(map(len, text.splitlines())) <= 100
    assert err == ""


def test_json_alone_on_stdout_has_all_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys carry their units; a label's figures are a list."""
    shown = figures(capsys, str(write_trace(tmp_path, TRACE)))
    assert shown["num_requests"] == 3
    assert shown["arrivals"]["span_s"] == 3.5
    assert shown["prompt_tokens"]["total"] == 166
    assert [(row["name"], row["num_requests"]) for row in shown["per_slo_class"]] == [
        ("chat", 2),
        ("batch", 1),
    ]
    assert shown["workload"]["is_open"] is True


@pytest.mark.parametrize(
    ("flags", "count", "span_s"),
    [
        (("--num-requests", "2"), 2, 1.0),
        (("--start", "1s"), 2, 2.5),
        (("--duration", "2s"), 2, 1.0),
        (("--rate-scale", "2"), 3, 1.75),
        (("--request-rate", "0.5"), 3, 4.0),
        (("--start", "500ms", "--duration", "1m", "--rate", "1"), 2, 1.0),
    ],
)
def test_windows_and_scales_are_those_of_a_replay(
    flags: tuple[str, ...],
    count: int,
    span_s: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Arrivals at 0, 1 and 3.5 s."""
    shown = figures(capsys, str(write_trace(tmp_path, TRACE)), *flags)
    assert shown["num_requests"] == count
    assert shown["arrivals"]["span_s"] == pytest.approx(span_s)


def test_bad_rows_are_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first is an error with its line unless the flag is given."""
    path = str(write_trace(tmp_path, TRACE + "4,none,1,chat,p\n"))
    assert f"{path}:5" in error_of(capsys, "describe", path)
    text, _ = run(capsys, "describe", path, "--skip-bad-rows")
    assert "1 malformed row left out" in " ".join(text.split())


def test_the_format_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of ours is not one of Azure's."""
    path = str(write_trace(tmp_path, TRACE))
    assert "TIMESTAMP" in error_of(capsys, "describe", path, "--trace-format", "azure")
    assert figures(capsys, path, "--trace-format", "csv")["num_requests"] == 3
    path = write(tmp_path, TRACE, "trace.yaml")
    assert figures(capsys, path, "--trace-format", "csv")["num_requests"] == 3


def test_a_spec_is_drawn_with_the_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures are those of the stream with the same seed."""
    shown = figures(capsys, write(tmp_path, SPEC), "--seed", "3")
    expected = make_requests(
        3,
        request_rate=4,
        num_requests=50,
        prompt={"kind": "lognormal", "mean": 300, "stdev": 200},
        output=20,
    )
    assert shown["prompt_tokens"]["total"] == sum(spec.prompt_tokens for spec in expected)
    assert shown["arrivals"]["first_s"] == expected[0].arrival_us / 1e6
    assert [row["name"] for row in shown["per_tenant"]] == ["us"]


def test_of_a_scenario_the_load_the_seed_and_the_horizon_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its requests are those that blis run would send."""
    path = write(tmp_path, "seed: 5\nhorizon_s: 20\nworkload: {request_rate: 2, output: 3}\n")
    shown = figures(capsys, path)
    expected = make_requests(5, 20_000_000, request_rate=2, output=3)
    assert shown["num_requests"] == len(expected)
    assert shown["prompt_tokens"]["total"] == sum(spec.prompt_tokens for spec in expected)
    assert shown["workload"]["notices"] == []


def test_paths_in_a_spec_start_from_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A spec may name a trace beside it."""
    write_trace(tmp_path, TRACE)
    assert figures(capsys, write(tmp_path, "trace: trace.csv\n"))["num_requests"] == 3


def test_a_load_without_an_end_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """100,000 arrivals with a note; none where the user says how many."""
    path = write(tmp_path, "request_rate: 1000\noutput: 3\nprompt: 4\n")
    shown = figures(capsys, path)
    assert shown["num_requests"] == 100_000
    assert "nothing bounds the load" in shown["workload"]["notices"][0]
    shown = figures(capsys, path, "--num-requests", "10")
    assert (shown["num_requests"], shown["workload"]["notices"]) == (10, [])
    assert figures(capsys, path, "--duration", "2s")["workload"]["notices"] == []


def test_clients_without_an_end_are_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One endless client among bounded ones is enough."""
    path = write(tmp_path, "clients: [{num_requests: 3}, {request_rate: 900}]\n")
    assert "nothing bounds" in figures(capsys, path)["workload"]["notices"][0]


def test_a_common_end_is_the_end_of_each_client(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is set for all bounds a client that has no bound of its own."""
    path = write(tmp_path, "duration_s: 2\nclients: [{num_requests: 3}, {request_rate: 9}]\n")
    assert figures(capsys, path)["workload"]["notices"] == []


def test_users_who_wait_are_described_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three users who think 2 s send three requests every 2 s to a server without delay."""
    spec = "arrivals: {process: closed_loop, num_users: 3, think_time_s: 2}\nnum_requests: 30\n"
    text, _ = run(capsys, "describe", write(tmp_path, spec))
    assert "a server that answers at once" in " ".join(text.split())
    shown = figures(capsys, write(tmp_path, spec))
    assert shown["workload"]["is_open"] is False
    assert shown["arrivals"]["span_s"] == 18


def test_a_prompt_pool_shares_all_but_the_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """100 prompts of 591 tokens twice: the second time 576 of each; the first time the 96 of
    the system prompt, but for the first of ten groups."""
    prompts = (
        "{kind: shared_prefix, num_groups: 10, num_prompts_per_group: 10, system_prompt_len: 100,"
        " question_len: 491, output_len: 247}"
    )
    shown = figures(capsys, write(tmp_path, f"prompts: {prompts}\nnum_requests: 200\n"))
    assert shown["prompt_tokens"]["total"] == 200 * 591
    assert shown["prefix_cache"]["shareable_tokens"] == 100 * 576 + 90 * 96


def test_generate_writes_the_stream_that_describe_sees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written and read again, the requests are the same."""
    spec, trace = write(tmp_path, SPEC), tmp_path / "trace.csv"
    text, err = run(capsys, "generate", spec, "--out", str(trace), "--seed", "3")
    assert text.startswith(f"{trace}: 50 requests")
    assert err == ""
    again = make_requests(trace=trace)
    assert len(again) == 50
    assert all(isinstance(one, RequestSpec) and one.tenant == "us" for one in again)
    of_spec = figures(capsys, spec, "--seed", "3")
    of_trace = figures(capsys, str(trace))
    assert {**of_spec, "workload": None} == {**of_trace, "workload": None}


def test_generate_says_what_a_format_loses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Azure's format has no tenants; --num-requests wins over the file."""
    trace = tmp_path / "out.csv"
    arguments = ("--out", str(trace), "--to", "azure", "--num-requests", "7")
    text, err = run(capsys, "generate", write(tmp_path, SPEC), *arguments)
    assert ": 7 requests" in text
    assert "tenant" in err
    assert figures(capsys, str(trace))["num_requests"] == 7


def test_a_generated_tracev2_pair_is_a_trace_not_a_spec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its header is YAML, too."""
    pair = tmp_path / "pair.yaml"
    run(capsys, "generate", write(tmp_path, SPEC), "--out", str(pair), "--to", "tracev2")
    assert figures(capsys, str(pair))["num_requests"] == 50


def test_a_closed_load_is_generated_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trace holds times, not who waits for whom."""
    spec = write(tmp_path, "sessions: {rounds: 2, think_time_s: 1}\nnum_requests: 3\n")
    _, err = run(capsys, "generate", spec, "--out", str(tmp_path / "t.csv"))
    assert "server that answers at once" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num-requests", "0"), "--num-requests must be >= 1; got '0'"),
        (("--rate-scale", "2"), "--rate-scale must not be set without a trace"),
        (("--duration", "5"), "--duration must be a time with its unit"),
        (("--plot", "figure.pdf"), "--plot must be a file ending in .png or .svg"),
        (("--json", "no/such/folder/x.json"), "--json must be a file in an existing folder"),
    ],
)
def test_wrong_flags_are_named(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line on stderr, in the words of the command line."""
    assert message in error_of(capsys, "describe", write(tmp_path, SPEC), *arguments)


def test_wrong_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, a folder, an unknown setting with its place."""
    missing = str(tmp_path / "none.csv")
    assert missing in error_of(capsys, "describe", missing)
    assert str(tmp_path) in error_of(capsys, "describe", str(tmp_path))
    wrong = write(tmp_path, "request_rate: 1\nprompts_tokens: 3\n")
    assert f"{wrong}:2:1" in error_of(capsys, "describe", wrong)


def test_nothing_overwrites_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the load nor the other output."""
    trace, figure = str(write_trace(tmp_path, TRACE)), str(tmp_path / "f.svg")
    assert "--json must be another file" in error_of(capsys, "describe", trace, "--json", trace)
    line = error_of(capsys, "describe", trace, "--json", figure, "--plot", figure)
    assert "--plot must be another file" in line
    assert "--out must be another file" in error_of(capsys, "generate", trace, "--out", trace)
    assert Path(trace).read_text() == TRACE


def test_table_json_and_plot_in_one_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of JSON leaves stdout to the table."""
    pytest.importorskip("matplotlib", reason="plots need the plots extra")
    document, figure = tmp_path / "f.json", tmp_path / "f.svg"
    trace = str(write_trace(tmp_path, TRACE))
    text, _ = run(capsys, "describe", trace, "--json", str(document), "--plot", str(figure))
    assert "Arrivals" in text
    assert json.loads(document.read_text())["num_requests"] == 3
    assert "<svg" in figure.read_text()


def test_mooncake_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    """12,031 requests of 12,035 prompt tokens in the mean; 54,097,440 of them are repeated
    (the leading hash ids seen before, counted from the file)."""
    path = SHARED_TRACES / "mooncake_conversation.jsonl"
    if not path.exists():
        pytest.skip("the Mooncake trace is not beside the checkout")
    shown = figures(capsys, str(path))
    assert shown["num_requests"] == 12_031
    assert round(shown["prompt_tokens"]["mean"]) == 12_035
    assert shown["prefix_cache"]["shareable_tokens"] == 54_097_440
