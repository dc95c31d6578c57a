from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from blis_sim.config.lengths import LengthSettings
from blis_sim.errors import ConfigError

from .builders import make_requests, make_workload, write_trace

TRACE = "arrival_s,prompt_tokens,output_tokens\n0,10,1\n1,20,2\n3,30,3\n"

UNUSABLE_ON_A_TRACE: list[tuple[str, Any]] = [
    ("preset", "chatbot"),
    ("preset", "distribution"),
    ("prompt", LengthSettings(mean=5)),
    ("output", LengthSettings(mean=5)),
    ("prefix_tokens", 0),
    ("num_prefix_groups", 1),
]


@pytest.mark.parametrize(("name", "value"), UNUSABLE_ON_A_TRACE)
def test_settings_of_a_generated_load_are_refused_on_a_trace(
    tmp_path: Path, name: str, value: Any
) -> None:
    """A setting that was given and that a trace cannot use is an error, defaults included."""
    path = write_trace(tmp_path, TRACE)
    with pytest.raises(
        ConfigError, match=rf"workload\.{name} must not be set when a trace is replayed"
    ):
        make_workload(trace=path, **{name: value})


@pytest.mark.parametrize(("name", "value"), [("prompt", None), ("stages", None)])
def test_absent_values_do_not_count_as_given(tmp_path: Path, name: str, value: Any) -> None:
    """Null says that the setting is not used."""
    assert len(make_requests(trace=write_trace(tmp_path, TRACE), **{name: value})) == 3


@pytest.mark.parametrize(("name", "value"), [("rate_scale", 2.0), ("trace_format", "azure")])
def test_settings_of_a_trace_are_refused_without_one(name: str, value: Any) -> None:
    """A setting for traces without a trace is an error."""
    with pytest.raises(ConfigError, match=rf"workload\.{name} must not be set without a trace"):
        make_workload(**{name: value})


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": {"mean": 5, "min": 9, "max": 3}}, r"workload\.prompt\.min must be <= .*got 9"),
    ({"output": {"mean": 5, "min": 9, "max": 3}}, r"workload\.output\.min must be <= .*got 9"),
    ({"prompt": {"mean": 0, "min": 0}}, r"workload\.prompt\.min must be >= 1 token .*got 0"),
    ({"num_prefix_groups": 2}, r"num_prefix_groups must not be set without a shared prefix"),
    (
        {"num_prefix_groups": 2, "prefix_tokens": 0},
        r"num_prefix_groups must not be set without a shared prefix",
    ),
    (
        {"num_prefix_groups": 10**7, "prefix_tokens": 1},
        r"num_prefix_groups must be <= 1000000; got 10000000",
    ),
    ({"prefix_tokens": 2**31}, r"prefix_tokens must be <= 2147483647 tokens; got 2147483648"),
    (
        {"arrivals": {"burstiness": 2.0, "process": "poisson"}},
        r"arrivals\.burstiness must not be set with poisson arrivals .*got 2",
    ),
    (
        {"arrivals": {"burstiness": 2.0, "process": "constant"}},
        r"burstiness must not be set with constant",
    ),
    ({"arrivals": {"burstiness": 1e-9}}, r"arrivals\.burstiness must be >= 0\.001; got 1e-09"),
    (
        {"request_rate": math.inf, "arrivals": {"burstiness": 2.0}},
        r"arrivals\.burstiness must not be set when all requests arrive at once",
    ),
    (
        {"request_rate": math.inf, "arrivals": {"normalize_span": True}},
        r"arrivals\.normalize_span must not be set when all requests arrive at once",
    ),
    (
        {"request_rate": math.inf, "arrivals": "constant"},
        r"arrivals\.process must not be set when all requests arrive at once",
    ),
    ({"request_rate": 1e-9}, r"request_rate must be >= 1e-07 requests/s for 100 requests; got 1e"),
    ({"timeout_s": 1e-9}, r"timeout_s must be >= 0\.000001 s; got 1e-09 s"),
    ({"slo_class": " "}, r"slo_class must be printable text; got ' '"),
    ({"tenant": "a\nb"}, r"tenant must be printable text; got 'a\\nb'"),
]


@pytest.mark.parametrize(("settings", "match"), BAD_SETTINGS, ids=[m for _, m in BAD_SETTINGS])
def test_contradicting_settings_are_refused(settings: dict[str, Any], match: str) -> None:
    """One line that names the setting, the constraint and the value."""
    with pytest.raises(ConfigError, match=match) as caught:
        make_workload(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"request_rate": math.inf}, r"num_requests must be set with .*request_rate inf"),
        (
            {"arrivals": {"normalize_span": True}},
            r"normalize_span must be used with workload\.num_requests",
        ),
    ],
)
def test_settings_that_need_a_count_are_refused_without_one(
    settings: dict[str, Any], match: str
) -> None:
    """A load that ends at the horizon has no count, and some settings need one."""
    with pytest.raises(ConfigError, match=match):
        make_workload(horizon_us=1_000_000, **settings)


def test_burstiness_alone_selects_gamma() -> None:
    """Burstiness without arrivals means gamma arrivals, as in vllm bench serve."""
    alone = make_workload(arrivals={"burstiness": 0.5})
    assert "gamma (burstiness 0.5) arrivals" in alone.description
    assert list(alone) == make_requests(arrivals={"burstiness": 0.5, "process": "gamma"})
    assert list(alone) != make_requests()


def test_given_lengths_replace_those_of_the_preset() -> None:
    """Prompt or output settings win over the preset, each for itself."""
    requests = make_requests(preset="summarization", prompt=LengthSettings(mean=7))
    assert {r.prompt_tokens for r in requests} == {7}
    outputs = [r.output_tokens for r in requests]
    assert outputs == [r.output_tokens for r in make_requests(preset="summarization")]


def test_prefix_comes_on_top_of_the_drawn_prompt() -> None:
    """A prompt may be all prefix."""
    requests = make_requests(prefix_tokens=40, prompt={"mean": 0, "min": 0, "max": 0})
    assert {(r.prompt_tokens, r.prefix_tokens) for r in requests} == {(40, 40)}


def test_facts_of_a_generated_load() -> None:
    """The description names preset, count, arrivals and lengths; labels are listed."""
    workload = make_workload(preset="chatbot", slo_class="gold", tenant="acme", num_requests=1500)
    assert workload.description == (
        "chatbot: 1,500 requests, poisson arrivals at 1 requests/s; "
        "prompt normal 256/100 within 2..800 tokens, output normal 256/100 within 1..1024 tokens"
    )
    assert workload.slo_classes == ("gold",)
    assert workload.tenants == ("acme",)
    assert workload.notices == []
