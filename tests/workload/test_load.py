"""One client's load: what each setting does, and that none is accepted and then ignored."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blis_sim.config.workload import (
    ArrivalSettings,
    ClientSettings,
    LoadSettings,
    SessionSettings,
    WorkloadSettings,
)
from blis_sim.errors import BlisError

from .builders import make_requests, make_workload
from .served import most_open, serve

STAGES = [{"rate": 2, "duration_s": 5}, {"rate": 4, "duration_s": 5}]
POOL = {
    "kind": "shared_prefix",
    "num_groups": 2,
    "num_prompts_per_group": 2,
    "system_prompt_len": 5,
    "question_len": 7,
    "output_len": {"mean": 300, "stdev": 20},
}
LOOP = {"process": "closed_loop", "num_users": 3}
GENERATED: dict[str, dict[str, Any]] = {
    "rate": {"prompt": 200, "request_rate": 2.0, "num_requests": 30},
    "duration": {"prompt": 200, "request_rate": 2.0, "duration_s": 12.0},
    "stages": {"prompt": 200, "stages": STAGES},
    "staged": {"prompt": 200, "stages": STAGES, "stage_gap_s": 3.0},
    "inf": {"prompt": 200, "request_rate": math.inf, "num_requests": 20},
    "all at once": {"prompt": 200, "arrivals": "all_at_once", "num_requests": 20},
    "users": {"prompt": 200, "arrivals": LOOP, "num_requests": 20},
    "users for a time": {"prompt": 200, "arrivals": LOOP, "duration_s": 5.0},
    "pool": {"prompts": POOL, "num_requests": 20},
    "sessions": {"prompt": 200, "sessions": {"rounds": 3}, "num_requests": 10},
}
REPLAYED: dict[str, dict[str, Any]] = {
    "trace": {"trace": "times.csv"},
    "trace at a rate": {"trace": "times.csv", "request_rate": 50},
    "drawn trace": {"trace": "times.csv", "arrivals": {"process": "gamma"}},
    "trace in stages": {"trace": "times.csv", "stages": STAGES},
    "users of a trace": {"trace": "times.csv", "arrivals": LOOP},
    "texts": {"trace": "texts.json", "request_rate": 2.0},
    "users of texts": {"trace": "texts.json", "arrivals": LOOP},
}
VALUES: dict[str, Any] = {
    "preset": "chatbot",
    "trace": "times.csv",
    "trace_format": "azure",
    "skip_bad_rows": True,
    "tokens_per_word": 1.5,
    "request_rate": 3.0,
    "rate_scale": 2.0,
    "repeats": 2,
    "stages": [{"rate": 1, "duration_s": 4}],
    "rate_curve": [{"kind": "on_off", "on_s": 1.0, "off_s": 1.0}],
    "num_requests": 7,
    "start_s": 2.5,
    "duration_s": 3.5,
    "prompt": 33,
    "output": 9,
    "prefix_tokens": 16,
    "num_prefix_groups": 3,
    "prefix_group": "abc",
    "prompts": {**POOL, "num_groups": 3},
    "sessions": {"rounds": 2},
    "max_outstanding": 1,
    "max_output_tokens": 1,
    "timeout_s": 1.0,
    "slo_class": "gold",
    "tenant": "acme",
    "priority": 3,
    "stage_gap_s": 2.0,
    "arrivals.process": "constant",
    "arrivals.burstiness": 2.0,
    "arrivals.cv": 2.0,
    "arrivals.normalize_span": True,
    "arrivals.num_users": 2,
    "arrivals.think_time_s": 2.0,
    "sessions.think_time_s": 2.0,
    "sessions.history": "none",
    "sessions.max_context_tokens": 600,
}
OF_TRACES = {"trace_format", "skip_bad_rows", "tokens_per_word", "rate_scale", "repeats"}
OF_USERS = {"arrivals.num_users", "arrivals.think_time_s"}
OF_PREFIXES = {"num_prefix_groups", "prefix_group"}
OF_PROMPTS = {"preset", "prompt", "output", "prefix_tokens"} | OF_PREFIXES
OF_RATES = {"request_rate", "stages", "rate_curve"}
OF_GAPS = {"arrivals.process", "arrivals.burstiness", "arrivals.cv", "arrivals.normalize_span"}
DRAWN = OF_TRACES | OF_PREFIXES | {"trace", "prompts", "stage_gap_s"}
"""What lengths drawn at a rate cannot use; a trace and a pool have no place beside a prompt."""
POISSON = OF_USERS | {"arrivals.cv"}
RECORDED = OF_PROMPTS | {"prompts", "sessions", "stage_gap_s"}
NO_TEXT = {"tokens_per_word", "trace_format"}
"""What a trace with lengths cannot use; and it is not of the format named."""
REFUSED: dict[str, set[str]] = {
    "rate": DRAWN | POISSON | {"stages"},
    "duration": DRAWN | POISSON | {"stages"},
    "stages": (DRAWN | POISSON | {"request_rate"}) - {"stage_gap_s"},
    "staged": (DRAWN | POISSON | {"request_rate"}) - {"stage_gap_s"},
    "inf": DRAWN | OF_GAPS | OF_USERS | {"stages", "rate_curve", "duration_s"},
    "all at once": (
        (DRAWN | OF_GAPS | OF_RATES | OF_USERS | {"duration_s"}) - {"arrivals.process"}
    ),
    "users": DRAWN | OF_GAPS | OF_RATES,
    "users for a time": DRAWN | OF_GAPS | OF_RATES,
    "pool": OF_TRACES | OF_PROMPTS | POISSON | {"trace", "sessions", "stage_gap_s"},
    "sessions": DRAWN | POISSON,
    "trace": RECORDED | NO_TEXT | POISSON,
    "trace at a rate": RECORDED | NO_TEXT | POISSON | {"rate_scale", "stages"},
    "drawn trace": RECORDED | NO_TEXT | OF_USERS | {"rate_scale"},
    "trace in stages": RECORDED | NO_TEXT | POISSON | {"rate_scale", "request_rate"},
    "users of a trace": RECORDED | NO_TEXT | OF_RATES | OF_GAPS | {"rate_scale"},
    # Texts have no times of their own: no window of them, and no rate to scale.
    "texts": RECORDED | POISSON | {"trace_format", "rate_scale", "stages", "start_s"},
    "users of texts": (RECORDED | OF_RATES | OF_GAPS | {"trace_format", "rate_scale", "start_s"}),
}
UNTOUCHED: dict[str, set[str]] = {
    mode: {"skip_bad_rows"}
    for mode in REPLAYED  # none of whose rows is bad
}


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """A folder with a trace that has times, and one of texts that has none."""
    rows = "".join(f"{number * 0.06 + 2},{10 + number},{1 + number % 7}\n" for number in range(30))
    (tmp_path / "times.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    texts = [
        {
            "id": str(number),
            "conversations": [
                {"from": "human", "value": "word " * (10 + number)},
                {"from": "gpt", "value": "word " * (4 + number % 7)},
            ],
        }
        for number in range(30)
    ]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    return tmp_path


def with_setting(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    name, _, field = path.partition(".")
    if not field:
        return {**base, name: value}
    before = base.get(name, {"rounds": 3} if name == "sessions" else {})
    before = {"process": before} if isinstance(before, str) else before
    return {**base, name: {**before, field: value}}


def outcome(settings: dict[str, Any], folder: Path) -> Any:
    """Return all that a load does with a server that takes its time."""
    if "trace" in settings:
        settings = {**settings, "trace": folder / settings["trace"]}
    workload = make_workload(**settings)
    return serve(workload.clients(), most=200), workload.num_requests


@pytest.mark.parametrize("mode", [*GENERATED, *REPLAYED])
def test_no_setting_is_accepted_and_ignored(mode: str, traces: Path) -> None:
    """Every setting changes what is sent, or is refused by name; which, is known per load."""
    base = (GENERATED | REPLAYED)[mode]
    before = outcome(base, traces)
    refused = set()
    for path, value in VALUES.items():
        name = path.partition(".")[0]
        if name == "sessions" and path != name and "sessions" not in base:
            continue
        if base.get(path) == value:
            continue
        try:
            after = outcome(with_setting(base, path, value), traces)
        except BlisError:
            refused.add(path)
            continue
        if path not in UNTOUCHED.get(mode, set()):
            assert after != before, path
    assert refused == REFUSED[mode]


def test_the_table_of_settings_is_complete() -> None:
    """Every field of a load, of its arrivals and of its sessions is in the table above."""
    fields = set(LoadSettings.model_fields) - {"arrivals"}
    for name, section in (("arrivals", ArrivalSettings), ("sessions", SessionSettings)):
        fields |= {f"{name}.{field}" for field in section.model_fields}
    assert set(VALUES) == (fields - {"sessions.rounds"}) | {"stage_gap_s"}
    own = set(ClientSettings.model_fields) - set(LoadSettings.model_fields)
    assert own == {"name", "rate_fraction"}
    whole = set(WorkloadSettings.model_fields) - set(LoadSettings.model_fields)
    assert whole == {"clients", "stage_gap_s"}


# -- when ------------------------------------------------------------------


def count_between(times_us: np.ndarray, begin_s: float, end_s: float) -> int:
    return int(np.sum((times_us > begin_s * 1e6) & (times_us <= end_s * 1e6)))


def arrivals(**settings: Any) -> np.ndarray:
    return np.array([request.arrival_us for request in make_requests(**settings)])


def test_stages_have_arrivals_at_their_rates() -> None:
    """Counts of a stage are rate x time within 4.5 standard errors; a ramp's by its mean."""
    stages = [
        {"rate": 30, "duration_s": 50},
        {"rate": 0, "duration_s": 10},
        {"rate": 10, "end_rate": 50, "duration_s": 60},
    ]
    times_us = arrivals(prompt=1, output=1, stages=stages, start_s=7.0)
    for begin_s, end_s, due in [(7, 57, 1500), (57, 67, 0), (67, 127, 1800)]:
        assert count_between(times_us, begin_s, end_s) == pytest.approx(
            due, abs=4.5 * math.sqrt(due)
        )
    assert len(times_us) == count_between(times_us, 7, 127)


@pytest.mark.parametrize("process", ["poisson", "constant", {"process": "gamma", "cv": 3.0}])
def test_normalized_stages_have_exactly_their_arrivals(process: Any) -> None:
    """Each stage has round(rate x time) arrivals, the last at exactly its end."""
    given = {"process": process} if isinstance(process, str) else process
    times_us = arrivals(
        stages=[{"rate": 5, "duration_s": 60}, {"rate": 10, "duration_s": 60}],
        arrivals={**given, "normalize_span": True},
    )
    assert len(times_us) == 300 + 600
    assert (times_us[299], times_us[899]) == (60_000_000, 120_000_000)
    assert count_between(times_us, 0, 60) == 300


def test_a_stage_of_a_staged_load_is_the_stage_without_gaps() -> None:
    """Waiting for the answers moves a stage as a whole, and changes no request."""
    plain = make_workload(prompt=9, output=9, stages=STAGES)
    staged = make_workload(prompt=9, output=9, stages=STAGES, stage_gap_s=2.0)
    served = serve(staged.clients(), service_us=lambda s: 7_000_000)
    before = [r for r in plain if r.arrival_us <= 5_000_000]
    after = [r for r in plain if r.arrival_us > 5_000_000]
    begin_us = max(one.end_us for one in served[: len(before)]) + 2_000_000
    assert [s.spec for s in served] == before + [
        r._replace(arrival_us=r.arrival_us - 5_000_000 + begin_us) for r in after
    ]


def test_a_stage_that_is_answered_early_lasts_its_time() -> None:
    """Where the answers come sooner the next stage begins a gap after the end of this one."""
    load = {"prompt": 9, "output": 9, "stages": STAGES, "start_s": 1.0}
    plain = make_workload(**load)
    staged = make_workload(**load, stage_gap_s=2.0)
    served = serve(staged.clients(), service_us=lambda s: 1)
    assert [s.spec for s in served] == [
        r._replace(arrival_us=r.arrival_us + 2_000_000 * (r.arrival_us > 6_000_000)) for r in plain
    ]


def test_users_begin_and_end_with_the_load() -> None:
    """Closed loops keep to start_s and duration_s; N users have N requests open."""
    served = serve(make_workload(arrivals=LOOP, start_s=10.0, duration_s=30.0).clients())
    sent_us = [s.spec.arrival_us for s in served]
    assert sent_us[:3] == [10_000_000] * 3
    assert 35_000_000 < sent_us[-1] <= 40_000_000
    assert most_open(served) == 3


def test_users_of_a_trace_begin_with_its_window(traces: Path) -> None:
    """The window chooses the rows; users send them from time 0 on, in the trace's order."""
    load = {"trace": traces / "times.csv", "start_s": 2.5, "arrivals": LOOP}
    served = serve(make_workload(**load).clients())
    assert [s.spec.prompt_tokens for s in served] == list(range(10 + 9, 10 + 30))
    assert [s.spec.arrival_us for s in served][:3] == [0, 0, 0]
    assert most_open(served) == 3


def test_think_times_are_those_of_the_settings() -> None:
    """Between an answer and the user's next request lies the think time, with its mean."""
    loop = {**LOOP, "num_users": 1, "think_time_s": {"kind": "exponential", "mean": 2.0}}
    served = serve(make_workload(arrivals=loop, num_requests=2000).clients())
    waits_s = [(after.spec.arrival_us - before.end_us) / 1e6 for before, after in pairwise(served)]
    assert min(waits_s) >= 0
    assert np.mean(waits_s) == pytest.approx(2.0, abs=4.5 * 2.0 / math.sqrt(2000))


def test_a_closed_loop_without_an_end_has_the_default_number() -> None:
    """100 requests, as any load; with a horizon, as many as fit."""
    workload = make_workload(arrivals=LOOP)
    assert workload.num_requests == len(serve(workload.clients())) == 100
    endless = make_workload(horizon_us=10**9, arrivals=LOOP)
    assert endless.num_requests is None
    assert len(serve(endless.clients(), most=500)) == 500
