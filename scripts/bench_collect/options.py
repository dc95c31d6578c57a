"""The command line of ``scripts/collect_bench.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from blis_sim.errors import ConfigError, unknown_name

from .grids import OPERATIONS
from .torch_kernels import LIBRARIES

DTYPES = ("bf16", "fp16", "fp8")


def parser(description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="tables go to DIR/<gpu>/")
    add("--gpu", metavar="NAME", help="GPU in the catalog; default: from the device's name")
    add("--ops", default=",".join(OPERATIONS), help="of: %(default)s (default: all)")
    add("--dtypes", help="of: bf16,fp16,fp8; default: what the GPU multiplies")
    add("--models", nargs="+", metavar="MODEL", help="shapes of these; default: all bundled")
    add("--tp", default="1,2,4,8", help="tensor-parallel degrees of --models (%(default)s)")
    add("--shapes", nargs="+", metavar="SHAPE", help="32-8-128 (heads) or 4096x6144 (GEMM k x n)")
    add("--attention", default="auto", help=f"auto, {', '.join(LIBRARIES)} (default: auto)")
    add("--quick", action="store_true", help="coarse grids and fewer repetitions")
    add("--max-minutes", type=float, metavar="M", help="stop after M minutes; see --resume")
    add("--resume", action="store_true", help="keep rows that are there, measure the others")
    add("--compare", type=Path, metavar="DIR", help="then compare with these tables")
    add("--compare-only", action="store_true", help="compare what is in --out, measure nothing")
    add("--dry-run", action="store_true", help="print the plan; needs neither PyTorch nor GPU")
    return made


def check(options: argparse.Namespace) -> None:
    """Check what argparse does not.

    Raises
    ------
    ConfigError
        Values contradict each other or are out of range.
    """
    if options.compare_only and options.compare is None:
        raise ConfigError("--compare-only needs --compare DIR, the tables to compare with")
    if options.compare_only and options.dry_run:
        raise ConfigError("--dry-run and --compare-only exclude each other; leave one out")
    if options.max_minutes is not None and not options.max_minutes > 0:
        raise ConfigError(f"--max-minutes must be > 0 minutes; got {options.max_minutes:g}")
    names("--ops", options.ops, OPERATIONS)
    degrees(options.tp)
    if options.dtypes is not None:
        names("--dtypes", options.dtypes, DTYPES)


def names(flag: str, text: str, known: Sequence[str]) -> list[str]:
    """Return the names in a list with commas, each once.

    Raises
    ------
    ConfigError
        One is unknown, or there is none.
    """
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise ConfigError(f"{flag} must name at least one of {', '.join(known)}; got {text!r}")
    for name in found:
        if name not in known:
            raise ConfigError(unknown_name(flag, name, known))
    return found


def degrees(text: str) -> list[int]:
    """Return the tensor-parallel degrees in a list with commas.

    Raises
    ------
    ConfigError
        One is no whole number >= 1.
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise ConfigError(f"--tp must hold whole numbers >= 1, as 1,2,4,8; got {text!r}")
    return found
