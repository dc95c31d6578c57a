"""``blis roofline measure``: what this machine reaches, and what a model's layers reach on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blis_sim.cli.common import note, out, text_table
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.roofline.ceilings import Ceilings
    from blis_sim.roofline.machine_profile import MachineProfile, MeasuredRate
    from blis_sim.roofline.torch_model import ModelTimes
    from blis_sim.roofline.utilisation import Utilisation

HELP = "Measure this machine's bandwidth and peaks, and how much of them a model's layers reach."
_CACHES, _QUICK_CACHES = 8, 2
_LEAST_BYTES = 64 * 2**20


def measure(  # noqa: PLR0913 (one parameter per flag)
    *,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write a machine profile, YAML or JSON."),
    ] = None,
    machine: Annotated[
        Path | None,
        typer.Option(
            "--machine", metavar="FILE", help="Peaks of this profile; the machine is not measured."
        ),
    ] = None,
    operations: Annotated[
        Path | None,
        typer.Option(
            "--operations", metavar="FILE", help="CSV of name,bytes,seconds: shares of the peaks."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Time the matrices of this model at batch 1, as a decode."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu",
            metavar="cuda[:N]|cpu",
            help="Time prefill and decode of --model with PyTorch on this device.",
        ),
    ] = None,
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", help="With --gpu: prompt, and context of the decode.")
    ] = 512,
    batch: Annotated[int, typer.Option("--batch", help="With --gpu: requests at a time.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads; one per processor.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short runs: rough figures in some seconds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print tables, or JSON; notes go to stderr."""
    _check(out_file, machine, model, gpu, operations)
    if gpu is not None:
        assert model is not None
        _time_model(model, gpu, (prompt_tokens, batch), quick=quick, as_json=as_json)
        return
    document: dict[str, Any] = {}
    tables: list[str] = []
    if machine is None:
        profile = _measured(threads, out_file, quick=quick)
        ceilings = profile.ceilings()
        document["profile"] = profile.model_dump(mode="json")
        tables.append(_profile_text(profile))
    else:
        from blis_sim.catalog.locate import locate
        from blis_sim.roofline.machine_profile import read_profile

        ceilings = read_profile(locate(machine).path)
    found = [*_of_file(operations, ceilings), *_of_model(model, ceilings, threads, quick=quick)]
    if found:
        document["operations"] = [_operation_json(each) for each in found]
        tables.append(_utilisation_text(found, ceilings))
    out(json.dumps(document, indent=2) if as_json else "\n\n".join(tables))


def _check(
    out_file: Path | None,
    machine: Path | None,
    model: str | None,
    gpu: str | None,
    operations: Path | None,
) -> None:
    if gpu is not None and model is None:
        raise ConfigError("--gpu must be given with --model; got it alone")
    if gpu is not None and (out_file or machine or operations):
        raise ConfigError(
            "--gpu must be given without --out, --machine and --operations, which are of this "
            "machine's own memory"
        )
    if machine is not None and out_file is not None:
        raise ConfigError("--out must be given without --machine; nothing would be measured")
    if machine is not None and model is None and operations is None:
        raise ConfigError("--machine must be given with --operations or --model; got it alone")
    if out_file is not None:
        from blis_sim.atomic import check_output_path

        check_output_path(out_file, "--out")


def _measured(threads: int | None, out_file: Path | None, *, quick: bool) -> MachineProfile:
    from blis_sim.roofline.machine_profile import write_profile
    from blis_sim.roofline.measure_host import QUICK_PLAN, measure_host

    profile = measure_host(QUICK_PLAN if quick else None, threads)
    for text in (*profile.notes, *longer_runs(profile.rates)):
        note(text)
    if out_file is not None:
        write_profile(profile, out_file)
    return profile


def longer_runs(rates: Iterable[MeasuredRate]) -> Iterable[str]:
    """Yield what to say of rates whose longer run did not confirm the median."""
    for rate in rates:
        if rate.is_longer_run:
            change = 100 * (rate.median_s / rate.longer_run_s - 1)
            yield (
                f"{rate.name}: the longer run is {change:+.1f} % off the median of the runs, more "
                f"than their spread of {100 * rate.spread_frac:.1f} %: it is what is reported"
            )


def _profile_text(profile: MachineProfile) -> str:
    ceilings = profile.ceilings()
    rows = [
        (
            rate.name,
            "-" if rate.gb_per_s is None else f"{rate.gb_per_s:.4g}",
            "-" if rate.tflops is None else f"{1000 * rate.tflops:.4g}",
            f"{100 * rate.spread_frac:.1f} %",
            str(rate.runs),
            "longer run" if rate.is_longer_run else "median",
            str(rate.threads),
        )
        for rate in profile.rates
    ]
    header = ("measured", "GB/s", "GFLOP/s", "spread", "runs", "reported", "threads")
    first = ceilings.peaks[0]
    lines = [
        f"{profile.machine}: {profile.software}",
        f"arrays of {profile.array_bytes / 2**20:.0f} MiB, last-level cache of "
        f"{profile.cache_bytes / 2**20:.0f} MiB",
        text_table(header, rows),
        f"ridge point {ceilings.ridge():.3g} FLOP/byte "
        f"({first.name} against the highest bandwidth)",
    ]
    return "\n".join(lines)


def _of_file(path: Path | None, ceilings: Ceilings) -> list[Utilisation]:
    if path is None:
        return []
    from blis_sim.catalog.locate import locate
    from blis_sim.roofline.utilisation import read_operations, utilisations

    return utilisations(read_operations(locate(path).path), ceilings)


def _of_model(
    name: str | None, ceilings: Ceilings, threads: int | None, *, quick: bool
) -> list[Utilisation]:
    if name is None:
        return []
    from blis_sim.catalog.models import load_model
    from blis_sim.roofline.host_machine import (
        free_memory_bytes,
        last_level_cache,
        limited_blas,
        num_processors,
    )
    from blis_sim.roofline.model_gemvs import gemv_shapes, time_gemvs
    from blis_sim.roofline.repeated_timing import QUICK, THOROUGH
    from blis_sim.roofline.utilisation import utilisations

    cache_bytes = last_level_cache().bytes
    caches = _QUICK_CACHES if quick else _CACHES
    wanted = max(_LEAST_BYTES, caches * cache_bytes)
    most_bytes = min(wanted, (free_memory_bytes() or 4 * wanted) // 4)
    shapes = gemv_shapes(load_model(name), most_bytes, cache_bytes)
    note("matrices are timed in fp32 with numpy, which has no 16-bit products of its own")
    cut = [shape.name for shape in shapes if shape.is_cut]
    if cut:
        note(f"{', '.join(cut)}: cut to as many rows as {most_bytes // 2**20} MiB hold")
    if most_bytes < 4 * cache_bytes:
        note(
            f"matrices take {most_bytes / cache_bytes:.1f} last-level caches: parts of them may "
            "be found there, and shares be above 100 %"
        )
    with limited_blas(num_processors() if threads is None else threads):
        timed = list(time_gemvs(shapes, QUICK if quick else THOROUGH))
    return utilisations((each.operation for each in timed), ceilings)


def _utilisation_text(found: list[Utilisation], ceilings: Ceilings) -> str:
    from blis_sim.roofline.utilisation import utilisation_rows

    header, *rows = utilisation_rows(found)
    title = f"Share of the bandwidth of {ceilings.machine} ({ceilings.source})"
    return f"{title}\n{text_table(header, rows)}"


def _operation_json(found: Utilisation) -> dict[str, Any]:
    return {
        "name": found.operation.name,
        "bytes": found.operation.bytes,
        "seconds": found.operation.seconds,
        "gb_per_s": found.gb_per_s,
        "read_frac": found.read_frac,
        "copy_frac": found.copy_frac,
        "band": found.band.value,
    }


def _time_model(
    name: str, device: str, load: tuple[int, int], *, quick: bool, as_json: bool
) -> None:
    from blis_sim.catalog.models import load_model
    from blis_sim.roofline.repeated_timing import QUICK, THOROUGH
    from blis_sim.roofline.torch_device import open_torch
    from blis_sim.roofline.torch_model import ModelLoad, time_model

    spec = load_model(name)
    opened = open_torch(device)
    prompt_tokens, batch = load
    times = time_model(
        spec,
        opened,
        ModelLoad(prompt_tokens=prompt_tokens, batch=batch),
        effort=QUICK if quick else THOROUGH,
    )
    for text in times.notes:
        note(text)
    title = (
        f"{spec.name} on {opened.name} ({opened.software}): batch {batch}, {prompt_tokens} tokens"
    )
    ceilings = _roofs(opened.name) if opened.is_cuda else None
    if as_json:
        out(json.dumps(_times_json(title, times), indent=2))
    else:
        out(f"{title}\n{_times_text(times, ceilings)}")


def _roofs(device_name: str) -> Ceilings | None:
    """Return the roofs of the catalog's GPU of this name; None with a note without one."""
    from blis_sim.catalog.gpus import canonical_gpu_name, load_gpu
    from blis_sim.roofline.ceilings import ceilings_of_gpu

    known = canonical_gpu_name(device_name)
    if known is None:
        note(f"{device_name} is not in the catalog of GPUs: no shares of its peaks")
        return None
    return ceilings_of_gpu(load_gpu(known))


def _times_text(times: ModelTimes, ceilings: Ceilings | None) -> str:
    header = ["phase", "time ms", "spread", "reported", "token/s", "FLOP/byte", "TFLOP/s", "GB/s"]
    if ceilings is not None:
        header += ["of peak", "of bandwidth"]
    rows = []
    for phase in times.phases:
        point, timing = phase.point, phase.timing
        row = [
            phase.name,
            f"{1000 * timing.call_s:.4g}",
            f"{100 * timing.spread_frac:.1f} %",
            "longer run" if timing.is_longer_run else "median",
            f"{phase.tokens / timing.call_s:.4g}",
            f"{point.oi:.4g}",
            f"{point.tflops:.4g}",
            f"{point.gb_per_s:.4g}",
        ]
        if ceilings is not None:
            row += [
                f"{100 * point.tflops / ceilings.peak().tflops:.1f} %",
                f"{100 * point.gb_per_s / ceilings.bandwidth().gb_per_s:.1f} %",
            ]
        rows.append(row)
    return text_table(header, rows)


def _times_json(title: str, times: ModelTimes) -> dict[str, Any]:
    from dataclasses import asdict

    phases = [
        asdict(phase) | {"point": asdict(phase.point), "seconds": phase.timing.call_s}
        for phase in times.phases
    ]
    return {"title": title, "phases": phases, "notes": list(times.notes)}
