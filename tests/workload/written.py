"""Streams of requests for the tests of the writers, and a walk through a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from blis_sim.config.workload import WorkloadSettings
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.stream import open_workload
from blis_sim.workload.writing.plan import plan_trace

MAX_TOKENS = 2**31 - 1
MAX_TIME_US = 10**15

labels = (
    st.text(
        st.sampled_from(",\"; '=%#é日") | st.characters(exclude_categories=("C", "Zl", "Zp")),
        min_size=1,
        max_size=6,
    )
    .map(str.strip)
    .filter(lambda label: label and label.isprintable())
)
hash_sizes = st.sampled_from([1, 16, 512, 1000])


def make_request(request_id: int = 0, arrival_us: int = 0, **fields: Any) -> RequestSpec:
    return RequestSpec(
        **{
            "request_id": request_id,
            "arrival_us": arrival_us,
            "prompt_tokens": 100,
            "output_tokens": 10,
            **fields,
        }
    )


def make_stream(*rows: dict[str, Any]) -> list[RequestSpec]:
    return [make_request(number, 1000 * number, **row) for number, row in enumerate(rows)]


@st.composite
def streams(
    draw: st.DrawFn, max_tokens: int = MAX_TOKENS, max_time_us: int = MAX_TIME_US
) -> list[RequestSpec]:
    """Draw a stream in which requests share prefixes, sessions, prompts and block hashes."""
    size = draw(hash_sizes)
    numbers: dict[tuple[int, ...], int] = {}
    first = draw(st.integers(0, 2**63 - 1000))
    arrivals = st.integers(0, 3) | st.integers(0, max_time_us)
    times = sorted(draw(st.lists(arrivals, min_size=1, max_size=8)))
    names = draw(st.lists(labels, min_size=2, max_size=2, unique=True))
    rows = []
    for request_id, arrival_us in enumerate(times):
        fields = draw(_facts(names))
        if draw(st.booleans()):
            path = draw(st.lists(st.integers(0, 1), min_size=1, max_size=4))
            fields["block_hashes"] = tuple(
                numbers.setdefault(tuple(path[: end + 1]), first + 7 * len(numbers))
                for end in range(len(path))
            )
            last = draw(st.integers(1, size))
            fields["prompt_tokens"] = (len(path) - 1) * size + last
        else:
            fields |= draw(_content(names, max_tokens))
        output_tokens = draw(st.integers(0, max_tokens))
        rows.append(
            make_request(request_id, arrival_us, **(fields | {"output_tokens": output_tokens}))
        )
    if any(row.block_hashes for row in rows):
        rows = [row._replace(hash_block_tokens=size) for row in rows]
    return rows


def _facts(names: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    times = st.none() | st.integers(1, MAX_TIME_US)
    return st.fixed_dictionaries(
        {},
        optional={
            "max_output_tokens": st.integers(0, MAX_TOKENS),
            "slo_class": st.sampled_from(names),
            "tenant": labels,
            "priority": st.integers(-(2**31), 2**31 - 1),
            "timeout_us": times,
            "abort_us": times | st.just(0),
        },
    )


@st.composite
def _content(draw: st.DrawFn, names: Sequence[str], max_tokens: int) -> dict[str, Any]:
    prompt_tokens = draw(st.integers(1, max_tokens))
    content: dict[str, Any] = {"prompt_tokens": prompt_tokens}
    if draw(st.booleans()):
        content["prefix_group"] = draw(st.sampled_from(names))
        content["prefix_tokens"] = draw(st.integers(1, prompt_tokens))
    if draw(st.booleans()):
        content["session_id"] = draw(st.sampled_from(names))
        content["round"] = draw(st.integers(0, MAX_TOKENS))
    elif draw(st.booleans()):
        content["prompt_id"] = draw(st.sampled_from(names))
    return content


def write(
    requests: Sequence[RequestSpec], path: Path, format_name: str | None = None
) -> list[str]:
    """Write a stream and return the losses."""
    plan = plan_trace(requests, path, format_name)
    plan.write()
    return plan.losses


def read(path: Path, format_name: str = "auto") -> list[RequestSpec]:
    return list(open_workload(WorkloadSettings(trace=path, trace_format=format_name), 42))
