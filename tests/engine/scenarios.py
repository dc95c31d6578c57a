"""Random small loads and engines for property tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from blis_sim.latency.base import LatencyModel
from blis_sim.latency.blackbox import BlackboxModel
from blis_sim.workload.request import RequestSpec

from .builders import UnevenModel, make_blackbox, make_v1

MODELS: dict[str, LatencyModel] = {
    "constant": make_blackbox(10),
    "long steps": make_blackbox(1000, 1, 1, alpha=(7, 3, 11)),
    "blackbox": make_blackbox(70, 2.5, 3.5, alpha=(30, 1.5, 3)),
    "uneven": UnevenModel((0, 0, 2), (9, 1, 1)),
    "v1": make_v1(),
}


@dataclass
class Scenario:
    """A load with the engine and the latency model it runs on."""

    requests: list[RequestSpec]
    model: str
    engine: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.engine, "latency": self.latency}

    @property
    def latency(self) -> LatencyModel:
        return MODELS[self.model]

    @property
    def token_us(self) -> int:
        return self.latency.output_token_time()


@st.composite
def engines(draw: st.DrawFn) -> dict[str, Any]:
    """Return settings under which every request that is not dropped can be served."""
    block_size = draw(st.sampled_from([1, 2, 4, 16]))
    max_model_len = draw(st.integers(12, 60))
    max_num_seqs = draw(st.integers(1, 8))
    chunked = draw(st.sampled_from([True, True, True, False]))
    budget = draw(st.integers(max_num_seqs, 60))
    smallest_pool = -(-max_model_len // block_size)
    return {
        "block_size": block_size,
        "max_model_len": max_model_len,
        "max_num_seqs": max_num_seqs,
        "enable_chunked_prefill": chunked,
        "max_num_batched_tokens": budget if chunked else max(budget, max_model_len),
        "long_prefill_token_threshold": draw(st.sampled_from([0, 0, 3, 8])) if chunked else 0,
        "num_kv_blocks": draw(st.integers(smallest_pool, 3 * smallest_pool)),
        "enable_prefix_caching": draw(st.sampled_from([True, True, False])),
        "policy": draw(st.sampled_from(["fcfs", "fcfs", "priority", "sjf"])),
        "async_scheduling": draw(st.booleans()),
        "reserve_full_sequence": draw(st.sampled_from([False, False, True])),
    }


@st.composite
def loads(
    draw: st.DrawFn, *, longest: int = 40, step_us: int = 10, may_leave: bool = True
) -> list[RequestSpec]:
    """Return up to a dozen requests, often several in one step, often on its boundaries."""
    grid = draw(st.sampled_from([1, step_us]))
    spread = draw(st.sampled_from([0, 2, 15, 60]))
    requests, arrival_us = [], draw(st.sampled_from([0, 0, 999_950]))
    for number in range(draw(st.integers(1, 12))):
        arrival_us += grid * draw(st.integers(0, spread))
        prompt_tokens = draw(st.integers(1, longest))
        group = draw(st.sampled_from([None, None, "a", "b"]))
        leaves = draw(st.sampled_from([None, None, "timeout_us", "abort_us"]))
        more: dict[str, Any] = {}
        if may_leave and leaves is not None:
            more[leaves] = grid * draw(st.integers(1, 150))
        requests.append(
            RequestSpec(
                number,
                arrival_us,
                prompt_tokens,
                draw(st.integers(0, 40)),
                max_output_tokens=draw(st.sampled_from([None, None, None, 0, 1, 9])),
                prefix_group=group,
                prefix_tokens=min(prompt_tokens, draw(st.integers(0, 40))) if group else 0,
                session_id=draw(st.sampled_from([None, None, None, "s", "t"])),
                priority=draw(st.integers(0, 2)),
                **more,
            )
        )
    return requests


@st.composite
def scenarios(draw: st.DrawFn, *, may_leave: bool = True) -> Scenario:
    """Return a load, an engine and a latency model."""
    engine = draw(engines())
    model = draw(st.sampled_from(sorted(MODELS)))
    step_us = 1000 if model == "long steps" else 10
    longest = draw(st.sampled_from([6, engine["max_model_len"] + 2]))
    requests = draw(loads(longest=longest, step_us=step_us, may_leave=may_leave))
    return Scenario(requests, model, engine)


def wrapped(model: LatencyModel, *, on_step: Any) -> LatencyModel:
    """Return the model, calling ``on_step(duration)`` with every step the engine starts.

    It has no shortcut, so that the engine asks for each step.
    """

    class Watched(BlackboxModel):
        def __getattribute__(self, name: str) -> Any:
            if name == "step_time":
                return step_time
            return getattr(model, name)

    def step_time(batch: Any) -> int:
        duration_us = model.step_time(batch)
        on_step(duration_us)
        return duration_us

    return Watched((0, 0, 0), (0, 0, 0))
