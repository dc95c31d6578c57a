"""Measure kernels on the GPU at hand and write them as tables like those in bench_data.

    python scripts/collect_bench.py --out measured --dry-run --gpu H200
    python scripts/collect_bench.py --out measured --quick --max-minutes 20
    python scripts/collect_bench.py --out measured --resume --models Qwen/Qwen3-14B --tp 1,2
    python scripts/collect_bench.py --out measured --compare bench_data --compare-only
    torchrun --nproc-per-node 4 scripts/collect_bench.py --out measured   # all-reduce

Needs this package and PyTorch built for the GPU; takes FlashAttention where it is installed.
Order: copy, decode attention, prefill attention, GEMM. Every point: buffers that rotate, so that
weights and KV cache come from memory; a CUDA graph of many calls, so that launches by the host
do not count; CUDA events; the median. An interrupt loses at most the last half minute, and
--resume goes on. Use the tables with: blis run --bench-data-path measured
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench_collect import grids, options, shapes, timing
from bench_collect.compare import compare, report
from bench_collect.memory import CACHE_FACTOR, Memory
from bench_collect.note import (
    NoteFile,
    SessionNote,
    check_folder,
    session_lines,
    started_lines,
)
from bench_collect.plan_text import plan_lines
from bench_collect.session import Clock, Session, TableResult
from bench_collect.torch_backend import Device, open_device
from import_aiconfigurator import SYSTEMS

from blis_sim.catalog.gpus import GpuSpec, canonical_gpu_name, list_gpus, load_gpu
from blis_sim.errors import BlisError, ConfigError
from blis_sim.units import GIB

_DEFAULT_L2_MB = 128
INTERRUPTED = 130


def chosen_gpu(name: str | None, device: str | None, out: Path) -> GpuSpec:
    """Return the GPU: as named, else the device's, else the only one in ``out``."""
    if name is not None:
        gpu = load_gpu(name)
        measured_on = None if device is None else canonical_gpu_name(device)
        if measured_on not in {None, gpu.name}:
            raise ConfigError(
                f"--gpu must be the GPU it runs on, {measured_on} ({device}); got {name}"
            )
        return gpu
    if device is not None:
        found = canonical_gpu_name(device)
        if found is None:
            raise ConfigError(
                f"--gpu must name the GPU in the catalog that {device!r} is; got none; "
                "'blis gpus' lists them, and configs/gpus/gpus.yaml can be given others"
            )
        return load_gpu(found)
    there = [g for g in list_gpus() if (out / g.name.casefold()).is_dir()]
    if len(there) != 1:
        raise ConfigError("--gpu must name a GPU of 'blis gpus', as there is no device; got none")
    return there[0]


def chosen_shapes(given: argparse.Namespace) -> shapes.Shapes:
    if given.shapes is None:
        return shapes.shapes_of_models(given.models, options.degrees(given.tp))
    found = shapes.shapes_from_text(given.shapes)
    if given.models is not None:
        more = shapes.shapes_of_models(given.models, options.degrees(given.tp))
        found.gemm.update(more.gemm)
        found.quantised.update(more.quantised)
        found.heads.update(more.heads)
        found.not_measured.update(more.not_measured)
    return found


def make_plan(
    given: argparse.Namespace, wanted: shapes.Shapes, dtypes: Sequence[str]
) -> list[grids.TablePlan]:
    grid = grids.QUICK if given.quick else grids.FULL
    operations = options.names("--ops", given.ops, grids.OPERATIONS)
    plans = grids.plan_tables(wanted, operations, dtypes, grid)
    if not plans:
        raise ConfigError(
            f"--ops, --dtypes and --shapes must leave something to measure; got {given.ops} in "
            f"{', '.join(dtypes)}; copy and attention need a 16-bit type, GEMMs k x n shapes"
        )
    return plans


def dry_run(given: argparse.Namespace) -> None:
    """Print the plan for a GPU that need not be here."""
    gpu = chosen_gpu(given.gpu, None, given.out)
    # The catalog tells it in words alone.
    half = "fp16" if "no bf16" in gpu.notes else "bf16"
    dtypes = [half, "fp8"] if gpu.fp8_tflops_dense else [half]
    if given.dtypes is not None:
        dtypes = options.names("--dtypes", given.dtypes, options.DTYPES)
    if gpu.memory_gib is None:
        raise ConfigError(f"--gpu must be one whose memory is known; got {gpu.name}")
    l2_mb = SYSTEMS[gpu.name][1] if gpu.name in SYSTEMS else _DEFAULT_L2_MB
    memory = Memory(int(gpu.memory_gib * GIB), l2_mb * 10**6)
    wanted = chosen_shapes(given)
    folder = given.out / gpu.name.casefold() if given.resume else None
    print(f"{gpu.name}, L2 {l2_mb} MB, to {given.out / gpu.name.casefold()}")
    plans = make_plan(given, wanted, dtypes)
    for line in plan_lines(plans, gpu, memory, chosen_effort(given), folder):
        print(line)
    for name, kernels in wanted.not_measured.items():
        print(f"not measured here: {kernels} of {name}")


def chosen_effort(given: argparse.Namespace) -> timing.Effort:
    return timing.QUICK if given.quick else timing.THOROUGH


def kernel_names(device: Device) -> dict[str, str]:
    """Return what is called, per operation, for the note."""
    version = device.facts.torch_version
    return {
        "copy": "torch.Tensor.copy_",
        "decode": device.attention,
        "prefill": device.attention,
        "gemm": f"torch.mm (PyTorch {version})",
        "gemm fp8": "torch._scaled_mm, scales per tensor, with the quantisation of the input",
        "allreduce": f"torch.distributed.all_reduce (NCCL), {device.num_processes} processes",
    }


def session_note(
    device: Device, effort: timing.Effort, not_measured: dict[str, str]
) -> SessionNote:
    facts = device.facts
    major, minor = facts.capability
    return SessionNote(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        device=f"{facts.name}, compute capability {major}.{minor}, "
        f"{facts.total_bytes / GIB:.1f} GiB ({facts.free_bytes / GIB:.1f} free)",
        software=f"PyTorch {facts.torch_version}, CUDA {facts.cuda_version}",
        kernels=kernel_names(device),
        method=f"Median of up to {effort.repetitions} repetitions of about "
        f"{effort.repetition_us / 1e3:g} ms behind a sweep of the L2 cache; weights, KV cache "
        f"and copied data rotate over more than {CACHE_FACTOR} x L2 "
        f"({facts.l2_bytes / 1e6:.0f} MB) of other copies; calls of less than "
        f"{effort.capture_below_us / 1e3:g} ms in a CUDA graph.",
        before=device.state(),
        after="unknown",
        remarks=tuple(f"Not measured: {what} of {who}." for who, what in not_measured.items()),
    )


def measure(given: argparse.Namespace, device: Device) -> tuple[GpuSpec, bool]:
    """Measure, print what became of it; return the GPU and whether it was interrupted."""
    facts, effort = device.facts, chosen_effort(given)
    gpu = chosen_gpu(given.gpu, facts.name, given.out)
    folder = given.out / gpu.name.casefold()
    check_folder(folder, resume=given.resume)
    dtypes: Sequence[str] = device.dtypes
    if given.dtypes is not None:
        dtypes = options.names("--dtypes", given.dtypes, options.DTYPES)
    not_measured: dict[str, str] = {}
    if device.num_processes > 1:
        plans = [grids.plan_all_reduce(device.num_processes, dtypes[0])]
    else:
        wanted = chosen_shapes(given)
        plans, not_measured = make_plan(given, wanted, dtypes), wanted.not_measured
    session = Session(
        folder=folder,
        gpu=gpu,
        memory=facts.memory,
        effort=effort,
        clock=Clock(given.max_minutes),
        resume=given.resume,
        writes=device.rank == 0,
    )
    if session.writes:
        print(f"{facts.name} ({gpu.name}), to {folder}; attention: {device.attention}")
        for line in plan_lines(plans, gpu, facts.memory, effort, folder):
            print(line, flush=True)
    note = session_note(device, effort, not_measured)
    return gpu, run_session(session, device, plans, note)


def run_session(
    session: Session, device: Device, plans: Sequence[grids.TablePlan], note: SessionNote
) -> bool:
    """Measure and write the note, also after an interrupt or an error; return if interrupted."""
    interrupted = False
    file = NoteFile(session.folder, session.gpu)
    if session.writes:
        file.write(started_lines(note))
    try:
        session.run(device.backend, plans)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if session.writes:
            done = replace(note, after=device.state())
            has_new = any(result.num_measured for result in session.results)
            lines = session_lines(done, session.results, session.largest_needs())
            file.write(lines if has_new else [])
    if session.writes:
        print(summary(session.results, plans, interrupted=interrupted))
    return interrupted


def summary(
    results: Sequence[TableResult], plans: Sequence[grids.TablePlan], *, interrupted: bool
) -> str:
    reached = sum(len(result.plan.points) for result in results)
    left = sum(result.num_left for result in results)
    left += sum(len(plan.points) for plan in plans) - reached
    measured = sum(result.num_measured for result in results)
    large = sum(len(result.too_large) for result in results)
    failed = sum(len(result.failed) for result in results)
    text = f"{measured} points measured, {large} too large for the memory, {failed} failed"
    if not left:
        return text
    why = "interrupted" if interrupted else "stopped"
    return f"{text}, {left} not reached ({why}; --resume goes on)"


def run(given: argparse.Namespace) -> int:
    options.check(given)
    if given.dry_run:
        dry_run(given)
        return 0
    if given.compare_only:
        gpu, interrupted = chosen_gpu(given.gpu, None, given.out), False
    else:
        # A time limit of a batch system ends a run as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        gpu, interrupted = measure(given, open_device(given.attention))
    if given.compare is not None and not interrupted:
        print("\n".join(report(compare(given.out, given.compare, gpu))))
    return INTERRUPTED if interrupted else 0


def main(arguments: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    try:
        return run(options.parser(__doc__).parse_args(arguments))
    except BlisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
