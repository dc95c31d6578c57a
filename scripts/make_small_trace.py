"""Make workloads/chat_small.csv, the small synthetic chat trace that is shipped.

The same seed gives the same file:

    python scripts/make_small_trace.py --out workloads/chat_small.csv

What it draws (figures chosen to look like a chat service, not measured anywhere):

- 1,000 requests, Poisson arrivals at 8 requests/s, whole microseconds;
- own prompt text lognormal with median 200 tokens and sigma 1.0, within 8..4,000;
- answers lognormal with median 180 tokens and sigma 0.8, within 1..1,500;
- 80 % of the requests carry one of four system prompts in front of their own text, in shares
  40:20:12:8; the prompts are 512, 384, 768 and 1,024 tokens long.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import numpy as np

from blis_sim.rng import named_stream

NUM_REQUESTS = 1000
RATE_PER_S = 8.0
SEED = 2024
# name, tokens, share of all requests
SYSTEM_PROMPTS = (
    ("assistant", 512, 0.40),
    ("support", 384, 0.20),
    ("coder", 768, 0.12),
    ("writer", 1024, 0.08),
)


def lognormal_tokens(purpose: str, median: float, sigma: float, low: int, high: int) -> list[int]:
    rng = named_stream(SEED, "chat_small", purpose)
    tokens = np.rint(rng.lognormal(math.log(median), sigma, NUM_REQUESTS))
    return [int(t) for t in np.clip(tokens, low, high)]


def rows() -> list[tuple[object, ...]]:
    gaps_s = named_stream(SEED, "chat_small", "gaps").exponential(1 / RATE_PER_S, NUM_REQUESTS)
    arrival_us = [int(t) for t in np.rint(np.cumsum(gaps_s) * 1e6)]
    own = lognormal_tokens("prompt", median=200, sigma=1.0, low=8, high=4000)
    answer = lognormal_tokens("output", median=180, sigma=0.8, low=1, high=1500)
    shares = [share for _, _, share in SYSTEM_PROMPTS]
    edges = np.cumsum(shares)
    draws = named_stream(SEED, "chat_small", "system_prompt").random(NUM_REQUESTS)
    table: list[tuple[object, ...]] = []
    for i, kind in enumerate(np.searchsorted(edges, draws, side="right")):
        if kind < len(SYSTEM_PROMPTS):
            name, prefix, _ = SYSTEM_PROMPTS[kind]
            table.append((arrival_us[i], prefix + own[i], answer[i], name, prefix))
        else:
            table.append((arrival_us[i], own[i], answer[i], "", ""))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the small synthetic chat trace.")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    path = parser.parse_args().out
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ("arrival_us", "prompt_tokens", "output_tokens", "prefix_group", "prefix_tokens")
        )
        writer.writerows(rows())


if __name__ == "__main__":
    main()
