"""``blis bench``: how fast the simulator is on this machine."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from blis_sim.cli.common import out
from blis_sim.errors import ConfigError

HELP = "Measure the simulator itself."
CLUSTER_HELP = "Measure a cluster: its cost per request beside that of one instance."
SWEEP_HELP = "Measure sweeps: what they cost beside the simulations, with one worker and two."
ENGINE_HELP = "Measure the engine: requests and tokens per second, cost in SimPy timeouts."

# Flags that both have.
_NumRequests = Annotated[int, typer.Option("--num-requests", help="Requests, more than 200.")]
_LatencyModel = Annotated[
    str, typer.Option("--latency-model", help="auto, blackbox, roofline-v1 or roofline-v2.")
]
_Repeat = Annotated[int, typer.Option("--repeat", help="Repetitions; the fastest counts.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def engine(  # noqa: PLR0913 (one parameter per flag)
    *,
    num_requests: _NumRequests = 20_000,
    request_rate: Annotated[
        float, typer.Option("--request-rate", "--rate", help="Poisson arrivals per second.")
    ] = 10.0,
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", help="Mean prompt length; standard deviation half.")
    ] = 512,
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", help="Mean answer length; standard deviation half.")
    ] = 512,
    model: Annotated[
        str, typer.Option("--model", help="Model name.")
    ] = "meta-llama/Llama-3.1-8B-Instruct",
    hardware: Annotated[str, typer.Option("--hardware", help="GPU name.")] = "H100",
    latency_model: _LatencyModel = "blackbox",
    repeat: _Repeat = 3,
    no_coalesce: Annotated[
        bool, typer.Option("--no-coalesce", help="One event per engine step.")
    ] = False,
    as_json: _AsJson = False,
) -> None:
    """Print a table, or JSON."""
    _check_counts(num_requests, repeat)

    from blis_sim.api import load_scenario
    from blis_sim.benchmark import bench_engine

    scenario = load_scenario(
        {
            "model": model,
            "hardware": hardware,
            "latency": {"model": latency_model},
            "coalesce": not no_coalesce,
            "workload": {
                "request_rate": request_rate,
                "num_requests": num_requests,
                "prompt": _lengths(prompt_tokens),
                "output": _lengths(output_tokens),
            },
        }
    )
    _print(bench_engine(scenario, repeat=repeat).as_dict(), as_json)


def cluster(
    *,
    num_requests: _NumRequests = 100_000,
    num_instances: Annotated[
        int, typer.Option("--num-instances", help="Instances, more than 1.")
    ] = 16,
    request_rate: Annotated[
        float, typer.Option("--request-rate", "--rate", help="Arrivals per second and instance.")
    ] = 10.0,
    routing_policy: Annotated[
        str, typer.Option("--routing-policy", help="Any policy of 'blis run'.")
    ] = "weighted",
    latency_model: _LatencyModel = "auto",
    repeat: _Repeat = 3,
    as_json: _AsJson = False,
) -> None:
    """Print a table, or JSON."""
    _check_counts(num_requests, repeat)
    if num_instances < 2:
        raise ConfigError(f"--num-instances must be at least 2; got {num_instances}")

    from blis_sim.api import load_scenario
    from blis_sim.benchmark import bench_cluster

    workload = {"num_requests": num_requests, "prompt": _lengths(512), "output": _lengths(512)}
    latency = {"model": latency_model}
    single, several = (
        load_scenario(
            {
                "latency": latency,
                "workload": workload | {"request_rate": request_rate * count},
                "cluster": {"num_instances": count, "routing": {"policy": routing_policy}},
            }
        )
        for count in (1, num_instances)
    )
    _print(bench_cluster(single, several, repeat=repeat).as_dict(), as_json)


def sweep(
    *,
    num_points: Annotated[int, typer.Option("--num-points", help="Points, at least 4.")] = 60,
    num_requests: Annotated[
        int, typer.Option("--num-requests", help="Requests of each point.")
    ] = 1000,
    num_resumed: Annotated[
        int, typer.Option("--num-resumed", help="Points of the study that is run once more.")
    ] = 1000,
    latency_model: _LatencyModel = "auto",
    repeat: Annotated[int, typer.Option("--repeat", help="Repetitions; medians count.")] = 3,
    as_json: _AsJson = False,
) -> None:
    """Print a table, or JSON."""
    least = {"--num-points": (num_points, 4), "--num-requests": (num_requests, 1)}
    least |= {"--num-resumed": (num_resumed, 1), "--repeat": (repeat, 1)}
    for flag, (value, minimum) in least.items():
        if value < minimum:
            raise ConfigError(f"{flag} must be at least {minimum}; got {value}")

    from blis_sim.api import load_scenario
    from blis_sim.benchmark import bench_sweep

    scenario = load_scenario(
        {
            "latency": {"model": latency_model},
            "workload": {"request_rate": 10.0, "num_requests": num_requests},
        }
    )
    measured = bench_sweep(scenario, num_points=num_points, num_resumed=num_resumed, repeat=repeat)
    _print(measured.as_dict(), as_json)


def _check_counts(num_requests: int, repeat: int) -> None:
    if num_requests <= 200:
        raise ConfigError(f"--num-requests must be more than 200; got {num_requests}")
    if repeat < 1:
        raise ConfigError(f"--repeat must be at least 1; got {repeat}")


def _print(measured: dict[str, Any], as_json: bool) -> None:
    if as_json:
        out(json.dumps(measured, indent=2))
        return
    out("\n".join(f"{name:<28}{_shown(value):>16}" for name, value in measured.items()))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 1 else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _lengths(mean: int) -> dict[str, float]:
    return {"mean": mean, "stdev": mean / 2, "min": 2, "max": max(7000, 2 * mean)}
