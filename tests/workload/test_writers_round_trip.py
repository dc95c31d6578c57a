from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.workload.request import RequestSpec

from .written import MAX_TOKENS, make_request, read, streams, write

Projection = Callable[[RequestSpec], RequestSpec]


def lengths_only(spec: RequestSpec) -> RequestSpec:
    return RequestSpec(*spec[:4])


def trace_v2_fields(spec: RequestSpec) -> RequestSpec:
    return RequestSpec(
        *spec[:4],
        prefix_group=spec.prefix_group,
        prefix_tokens=spec.prefix_tokens,
        session_id=spec.session_id,
        round=spec.round,
        slo_class=spec.slo_class,
        tenant=spec.tenant,
        priority=max(spec.priority, 0),
        timeout_us=spec.timeout_us,
    )


def through_a_file(
    requests: list[RequestSpec], name: str, format_name: str | None = None
) -> list[RequestSpec]:
    """Write and read again, leaving it to the reader to recognise the format."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(requests, path, format_name)
        return read(path)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(requests=streams(), name=st.sampled_from(["t.csv", "t.csv.gz"]))
def test_own_csv_keeps_every_field(requests: list[RequestSpec], name: str) -> None:
    """Whatever a request may be, it comes back equal."""
    assert through_a_file(requests, name) == requests


@settings(max_examples=40, deadline=None, derandomize=True)
@given(requests=streams())
def test_own_parquet_keeps_every_field(requests: list[RequestSpec]) -> None:
    """Whatever a request may be, it comes back equal."""
    pytest.importorskip("pyarrow")
    assert through_a_file(requests, "t.parquet") == requests


@settings(max_examples=40, deadline=None, derandomize=True)
@given(requests=streams(), name=st.sampled_from(["t.yaml", "t.csv", "t.csv.gz"]))
def test_trace_v2_keeps_what_it_has(requests: list[RequestSpec], name: str) -> None:
    """All but limits, disconnects, prompt_id and block hashes; no priority below 0."""
    expected = [trace_v2_fields(spec) for spec in requests]
    assert through_a_file(requests, name, "tracev2") == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(requests=streams(max_time_us=10**15))
def test_azure_keeps_lengths_and_gaps(requests: list[RequestSpec]) -> None:
    """Times count from the first request, to the microsecond."""
    first_us = requests[0].arrival_us
    expected = [
        lengths_only(spec)._replace(arrival_us=spec.arrival_us - first_us) for spec in requests
    ]
    assert through_a_file(requests, "t.csv", "azure") == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(requests=streams(max_tokens=MAX_TOKENS // 2))
def test_burstgpt_keeps_answered_requests(requests: list[RequestSpec]) -> None:
    """Arrivals and lengths; what has no answer is a failure there and left out."""
    requests.append(make_request(len(requests), requests[-1].arrival_us))
    answered = [spec for spec in requests if spec.output_tokens]
    expected = [
        lengths_only(spec)._replace(request_id=number) for number, spec in enumerate(answered)
    ]
    assert through_a_file(requests, "t.csv", "burstgpt") == expected


@settings(max_examples=30, deadline=None, derandomize=True)
@given(requests=streams(max_tokens=300))
def test_blis_csv_keeps_arrivals_and_lengths(requests: list[RequestSpec]) -> None:
    """The lists have the lengths; readers here use no more of them."""
    expected = [lengths_only(spec) for spec in requests]
    assert through_a_file(requests, "t.csv", "blis") == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(requests=streams(max_tokens=3000))
def test_mooncake_keeps_lengths_and_hashes_of_512(requests: list[RequestSpec]) -> None:
    """Times to the microsecond; hashes of 512 tokens as they are, and some for every block."""
    again = through_a_file(requests, "t.jsonl")
    assert [lengths_only(spec) for spec in again] == [lengths_only(spec) for spec in requests]
    for before, after in zip(requests, again, strict=True):
        assert after.hash_block_tokens == 512
        assert len(after.block_hashes or ()) == -(-before.prompt_tokens // 512)
        if before.block_hashes and before.hash_block_tokens == 512:
            assert after.block_hashes == before.block_hashes
