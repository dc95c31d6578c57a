"""Agreement with reference results to the microsecond, through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.cli.main import main
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.roofline_v1 import RooflineV1Model, V1Shape

CONFORMANCE = Path(__file__).resolve().parents[2] / "shared" / "conformance"

needs_conformance = pytest.mark.skipif(
    not CONFORMANCE.is_dir(), reason=f"the reference results are not there: {CONFORMANCE}"
)

FLAG_OF_SETTING = {
    "latency_model": "--latency-model",
    "max_num_seqs": "--max-num-running-reqs",
    "max_num_batched_tokens": "--max-num-scheduled-tokens",
    "long_prefill_token_threshold": "--long-prefill-token-threshold",
    "num_kv_blocks": "--total-kv-blocks",
    "block_size": "--block-size-in-tokens",
    "hardware": "--hardware",
    "tp": "--tp",
    "model_config": "--model",
    "num_instances": "--num-instances",
    "routing_policy": "--routing-policy",
}


def cases() -> list[str]:
    return sorted(path.parent.name for path in CONFORMANCE.glob("*/case.yaml"))


def flags(settings: dict[str, Any]) -> list[str]:
    arguments = []
    for name, value in settings.items():
        if name == "prefix_caching":
            arguments.append(f"--{'' if value else 'no-'}enable-prefix-caching")
        elif name in {"alpha", "beta"}:
            arguments += [f"--{name}-coeffs", ",".join(map(str, value))]
        else:
            arguments += [FLAG_OF_SETTING[name], str(value)]
    return arguments


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def simulate(trace: Path, folder: Path, arguments: list[str]) -> list[tuple[int, int]]:
    """Return (TTFT, E2E) of every request in us, in the order of the trace."""
    out = folder / "requests.csv"
    command = ["run", "--trace", str(trace), "--requests-out", str(out), "--quiet", *arguments]
    assert main(command) == 0
    return [
        (
            int(row["first_token_us"]) - int(row["arrival_us"]),
            int(row["last_token_us"]) - int(row["arrival_us"]),
        )
        for row in read_rows(out)
    ]


@needs_conformance
def test_all_cases_are_there() -> None:
    """A folder without cases would pass silently."""
    assert len(cases()) >= 8


@needs_conformance
@pytest.mark.parametrize("case", cases())
def test_every_request_agrees(case: str, tmp_path: Path) -> None:
    """TTFT and E2E of every request equal the reference, of one engine and of a cluster."""
    folder = CONFORMANCE / case
    settings = yaml.safe_load((folder / "case.yaml").read_text())["settings"]
    trace = read_rows(folder / "trace.csv")
    expected = [
        (int(row["ttft_us"]), int(row["e2e_us"])) for row in read_rows(folder / "expected.csv")
    ]
    found = simulate(folder / "trace.csv", tmp_path, flags(settings))
    assert len(found) == len(expected) == len(trace)
    assert found == expected


@needs_conformance
def test_a_round_robin_cluster_is_its_instances_apart(tmp_path: Path) -> None:
    """Instance j of n serves the requests i with i mod n = j, each as if it stood alone."""
    folder = CONFORMANCE / "cl_round-robin"
    settings = yaml.safe_load((folder / "case.yaml").read_text())["settings"]
    trace = read_rows(folder / "trace.csv")
    num_instances = settings.pop("num_instances")
    settings.pop("routing_policy")
    together = simulate(
        folder / "trace.csv", tmp_path, [*flags(settings), "--num-instances", str(num_instances)]
    )
    for number in range(num_instances):
        part = write_rows(tmp_path / "trace.csv", trace[number::num_instances])
        assert together[number::num_instances] == simulate(part, tmp_path, flags(settings))


@needs_conformance
def test_every_roofline_v1_step_agrees() -> None:
    """Each of the reference's steps takes as long from the catalog's model and GPU."""
    reference = json.loads((CONFORMANCE / "roofline_v1_steps.json").read_text())
    batches = [make_batch(entries) for entries in reference["batches"]]
    num_steps = 0
    for result in reference["results"]:
        shape = V1Shape.from_spec(load_model(result["model"]))
        model = RooflineV1Model(shape, load_gpu(result["gpu"]).roofline_v1, result["tp"])
        assert [model.step_time(batch) for batch in batches] == result["step_us"], result
        num_steps += len(batches)
    assert num_steps == 1056


def make_batch(entries: list[tuple[int, int, int, int]]) -> Batch:
    """Return the batch of [progress, prompt, output, new tokens] entries."""
    decodes = [progress for progress, prompt, _, _ in entries if progress >= prompt]
    prefills = [PrefillChunk(done, new) for done, prompt, _, new in entries if done < prompt]
    return Batch(len(decodes), sum(decodes), prefills)


HAND_TRACE = """arrival_us,prompt_tokens,output_tokens
0,100,3
500,50,1
20000,200,2
"""


def test_three_requests_by_hand(tmp_path: Path) -> None:
    """A blackbox run small enough for paper.

    alpha = (100, 1, 10) us: a request enters the queue 100 + prompt us after its arrival, and
    its k-th token is seen 10 k us after the engine has it. beta = (1000, 10, 100) us.

    ::

        request  arrives  enters  frontend 100 + 1 * prompt
        A              0     200
        B            500     650
        C          20000   20300

        step starts   ends  work                      1000 + 10 * prefill + 100 * decodes
        1       200   2200  A: 100 prompt tokens      1000 + 1000         = 2000
        2      2200   3800  A: 2nd token, B: 50       1000 +  500 + 100   = 1600
        3      3800   4900  A: 3rd token              1000 +        100   = 1100
        4     20300  23300  C: 200 prompt tokens      1000 + 2000         = 3000
        5     23300  24400  C: 2nd token              1000 +        100   = 1100

        A: first 2200 + 10 = 2210, last 4900 + 30 = 4930
        B: one token: 3800 + 10 = 3810
        C: first 23300 + 10 = 23310, last 24400 + 20 = 24420
    """
    trace = tmp_path / "trace.csv"
    trace.write_text(HAND_TRACE)
    coefficients = ["--alpha-coeffs", "100,1,10", "--beta-coeffs", "1000,10,100"]
    assert simulate(trace, tmp_path, coefficients) == [
        (2210, 4930),
        (3810 - 500, 3810 - 500),
        (23310 - 20000, 24420 - 20000),
    ]
