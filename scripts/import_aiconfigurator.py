"""Write bench_data from the measured kernel tables in the wheel aiconfigurator-core 0.12.0.

    python scripts/import_aiconfigurator.py --download --out bench_data
    python scripts/import_aiconfigurator.py --wheel aiconfigurator_core-0.12.0-...whl --gpu H100

The tables are Apache-2.0; bench_data/README.md says what is taken and how. Needs pyarrow
(pip install "blis-sim[parquet]"). The same wheel gives the same files.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from bench_import.attention import import_decode, import_mla, import_prefill
from bench_import.context import Context, TableReport
from bench_import.moe import import_moe
from bench_import.needs import TENSOR_PARALLEL, bundled_needs
from bench_import.note import report_row, write_note
from bench_import.tables import import_all_reduce, import_gemm
from bench_import.thin import Limits
from bench_import.wheel import Wheel, download

from blis_sim.catalog.gpus import load_gpu
from blis_sim.errors import BlisError, ConfigError, unknown_name

# GPU: folder in the wheel and MB of L2 cache (vendors' architecture papers).
SYSTEMS = {
    "A100-80": ("a100_sxm", 40),
    "H100": ("h100_sxm", 50),
    "H200": ("h200_sxm", 50),
    "L40S": ("l40s", 96),
    "B200": ("b200_sxm", 126),
    "B300": ("b300_sxm", 126),
    "GB200": ("gb200", 126),
    "RTX-PRO-6000": ("rtx_pro_6000_server", 128),
}
TABLE_FOLDERS = (
    "gemm_bench", "mha_prefill", "mha_decode", "mla_prefill", "mla_decode", "allreduce", "moe",
)  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wheel", type=Path, help="the wheel, already downloaded")
    source.add_argument("--download", action="store_true", help="fetch the wheel with pip")
    parser.add_argument("--out", type=Path, default=Path("bench_data"))
    parser.add_argument("--gpu", nargs="+", default=list(SYSTEMS), help="default: all")
    return parser.parse_args()


def import_tables(context: Context) -> list[TableReport]:
    reports = [import_gemm(context, dtype) for dtype in ("bf16", "fp8", "fp8_block", "int4")]
    for kv_dtype in ("bf16", "fp8"):
        reports += [import_prefill(context, kv_dtype), import_decode(context, kv_dtype)]
        reports += [import_mla(context, kv_dtype, is_decode=late) for late in (False, True)]
    reports += [import_moe(context, dtype) for dtype in ("bf16", "fp8", "mxfp4")]
    reports += [import_all_reduce(context, tp) for tp in TENSOR_PARALLEL if tp > 1]
    return [report for report in reports if report is not None]


def import_gpu(context: Context) -> None:
    for name in TABLE_FOLDERS:
        shutil.rmtree(context.out / name, ignore_errors=True)
    found = context.first("gemm", "gemm_perf.parquet", ("vllm", "trtllm"))
    if found is None:
        raise ConfigError(
            f"--wheel must hold tables of {context.system}; got {context.wheel.path}"
        )
    device = found[0].describe("device")
    reports = import_tables(context)
    write_note(
        context.out / "SOURCE.md", context.gpu, device, context.wheel, context.limits, reports
    )
    size = sum(file.stat().st_size for file in context.out.rglob("*") if file.is_file())
    print(f"{context.gpu.name}: {size / 1e6:.2f} MB")
    for report in reports:
        name, *figures = report_row(report)
        print(f"  {name:42s} " + " ".join(f"{figure:>8s}" for figure in figures))


def run(wheel: Wheel, options: argparse.Namespace) -> None:
    needs = bundled_needs()
    names = {gpu.casefold(): gpu for gpu in SYSTEMS}
    for asked in options.gpu:
        gpu = names.get(asked.casefold())
        if gpu is None:
            raise ConfigError(unknown_name("--gpu", asked, SYSTEMS))
        system, l2_mb = SYSTEMS[gpu]
        import_gpu(
            Context(
                wheel=wheel,
                system=system,
                gpu=load_gpu(gpu),
                out=options.out / gpu.casefold(),
                needs=needs,
                limits=Limits(),
                l2_bytes=l2_mb * 1e6,
            )
        )


def main() -> int:
    options = arguments()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = download(Path(folder)) if options.download else options.wheel
            if not path.is_file():
                raise ConfigError(f"--wheel must be a file; got {path}; or use --download")
            run(Wheel(path), options)
    except BlisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
