"""Settings of several clients that contradict each other: one line that names the client."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from blis_sim.errors import ConfigError

from .builders import make_workload, write_trace

LOOP = {"process": "closed_loop", "num_users": 2}
A, B, C = {"name": "a"}, {"name": "b"}, {"name": "c"}
HALF = {"rate_fraction": 0.5}
STAGES = [{"rate": 1, "duration_s": 9}]
POOL = {"kind": "shared_prefix", "num_groups": 1, "num_prompts_per_group": 1,
        "system_prompt_len": 9, "question_len": 9, "output_len": 1}  # fmt: skip
AT_2 = r"workload\.clients\[2\]\."


def third(**settings: Any) -> list[dict[str, Any]]:
    return [A, B, {**C, **settings}]


CONFLICTS: list[tuple[dict[str, Any], str]] = [
    ({"clients": []}, r"workload\.clients must have at least one client; got an empty list"),
    ({"clients": [A, B, B]}, AT_2 + r"name must differ .*got 'b'"),
    ({"clients": [A, {"name": "client-3"}, {}]}, AT_2 + r"name must differ .*'client-3'"),
    ({"clients": [A, B, {"name": " "}]}, AT_2 + r"name must be printable text; got ' '"),
    ({"clients": [A, B, {"name": "x\ny"}]}, AT_2 + r"name must be printable text"),
    (
        {"clients": third(request_rate=1.0, stages=STAGES)},
        AT_2 + r"request_rate must not be set together with workload\.clients\[2\]\.stages",
    ),
    ({"clients": third(stages=[])}, AT_2 + r"stages must have at least one stage; got none"),
    (
        {"clients": [{**A, **HALF}, {**B, "rate_fraction": 0.3}], "request_rate": 1.0},
        r"workload\.clients must have rate_fractions that add up to 1; got 0\.8",
    ),
    (
        {"clients": [{**A, **HALF}, {**B, **HALF}]},
        r"workload must have exactly one of request_rate and stages .*got neither",
    ),
    (
        {"clients": [{**A, **HALF}, {**B, **HALF}], "request_rate": 1.0, "stages": STAGES},
        r"workload must have exactly one of request_rate and stages .*got both",
    ),
    (
        {"clients": [A, B], "request_rate": 1.0},
        r"workload\.request_rate must not be set without a client that has a rate_fraction",
    ),
    (
        {"clients": [A, B], "stages": STAGES},
        r"workload\.stages must not be set without a client that has a rate_fraction",
    ),
    *[
        (
            {
                "clients": [{**A, **HALF}, B, {**C, **HALF, name: value}],
                "request_rate": 1.0,
            },
            AT_2 + rf"rate_fraction must not be set together with {AT_2}{name}",
        )
        for name, value in [("request_rate", 2.0), ("stages", STAGES), ("trace", "x.csv")]
    ],
    (
        {"clients": third(arrivals="closed_loop")},
        AT_2 + r"arrivals\.num_users must be set with closed_loop arrivals; got nothing",
    ),
    *[
        (
            {"clients": third(arrivals=LOOP, **{name: value})},
            AT_2 + rf"{name} must not be set with closed_loop arrivals, which have no rate",
        )
        for name, value in [
            ("request_rate", 2.0),
            ("stages", STAGES),
            ("rate_curve", [{"kind": "diurnal"}]),
        ]
    ],
    *[
        (
            {"clients": third(arrivals={**LOOP, name: value})},
            AT_2 + rf"arrivals\.{name} must not be set with closed_loop arrivals",
        )
        for name, value in [("burstiness", 2.0), ("cv", 2.0), ("normalize_span", True)]
    ],
    (
        {"clients": [{**A, **HALF}, B, {**C, **HALF, "arrivals": LOOP}], "request_rate": 1.0},
        AT_2 + r"request_rate must not be set with closed_loop arrivals",
    ),
    (
        {"clients": third(arrivals={"num_users": 4})},
        AT_2 + r"arrivals\.num_users must not be set with poisson arrivals",
    ),
    (
        {"clients": third(arrivals={"think_time_s": 4})},
        AT_2 + r"arrivals\.think_time_s must not be set with poisson arrivals",
    ),
    *[
        (
            {"clients": third(prompts=POOL, **{name: value})},
            AT_2 + rf"{name} must not be set with a pool of prompts \({AT_2}prompts\)",
        )
        for name, value in [
            ("preset", "chatbot"),
            ("prompt", 5),
            ("output", 5),
            ("prefix_tokens", 5),
            ("num_prefix_groups", 5),
            ("prefix_group", "g"),
            ("sessions", {"rounds": 2}),
        ]
    ],
    (
        {"clients": third(prompts=POOL), "prompt": 5},
        AT_2 + r"prompt must not be set with a pool of prompts",
    ),
    ({"clients": third(num_prefix_groups=2)}, AT_2 + r"num_prefix_groups must not be set without"),
    (
        {"clients": third(arrivals={"normalize_span": True})},
        AT_2 + r"arrivals\.normalize_span must be used with .*the span has no end",
    ),
    (
        {"clients": [{**A, "output": 5}, {**B, "output": 6}], "output": 7},
        r"workload\.output must not be set where each client has its own; got",
    ),
    ({"clients": [A, B], "stage_gap_s": 1.0}, r"stage_gap_s must be used with workload\.stages"),
    (
        {"clients": [{**A, **HALF}, {**B, **HALF}, C], "stages": STAGES, "stage_gap_s": 1.0},
        r"stage_gap_s must be used where all requests are drawn at the rates of "
        r"workload\.stages; got c with arrivals of its own",
    ),
    (
        {
            "clients": [{**A, "rate_fraction": 0.9}, {**B, "rate_fraction": 0.05},
                        {**C, "rate_fraction": 0.05, "start_s": 4.0}],
            "stages": STAGES, "stage_gap_s": 1.0,
        },
        AT_2 + r"start_s must not be set with workload\.stage_gap_s.*got 4 s",
    ),
    ({"clients": [A, B], "trace": "x.csv"}, r"workload\.trace must not be set with .*x\.csv"),
    *[
        (
            {"clients": third(**{name: value})},
            AT_2 + rf"{name} must not be set without a trace",
        )
        for name, value in [
            ("rate_scale", 2.0),
            ("trace_format", "azure"),
            ("skip_bad_rows", True),
            ("tokens_per_word", 1.3),
        ]
    ],
    ({"clients": third(sessions={"rounds": 0})}, AT_2 + r"sessions\.rounds\.mean must be"),
    ({"clients": third(timeout_s=1e-9)}, AT_2 + r"timeout_s must be >= 0\.000001 s"),
    ({"clients": third(prefix_group="\t")}, AT_2 + r"prefix_group must be printable text"),
    ({"clients": third(tenant="")}, AT_2 + r"tenant must be printable text; got ''"),
    ({"clients": third(request_rate=math.inf)}, AT_2 + r"num_requests must be set with .*inf"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "match"), CONFLICTS, ids=[m for _, m in CONFLICTS])
def test_a_conflict_is_one_line_that_names_the_setting(
    settings: dict[str, Any], match: str
) -> None:
    """Contradictions name the client by its place, the setting, and what was given."""
    with pytest.raises(ConfigError, match=match) as caught:
        make_workload(**settings)
    assert "\n" not in str(caught.value)


OF_A_TRACE: list[tuple[dict[str, Any], str]] = [
    ({"tokens_per_word": 2.0}, r"tokens_per_word must not be set for .*which holds lengths"),
    ({"num_requests": 3}, r"num_requests must be at most the 2 requests of .*got 3"),
    ({"start_s": 50.0}, r"start_s and duration_s must leave at least one request"),
    ({"arrivals": "poisson", "rate_scale": 2.0}, r"rate_scale must not be set when arrivals are"),
    ({"rate_scale": 2.0, "request_rate": 1.0}, r"rate_scale must not be set together with"),
    ({"rate_scale": 1e-18}, r"rate_scale must be large enough for the last arrival"),
    ({"duration_s": 1.0, "request_rate": 2.0}, r"request_rate must not be set when all requests"),
    ({"prompts": POOL}, r"prompts must not be set when a trace is replayed"),
    ({"preset": "chatbot"}, r"preset must not be set when a trace is replayed"),
    ({"sessions": {"rounds": 2}}, r"sessions must not be set when a trace is replayed"),
    ({"arrivals": LOOP, "stages": STAGES}, r"stages must not be set with closed_loop arrivals"),
]


@pytest.mark.parametrize(("settings", "match"), OF_A_TRACE, ids=[m for _, m in OF_A_TRACE])
def test_a_conflict_of_a_trace_names_the_client(
    tmp_path: Path, settings: dict[str, Any], match: str
) -> None:
    """What a client's trace cannot be asked for is refused under the client's own path."""
    path = write_trace(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,5,1\n4,6,1\n")
    with pytest.raises(ConfigError, match=AT_2 + match):
        make_workload(clients=third(trace=path, **settings))
