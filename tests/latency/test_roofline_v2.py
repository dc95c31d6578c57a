"""Roofline v2: the contract, and the limits of the hardware on any deployment."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.catalog.model_spec import valid_tensor_parallel
from blis_sim.catalog.models import load_model
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.roofline_v2.model import RooflineV2Model

from .contract import (
    CONTEXTS,
    PREFILLS,
    Factory,
    LatencyContract,
    advanced,
    contract,
    make_batch,
)
from .roofline_v2_built import (
    bound_us,
    kernels_of,
    real_model,
    small_model,
    step_bound_us,
)

MODELS = (
    "Llama-3.1-8B-Instruct",
    "Llama-2-7b-hf",
    "Llama-3.1-70B-Instruct",
    "Qwen3-14B",
    "Qwen2.5-0.5B-Instruct",
    "gemma-2-9b-it",
    "gemma-3-1b-it",
    "Mistral-7B-Instruct-v0.1",
    "Mixtral-8x7B-Instruct-v0.1",
    "Qwen3-30B-A3B",
    "gpt-oss-20b",
    "DeepSeek-V2-Lite",
    "DeepSeek-V3",
    "Qwen2.5-7B-Instruct-FP8-dynamic",
    "Qwen2.5-7B-Instruct-quantized.w4a16",
    "Qwen2.5-7B-Instruct-quantized.w8a8",
)
"""Multi-head, grouped, multi-query and latent attention; windows; experts; fp8, int4, int8."""

GPUS = ("A100-80", "H100", "H200", "L40S", "B200", "RTX-PRO-6000", "T4", "L4", "H20", "MI300X")
"""Measured ones and, from T4 on, ones that borrow."""

CHUNKS = st.builds(
    PrefillChunk, st.just(0) | st.integers(0, 131_072), st.integers(1, 300) | st.integers(1, 8192)
)
COUNTS = st.integers(0, 12) | st.integers(0, 1024)
MEAN_CONTEXTS = st.integers(0, 300) | st.integers(0, 131_072)

many = settings(max_examples=150, deadline=None, derandomize=True)
some = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def deployments(draw: st.DrawFn) -> RooflineV2Model:
    name = draw(st.sampled_from(MODELS))
    degrees = [tp for tp in valid_tensor_parallel(load_model(name)) if tp in {1, 2, 4, 8}]
    return real_model(
        name, draw(st.sampled_from(GPUS)), draw(st.sampled_from(degrees)), has_host=False
    )


@st.composite
def steps(draw: st.DrawFn) -> Batch:
    num_decodes = draw(COUNTS)
    context = num_decodes * draw(MEAN_CONTEXTS)
    chunks = draw(st.lists(CHUNKS, min_size=0 if num_decodes else 1, max_size=4))
    return Batch(num_decodes, context, chunks)


class TestContract(LatencyContract):
    factories: ClassVar[dict[str, Factory]] = {
        "small": small_model,
        "small tp 2": lambda: small_model(2),
        "dense": lambda: real_model("Llama-3.1-8B-Instruct", "H100"),
        "borrowed, window": lambda: real_model("gemma-3-1b-it", "RTX-4090", 2),
        "experts": lambda: real_model("Mixtral-8x7B-Instruct-v0.1", "A100-80", 2),
        "latent": lambda: real_model("DeepSeek-V2-Lite", "H200", 4),
        "fp8": lambda: real_model("Qwen2.5-7B-Instruct-FP8-dynamic", "L40S", 1),
    }

    @contract
    @given(CONTEXTS, PREFILLS, CHUNKS, st.integers(0, 50_000))
    def test_more_requests_take_no_less_time(
        self, contexts: list[int], prefills: list[PrefillChunk], chunk: PrefillChunk, more: int
    ) -> None:
        """One more prefill; one more decode that is at least as long as the others on average.

        Decode attention is measured over batches of equal lengths, and the model knows the sum
        of the contexts only. Two requests that share a sum are measurably faster than one that
        has it alone, so a very short one beside a long one cannot always add time.
        """
        new = more + -(-sum(contexts) // max(1, len(contexts)))
        for model in self.models():
            before_us = model.step_time(make_batch(contexts, prefills))
            assert before_us <= model.step_time(make_batch(contexts, [*prefills, chunk]))
            assert before_us <= model.step_time(make_batch([*contexts, new], prefills))

    @contract
    @given(
        st.integers(1, 1024),
        st.integers(0, 131_072),
        st.integers(1, 5000),
        st.lists(st.integers(1, 4999), max_size=4),
    )
    def test_long_runs(
        self, num_decodes: int, context: int, num_steps: int, cuts: list[int]
    ) -> None:
        """Runs of large batches are the same cut anywhere, and are their steps one by one."""
        batch = Batch(num_decodes, num_decodes * context + num_decodes // 2)
        edges = [0, *sorted(cut for cut in set(cuts) if cut < num_steps), num_steps]
        for model in self.models():
            whole = model.decode_run(batch, num_steps)
            parts = [
                model.decode_run(advanced(batch, start), end - start)
                for start, end in pairwise(edges)
            ]
            np.testing.assert_array_equal(whole, np.concatenate(parts), strict=True)
            for step in {0, num_steps // 3, num_steps - 1, *edges[1:-1]}:
                assert model.step_time(advanced(batch, step)) == whole[step]
            assert np.all(np.diff(whole) >= 0)


@many
@given(deployments(), steps())
def test_no_step_is_faster_than_the_hardware(model: RooflineV2Model, batch: Batch) -> None:
    """Every kernel takes its FLOPs at peak, or its bytes at full bandwidth; so does a step."""
    assert model.step_time(batch) + 0.51 >= step_bound_us(model, batch) * (1 - 1e-9)


@some
@given(deployments(), steps())
def test_no_kernel_is_faster_than_the_hardware(model: RooflineV2Model, batch: Batch) -> None:
    """Nor is any kernel of the step by itself, and the timer knows the same bounds."""
    for kernel in kernels_of(model, batch):
        least_us = bound_us(kernel, model.timer.gpu)
        assert model.timer.time_us(kernel) >= least_us * (1 - 1e-9)
        assert model.timer.bound_us(kernel) == pytest.approx(least_us)


def grown(batch: Batch, more: int) -> Iterator[Batch]:
    """Yield steps with more work of each kind."""
    n, context, prefills = batch.num_decodes, batch.sum_decode_context, list(batch.prefills)
    mean = -(-context // max(1, n))
    yield Batch(n + 1, context + mean, prefills)
    yield Batch(n + more, context + more * mean, prefills)
    yield Batch(n, context, [*prefills, PrefillChunk(0, more)])
    if n:
        yield Batch(n, context + more, prefills)
    for at, chunk in enumerate(prefills):
        longer = [
            chunk._replace(new_tokens=chunk.new_tokens + more),
            chunk._replace(context_tokens=chunk.context_tokens + more),
        ]
        for other in longer:
            yield Batch(n, context, [*prefills[:at], other, *prefills[at + 1 :]])


@many
@given(deployments(), steps(), st.integers(1, 5) | st.integers(1, 3000))
def test_more_work_takes_no_less_time(model: RooflineV2Model, batch: Batch, more: int) -> None:
    """Monotone in the batch, in the context and in the tokens, on any deployment."""
    step_us = model.step_time(batch)
    for larger in grown(batch, more):
        assert step_us <= model.step_time(larger)


@some
@given(deployments(), st.integers(1, 300), st.integers(0, 40_000), st.integers(1, 2000))
def test_runs_are_steps_on_any_deployment(
    model: RooflineV2Model, num_decodes: int, context: int, num_steps: int
) -> None:
    """A run is its steps one by one, to the microsecond."""
    batch = Batch(num_decodes, num_decodes * context)
    run = model.decode_run(batch, num_steps)
    for step in (0, num_steps // 2, num_steps - 1):
        assert model.step_time(advanced(batch, step)) == run[step]
