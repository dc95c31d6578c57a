"""``SOURCE.md`` of collected tables: one section per session, kept on resume."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blis_sim.atomic import atomic_write
from blis_sim.catalog.gpus import GpuSpec
from blis_sim.errors import ConfigError

from .session import TableResult

MARK = "Measured with `scripts/collect_bench.py`"
"""Tells tables of this script from others: those are never touched."""
_SESSION = "## Session "


def check_folder(folder: Path, *, resume: bool) -> None:
    """Check that ``folder`` holds no tables of other origin, and none at all without resume.

    Raises
    ------
    ConfigError
        It does.
    """
    if not any(folder.glob("*/**/*.csv")):
        return
    note = folder / "SOURCE.md"
    if not note.is_file() or MARK not in note.read_text(encoding="utf-8"):
        raise ConfigError(
            f"--out must not lead to tables of other origin; got {folder}, whose SOURCE.md does "
            "not say that this script measured them; choose another folder"
        )
    if not resume:
        raise ConfigError(
            f"--out must lead to a folder without tables; got {folder}; add --resume to complete "
            "them, or choose another folder"
        )


@dataclass(frozen=True, slots=True)
class SessionNote:
    """What a session says about itself besides its tables."""

    date: str
    device: str
    software: str
    kernels: dict[str, str]
    """What was called, per operation and type."""
    method: str
    before: str
    after: str
    remarks: tuple[str, ...] = ()


def _merged(results: Iterable[TableResult]) -> dict[str, TableResult]:
    """Return the results of one operation and type as one, by kind of table."""
    merged: dict[str, TableResult] = {}
    for result in results:
        kind = result.plan.table.kind
        if kind not in merged:
            empty = replace(result, too_large=[], failed=[], spreads=[], fastest=Counter())
            merged[kind] = replace(empty, num_kept=0, num_measured=0, num_left=0, num_captured=0)
        total = merged[kind]
        total.num_kept += result.num_kept
        total.num_measured += result.num_measured
        total.num_left += result.num_left
        total.num_captured += result.num_captured
        total.too_large += result.too_large
        total.failed += result.failed
        total.spreads += result.spreads
        total.fastest += result.fastest
    return merged


def _kernel_of(note: SessionNote, result: TableResult) -> str:
    table = result.plan.table
    return note.kernels.get(f"{table.operation} {table.dtype}", note.kernels[table.operation])


def started_lines(note: SessionNote) -> list[str]:
    """Return the section of a session that has not ended: it stays if the process is killed."""
    return [*_opening(note), f"State before: {note.before}. Not ended in order."]


def _opening(note: SessionNote) -> list[str]:
    device = f"Device: {note.device}. Software: {note.software}."
    return [f"{_SESSION}{note.date}", "", device, note.method]


def session_lines(
    note: SessionNote, results: Sequence[TableResult], needed_bytes: dict[str, int]
) -> list[str]:
    """Return the section of one session; ``needed_bytes`` per kind of table left out as large."""
    lines = [
        *_opening(note),
        f"State before: {note.before}. State after: {note.after}.",
        "",
        "| table | kernel | measured | there before | too large | failed | not reached "
        "| in a CUDA graph | median spread of repetitions |",
        "|---" * 9 + "|",
    ]
    merged = _merged(results)
    for kind, result in merged.items():
        spread = result.median_spread
        cells = (
            f"`{kind}`", _kernel_of(note, result), result.num_measured, result.num_kept,
            len(result.too_large), len(result.failed), result.num_left, result.num_captured,
            "-" if spread is None else f"{spread:.1%}",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    remarks = [*note.remarks, *_fastest(merged), *_skipped(merged, needed_bytes)]
    return [*lines, "", *(f"- {remark}" for remark in remarks), *([""] if remarks else [])]


def _fastest(merged: dict[str, TableResult]) -> list[str]:
    remarks = []
    for kind, result in merged.items():
        if len(result.fastest) > 1:
            counts = ", ".join(f"{name} {number}" for name, number in result.fastest.most_common())
            remarks.append(f"`{kind}`: points by the kernel that was fastest: {counts}.")
    return remarks


def _skipped(merged: dict[str, TableResult], needed_bytes: dict[str, int]) -> list[str]:
    remarks = []
    for kind, result in merged.items():
        if result.too_large:
            most = needed_bytes.get(kind, 0) / 1e9
            remarks.append(
                f"`{kind}`: {len(result.too_large)} points need more memory than is free "
                f"(up to {most:.1f} GB)."
            )
        reasons: dict[str, list[str]] = defaultdict(list)
        for point, reason in result.failed:
            reasons[reason].append(" x ".join(map(str, point.key)))
        for reason, keys in reasons.items():
            shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            remarks.append(f"`{kind}`: {len(keys)} points failed ({shown}): {reason}.")
    return remarks


class NoteFile:
    """``SOURCE.md`` with the sessions there were before, and this one's section behind them."""

    def __init__(self, folder: Path, gpu: GpuSpec) -> None:
        self.path = folder / "SOURCE.md"
        self._gpu = gpu
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        at = text.find(f"\n{_SESSION}")
        self._earlier = [] if at < 0 else [text[at + 1 :].rstrip("\n"), ""]

    def write(self, section: Sequence[str]) -> None:
        gpu = self._gpu
        peaks = f"{gpu.bf16_tflops_dense:g} TFLOP/s (16 bits)"
        if gpu.fp8_tflops_dense:
            peaks += f" and {gpu.fp8_tflops_dense:g} TFLOP/s (fp8)"
        head = [
            f"# {gpu.name}: measured kernels",
            "",
            f"{MARK}. Median latencies of single calls as measured: neither cleaned",
            f"nor thinned. MFU is relative to {peaks}.",
            "In `copy/copy.csv` bytes are those read and written together.",
            "",
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as temporary:
            lines = "\n".join([*head, *self._earlier, *section])
            temporary.write_text(lines.rstrip("\n") + "\n", encoding="utf-8")
