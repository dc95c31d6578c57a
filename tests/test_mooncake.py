"""The Mooncake conversation trace: hits of block hashes, computed here from the ids alone.

The trace is not part of the repository; without it these tests skip.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blis_sim.api import simulate
from blis_sim.config.loading import load_scenario

TRACE = (
    Path(__file__).resolve().parents[2]
    / "shared"
    / "data"
    / "traces"
    / "mooncake_conversation.jsonl"
)


def ideal_hit_tokens(path: Path, block_size: int) -> tuple[int, int]:
    """Return (tokens hit, tokens asked) of a cache that keeps everything, in order of arrival."""
    known: dict[int, int] = {}  # id -> full blocks of its piece of 512 tokens
    hit = asked = 0
    for line in path.read_text().splitlines():
        row = json.loads(line)
        length = row["input_length"]
        blocks = 0
        ends = [min(512 * (k + 1), length) // block_size for k in range(len(row["hash_ids"]))]
        sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
        for number, size in zip(row["hash_ids"], sizes, strict=True):
            if number not in known:
                break
            blocks += min(known[number], size)
        hit += min(blocks, (length - 1) // block_size) * block_size
        asked += length
        known |= {n: max(s, known.get(n, 0)) for n, s in zip(row["hash_ids"], sizes, strict=True)}
    return hit, asked


@pytest.mark.skipif(not TRACE.exists(), reason="the shared traces are not here")
def test_hits_of_an_infinite_cache_are_those_of_the_ids() -> None:
    """With room for everything and whole prompts, the engine hits what the ids have in common."""
    result = simulate(
        load_scenario(
            {
                "model": "llama-3.1-70b",
                "latency": {"model": "roofline-v1"},  # hits do not depend on it
                "workload": {"trace": str(TRACE)},
                "engine": {
                    "tensor_parallel_size": 4,
                    "num_gpu_blocks_override": 12_000_000,
                    "max_num_batched_tokens": 100_000_000,
                    "max_num_seqs": 20_000,
                },
            }
        )
    )
    hit, asked = ideal_hit_tokens(TRACE, 16)
    frame = result.requests
    assert frame["cached_tokens"].sum() == hit
    assert frame["prompt_tokens"].sum() == asked
    assert result.summary["prefix_hit_rate"] == pytest.approx(hit / asked, rel=1e-12)
