"""Find the highest request rate at which a deployment meets its latency limits.

Replays the bundled trace at different rates and halves the interval between the last rate that
was good and the first that was not:

    python examples/highest_rate.py
"""

from __future__ import annotations

from blis_sim import load_scenario, simulate

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
TRACE = "workloads/chat_small.csv"
LATENCY_MODEL = "roofline-v1"
MAX_P99_TTFT_MS = 300.0
MAX_P99_TPOT_MS = 30.0


def meets_limits(hardware: str, rate_per_s: float, num_requests: int) -> bool:
    """Simulate one rate and compare the slowest percent with the limits."""
    scenario = load_scenario(
        {
            "model": MODEL,
            "hardware": hardware,
            "latency": {"model": LATENCY_MODEL},
            "workload": {
                "trace": TRACE,
                "request_rate": rate_per_s,
                "num_requests": num_requests,
            },
        }
    )
    summary = simulate(scenario).summary
    return bool(
        summary["p99_ttft_ms"] <= MAX_P99_TTFT_MS and summary["p99_tpot_ms"] <= MAX_P99_TPOT_MS
    )


def highest_rate(
    hardware: str, *, num_requests: int = 1000, max_per_s: float = 1024.0, precision: float = 0.02
) -> float:
    """Return the highest good rate in requests/s, to a relative precision; 0 = none is good.

    Assumes that a rate above one that is too high is too high as well.
    """
    good, bad = 0.0, 1.0
    while meets_limits(hardware, bad, num_requests):
        good, bad = bad, 2 * bad
        if bad > max_per_s:
            return good
    while good and bad - good > precision * good:
        middle = (good + bad) / 2
        if meets_limits(hardware, middle, num_requests):
            good = middle
        else:
            bad = middle
    return good


def main() -> None:
    """Print the highest rate of some GPUs."""
    print(f"p99 TTFT <= {MAX_P99_TTFT_MS:g} ms and p99 TPOT <= {MAX_P99_TPOT_MS:g} ms")
    for hardware in ("L40S", "A100-80", "H100", "H200"):
        rate_per_s = highest_rate(hardware)
        found = f"{rate_per_s:5.1f} requests/s" if rate_per_s else "not even at 1 request/s"
        print(f"{hardware:8} {found}")


if __name__ == "__main__":
    main()
