"""The shipped workload specs: each does what its comment says, through the command line."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from blis_sim.cli.main import main
from blis_sim.config.workload import WorkloadSettings
from blis_sim.workload.lengths import open_lengths
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.stream import open_workload
from blis_sim.workload.trace import read_trace

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "workloads").glob("*.yaml"))
TRACES = ROOT.parent / "shared" / "data" / "traces"
SEED = 42


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command run in an empty folder: the specs are shipped."""
    monkeypatch.chdir(tmp_path)


def settings_of(name: str) -> WorkloadSettings:
    """Return the load of a spec."""
    values = yaml.safe_load((ROOT / "workloads" / f"{name}.yaml").read_text(encoding="utf-8"))
    return WorkloadSettings.model_validate(values.get("workload", values))


def stream_of(name: str) -> list[RequestSpec]:
    """Return all requests of a spec, as a server that answers at once gets them."""
    return list(open_workload(settings_of(name), SEED))


def run(name: str, *flags: str) -> dict[str, Any]:
    """Run a spec on the default deployment and return the JSON."""
    arguments = ["run", "--workload-spec", f"workloads/{name}.yaml", *flags]
    assert main([*arguments, "--json", "run.json", "--requests-out", "run.csv", "--quiet"]) == 0
    result: dict[str, Any] = json.loads(Path("run.json").read_text(encoding="utf-8"))
    return result


def served() -> list[dict[str, str]]:
    """Return the requests of the last run."""
    with Path("run.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def hit_share(rows: list[dict[str, str]]) -> float:
    """Return the share of prompt tokens that were found in the KV cache."""
    cached = sum(int(row["cached_tokens"]) for row in rows)
    return cached / sum(int(row["prompt_tokens"]) for row in rows)


def gaps_cv(arrival_us: list[int]) -> float:
    """Return the coefficient of variation of the gaps between arrivals."""
    gaps = np.diff(arrival_us)
    return float(gaps.std() / gaps.mean())


# -- all of them ----------------------------------------------------------


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_serves_its_load_without_overload(path: Path) -> None:
    """Two minutes of it run on the default deployment, and hardly anybody waits or gives up."""
    result = run(path.stem, "--duration", "120s")
    num_ended = result["completed"] + result["failed"]
    assert result["completed"] >= 0.98 * num_ended > 0
    assert result["median_queue_ms"] < 100
    assert result["duration"] < 120 + 90


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_begins_with_what_it_models_and_how_to_run_it(path: Path) -> None:
    """The comment names its figures' sources, and its commands can be typed."""
    text = path.read_text(encoding="utf-8")
    comment = re.match(r"(?:#.*\n)+", text)
    assert comment
    assert re.search(r"^# Figures: ", comment.group(), re.MULTILINE)
    commands = re.findall(r"^#   (blis .*)$", comment.group(), re.MULTILINE)
    assert commands[0].startswith(f"blis run --workload-spec workloads/{path.name}")
    for command in commands:
        assert main([*shlex.split(command, comments=True)[1:], "--dry-run"]) == 0


def test_all_are_listed() -> None:
    """workloads/README.md has a row for each of them and for no other."""
    readme = (ROOT / "workloads" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+\.yaml)` \|", readme, re.MULTILINE)
    assert sorted(listed) == [path.name for path in SPECS]


# -- figures from traces --------------------------------------------------


@pytest.mark.parametrize(("name", "trace"), [("chat", "conv"), ("code_completion", "code")])
def test_azure_figures_are_those_of_the_trace(name: str, trace: str) -> None:
    """Rate, lengths and the spread of the gaps are quoted as they are in the trace."""
    path = TRACES / f"azure_llm_2023_{trace}.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here: the Azure trace is not shipped")
    settings, columns = settings_of(name), read_trace(path)[0]
    assert columns.arrival_us is not None
    gaps_s = np.diff(np.sort(columns.arrival_us)) / 1e6
    assert settings.request_rate == pytest.approx(1 / gaps_s.mean(), abs=0.005)
    short = gaps_s if name == "chat" else gaps_s[gaps_s <= 10]
    assert settings.arrivals.cv == pytest.approx(short.std() / short.mean(), rel=0.01)
    for lengths, seen in (
        (settings.prompt, columns.prompt_tokens),
        (settings.output, columns.output_tokens),
    ):
        assert lengths is not None
        assert lengths.mean == pytest.approx(seen.mean(), rel=2e-3)
        assert lengths.stdev == pytest.approx(seen.std(), rel=2e-3)
        assert (lengths.min, lengths.max) == (seen.min(), seen.max())


@pytest.mark.parametrize("name", ["chat", "code_completion"])
def test_drawn_load_has_the_figures_it_was_given(name: str) -> None:
    """Rate, spread of the gaps and mean lengths come out, within four standard errors."""
    settings, stream = settings_of(name), stream_of(name)
    assert settings.request_rate is not None
    assert settings.arrivals.cv is not None
    assert settings.duration_s is not None
    expected = settings.request_rate * settings.duration_s
    assert abs(len(stream) - expected) < 4 * settings.arrivals.cv * expected**0.5
    assert gaps_cv([spec.arrival_us for spec in stream]) == pytest.approx(
        settings.arrivals.cv, rel=0.15
    )
    for lengths, drawn in (
        (settings.prompt, [spec.prompt_tokens for spec in stream]),
        (settings.output, [spec.output_tokens for spec in stream]),
    ):
        assert lengths is not None
        assert lengths.mean == pytest.approx(open_lengths("lengths", lengths).mean, rel=0.04)
        error = open_lengths("lengths", lengths).variance ** 0.5 / len(drawn) ** 0.5
        assert abs(np.mean(drawn) - open_lengths("lengths", lengths).mean) < 4 * error


# -- one by one -----------------------------------------------------------


def test_rag_finds_the_hot_documents_and_not_the_cold() -> None:
    """Hot collections stay in the KV cache, cold ones are hardly ever found."""
    run("rag", "--duration", "200s")
    rows = served()
    by_tenant = {
        tenant: [row for row in rows if row["tenant"] == tenant]
        for tenant in ("support", "archive")
    }
    assert hit_share(by_tenant["support"]) > 0.9
    assert hit_share(by_tenant["archive"]) < 0.05
    assert min(int(row["prompt_tokens"]) for row in rows) >= 6144 + 8


def test_agents_send_all_that_was_said() -> None:
    """Each step's prompt is the one before, its answer, and something new."""
    settings, stream = settings_of("agentic"), stream_of("agentic")
    assert settings.sessions is not None
    rounds: dict[str | None, list[RequestSpec]] = {}
    for spec in stream:
        rounds.setdefault(spec.session_id, []).append(spec)
    for steps in rounds.values():
        assert [step.round for step in steps] == list(range(len(steps)))
        assert steps[0].prompt_tokens > 4096
        for before, after in pairwise(steps):
            assert after.prompt_tokens >= before.prompt_tokens + before.output_tokens + 16
            assert after.prompt_tokens + after.output_tokens <= 65536
    drawn = open_lengths("rounds", settings.sessions.rounds)
    error = drawn.variance**0.5 / len(rounds) ** 0.5
    assert abs(len(stream) / len(rounds) - drawn.mean) < 4 * error


def test_agents_reuse_their_history() -> None:
    """Every later step finds the full blocks of the prompt and the answer before it."""
    result = run("agentic", "--duration", "120s")
    assert result["kv_cache"]["kv_usage_peak_frac"] < 1  # nothing was evicted
    assert result["kv_cache"]["prefix_hit_rate"] > 0.75
    lengths = {int(row["cached_tokens"]) for row in served()}
    ends = {
        (int(row["prompt_tokens"]) + int(row["output_tokens"]) - 1) // 16 * 16 for row in served()
    }
    # A first step finds the common 4,096 tokens; the very first one finds nothing.
    assert lengths <= ends | {0, 4096}


def test_mixed_classes_are_told_apart() -> None:
    """Two SLO classes, three tenants, priorities; the reports come in windows."""
    stream = stream_of("mixed_classes")
    assert {(spec.slo_class, spec.tenant, spec.priority) for spec in stream} == {
        ("interactive", "web", 0),
        ("interactive", "editor", 1),
        ("batch", "reports", 10),
    }
    reports_s = [spec.arrival_us / 1e6 for spec in stream if spec.tenant == "reports"]
    assert len(reports_s) == pytest.approx(4 * 240, abs=4 * (4 * 240) ** 0.5)
    assert all(time_s % 300 <= 120 for time_s in reports_s)


def test_mixed_classes_are_reported_and_ordered() -> None:
    """Under the priority policy and pressure people wait less than the machines."""
    flags = ["--duration", "40s", "--max-num-seqs", "8", "--scheduling-policy", "priority"]
    classes = run("mixed_classes", *flags)["per_class"]
    assert classes.keys() == {"interactive", "batch"}
    assert classes["interactive"]["mean_queue_ms"] < classes["batch"]["mean_queue_ms"] / 5


def test_the_day_has_its_peak_and_its_trough() -> None:
    """Arrivals at 14:00 are four times those at 02:00, and the event doubles the rate."""
    settings = settings_of("diurnal_day")
    hours = np.array([spec.arrival_us for spec in open_workload(settings, SEED)]) / 3.6e9

    def count(begin_h: float, end_h: float) -> int:
        return int(((begin_h <= hours) & (hours < end_h)).sum())

    assert hours.max() < 24
    assert len(hours) == pytest.approx(44_065, abs=4 * 44_065**0.5)
    peak, trough = count(13, 15), count(1, 3)
    assert peak / trough == pytest.approx(4, abs=4 * 4 * (1 / peak + 1 / trough) ** 0.5)
    event, around = count(20, 20.5), (count(19.5, 20) + count(20.5, 21)) / 2
    assert event / around == pytest.approx(2, abs=4 * 2 * (1 / event + 0.5 / around) ** 0.5)


def test_shared_prefix_is_written_as_documented() -> None:
    """The pool's settings, whatever the order of its keys."""
    pool = settings_of("shared_prefix").prompts
    assert pool is not None
    assert (pool.num_groups, pool.num_prompts_per_group, pool.order) == (10, 10, "round_robin")
    assert (pool.system_prompt_len, pool.question_len.mean, pool.output_len.mean) == (
        100,
        491,
        247,
    )


def test_shared_prefix_computes_fifteen_tokens_of_a_known_prompt() -> None:
    """591 tokens less 36 blocks, for every request after the first time round."""
    result = run("shared_prefix", "--duration", "60s")
    rows = served()
    computed = [int(row["prompt_tokens"]) - int(row["cached_tokens"]) for row in rows]
    assert len(rows) == 5 * 60
    assert Counter(computed[100:]) == {591 - 16 * 36: 200}
    # A first prompt finds the six full blocks of its group's system prompt, if that came before.
    assert Counter(computed[:100]) == {591: 10, 591 - 16 * 6: 90}
    assert result["max_concurrent_requests"] <= 256


def test_closed_loop_has_its_users_and_no_more() -> None:
    """At most 64 are open, and the rate is that of 64 users who wait and think (Little)."""
    result = run("closed_loop", "--duration", "120s")
    assert result["max_concurrent_requests"] == 64
    rows = served()
    sent_s = np.array([int(row["arrival_us"]) for row in rows]) / 1e6
    rate_per_s = ((sent_s > 30) & (sent_s <= 120)).sum() / 90
    e2e_s = np.mean([float(row["e2e_ms"]) for row in rows]) / 1e3
    assert rate_per_s == pytest.approx(64 / (5 + e2e_s), rel=0.1)
    shares = Counter(row["prompt_tokens"] for row in rows)
    assert shares.keys() == {"256", "4096"}
    assert shares["256"] == pytest.approx(len(rows) / 2, abs=4 * (len(rows) / 4) ** 0.5)
