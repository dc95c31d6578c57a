"""Roofline v2: faster GPUs are faster, and so are more of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from blis_sim.latency.base import Batch, PrefillChunk

from .roofline_v2_built import real_model

GPUS = ("H200", "H100", "A100-80", "L40S")
MEASURED = ("A100-80", "H100", "H200", "L40S", "B200", "GB200", "B300", "RTX-PRO-6000")
DENSE = (
    ("Llama-3.1-8B-Instruct", 1),
    ("Qwen3-14B", 1),
    ("Qwen2.5-7B-Instruct", 1),
    ("Mistral-Nemo-Instruct-2407", 1),
    ("Llama-2-7b-hf", 1),
    ("Llama-3.1-70B-Instruct", 4),
)
BIG = (
    "Llama-3.1-70B-Instruct",
    "Llama-3.1-405B-Instruct",
    "Qwen3-32B",
    "CodeLlama-34b-Instruct-hf",
    "Mixtral-8x22B-v0.1",
    "DeepSeek-V3",
)
SHORTEST, LONGEST = 1024, 32_768


@pytest.mark.parametrize("has_host", [True, False])
@pytest.mark.parametrize(("name", "tp"), DENSE)
def test_order_of_gpus_on_decode(name: str, tp: int, *, has_host: bool) -> None:
    """H200 >= H100 >= A100 >= L40S, batch 1 to 256, context 1k to 32k, dense bf16, 2 %."""
    models = [real_model(name, gpu, tp, has_host=has_host) for gpu in GPUS]
    for batch in (*range(1, 33), *range(40, 129, 8), *range(144, 257, 16)):
        first = Batch(batch, batch * SHORTEST)
        runs = [model.decode_run(first, LONGEST - SHORTEST)[::128] for model in models]
        for (faster, slower), (gpu, than) in zip(pairwise(runs), pairwise(GPUS), strict=True):
            worst = float(np.max(faster / slower))
            assert worst <= 1.02, f"{gpu} slower than {than} at batch {batch}: {worst:.3f}"


@pytest.mark.parametrize("gpu", MEASURED)
@pytest.mark.parametrize("name", BIG)
def test_two_gpus_are_faster_than_one(name: str, gpu: str) -> None:
    """A big model runs every step faster on two GPUs than on one, but not twice as fast."""
    one, two = real_model(name, gpu, 1), real_model(name, gpu, 2)
    prompts = [PrefillChunk(0, 512)]
    batches = [Batch(n, n * s) for n in (1, 4, 16, 64, 256) for s in (100, 1000, 8000, 32_000)]
    batches += [
        Batch(0, 0, [PrefillChunk(s, n)]) for n in (1, 64, 2048, 8192) for s in (0, 16_000)
    ]
    batches += [Batch(32, 32_000, prompts), Batch(200, 400_000, prompts * 4)]
    ratios = [two.step_time(batch) / one.step_time(batch) for batch in batches]
    assert max(ratios) < 1
    # Smaller kernels are less efficient; measurements of other shapes may differ by a little.
    assert min(ratios) > 0.4
