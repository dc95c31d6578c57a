from __future__ import annotations

import json
from typing import Any

import pytest

from blis_sim.latency.base import PrefillChunk
from blis_sim.report.step_breakdown import DecodeSet, StepBreakdown, break_down
from blis_sim.report.step_table import StepContext, render_step, step_json
from tests.report.test_step_breakdown import make_model

PREFILLS = [PrefillChunk(0, 512), PrefillChunk(0, 512), PrefillChunk(100, 20)]
DECODES = [DecodeSet(8, 1000), DecodeSet(2, 0)]


def make_step(tp: int = 2) -> tuple[StepBreakdown, StepContext]:
    context = StepContext(
        model="some/model",
        gpu="H100",
        tensor_parallel_size=tp,
        dtype="bf16",
        kv_cache_dtype="fp8",
        quantization="int4",
        prefills=PREFILLS,
        decodes=DECODES,
        source="bench_data",
        notices=["mind " + "this " * 40],
    )
    return break_down(make_model(tp=tp), PREFILLS, DECODES), context


def numbers(row: str) -> list[float]:
    return [float(word.replace(",", "")) for word in row.split() if word[0].isdigit()]


def as_json(tp: int = 2) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(step_json(*make_step(tp)))
    return document


def test_groups_add_up_in_the_table() -> None:
    """The subtotals' times give that of the step, their shares 100 %."""
    step, context = make_step()
    rows = render_step(step, context).splitlines()
    sums = [
        numbers(row)
        for row in rows
        if row.split()[0] in {"GEMM", "attention", "elementwise", "communication"}
        and not row.startswith(" ")
    ]
    (host,) = (numbers(row) for row in rows if row.startswith("host "))
    (total,) = (numbers(row) for row in rows if row.startswith("step  "))
    assert len(sums) == 4
    assert sum(each[0] for each in sums) + host[3] == pytest.approx(total[0], abs=0.3)
    assert sum(each[1] for each in sums) + host[4] == pytest.approx(100, abs=0.3)
    assert f"step time {step.step_time_us:,} us" in render_step(step, context)


def test_the_title_tells_what_was_asked() -> None:
    """Formats, chunks and decodes; long notices are wrapped."""
    text = render_step(*make_step())
    assert "some/model on H100, TP 2 (bf16, weights int4, KV cache fp8)" in text
    assert "prefill: 2 x 512 new tokens on 0 in the cache, 1 x 20 new tokens on 100" in text
    assert "decode: 8 x context 1,000, 2 x context 0" in text
    notice = text[text.index("note: mind") :].splitlines()
    assert len(notice) > 1
    assert max(map(len, notice)) <= 120


def test_json_adds_up() -> None:
    """Lines give their groups, groups the total, the total with the rounding the step."""
    document = as_json()
    for group, total in document["groups"].items():
        lines = [line for line in document["lines"] if line["group"] == group]
        assert sum(line["time_us"] for line in lines) == pytest.approx(total["time_us"])
    groups = document["groups"].values()
    assert sum(group["time_us"] for group in groups) == pytest.approx(document["total"]["time_us"])
    assert document["total"]["time_us"] + document["rounding_us"] == pytest.approx(
        document["step_time_us"]
    )
    assert document["num_tokens"] == 1024 + 20 + 10
    assert document["prefills"][0] == {"context_tokens": 0, "new_tokens": 512, "num_requests": 2}


def test_json_has_null_where_there_is_nothing_to_say() -> None:
    """Messages have no share of the memory bandwidth, the host has no work at all."""
    lines = {line["name"]: line for line in as_json()["lines"]}
    assert lines["allreduce"]["mbu"] is None
    assert lines["allreduce"]["bytes"] > 0
    assert lines["host"]["flops"] is lines["host"]["bytes"] is lines["host"]["mfu"] is None
    assert 0 < lines["qkv"]["mfu"] <= 1
    assert lines["qkv"]["evidence"]["measured_on"] == "H100"
