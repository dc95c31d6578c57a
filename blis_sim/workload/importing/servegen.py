"""ServeGen folders: one client for each ``chunk-<i>-trace.csv``.

A row of a trace is ``start_s, rate, cv, pattern, shape, scale`` without a header: from then on,
until the next row, the client sends ``rate`` requests/s with gaps of that coefficient of
variation (Gamma, Weibull; no pattern = exponential). ``chunk-<i>-dataset.json`` maps the second
from which it holds to the distributions of ``input_tokens`` and ``output_tokens``, written as
``"{tokens: share, ...}"``. Traces have rows 600 s apart, data sets 6 hours apart.
Source: github.com/alibaba/ServeGen, README.md (Data Structure).
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from blis_sim.errors import ConfigError
from blis_sim.workload.importing.servegen_lengths import LengthTable, read_lengths
from blis_sim.workload.importing.source import Imported, check_load, plain

_TRACE_NAME = re.compile(r"chunk-(\d+)-trace\.csv")
_PROCESSES = {"gamma": "gamma", "weibull": "weibull", "exponential": "poisson", "": "poisson"}
_DEFAULT_ROW_S = 600.0
_DAY_S = 86400.0
_NUM_FIGURES = 4


class _Row(NamedTuple):
    """A stretch of time of a client."""

    start_s: float
    end_s: float
    rate: float
    cv: float
    process: str

    @property
    def num_requests(self) -> float:
        """Return how many requests are expected."""
        return self.rate * (self.end_s - self.start_s)


@dataclass(frozen=True, slots=True)
class _Chunk:
    number: int
    rows: list[_Row]
    lengths: Path

    @property
    def num_requests(self) -> float:
        return sum(row.num_requests for row in self.rows)


def is_servegen(folder: Path) -> bool:
    """Return whether a folder holds traces of ServeGen."""
    return folder.is_dir() and any(_TRACE_NAME.fullmatch(p.name) for p in folder.iterdir())


def import_servegen(
    folder: Path,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    max_clients: int | None = None,
) -> Imported:
    """Return the load of a ServeGen folder, one client for each chunk.

    Parameters
    ----------
    folder : Path
        Holds ``chunk-<i>-trace.csv`` and ``chunk-<i>-dataset.json``.
    start_s : float
        Begin of the part to take, seconds of the trace; it becomes time 0.
    duration_s : float, optional
        Length of the part, seconds; to the end when absent, which a folder of more than a day
        does not accept.
    max_clients : int, optional
        Take the clients with the most requests only.

    Raises
    ------
    ConfigError
        The folder holds no such files, one of them is malformed (with file and line), or
        nobody sends anything in the part chosen.
    """
    if max_clients is not None and max_clients < 1:
        raise ConfigError(f"max_clients must be >= 1; got {max_clients}")
    if start_s < 0 or (duration_s is not None and duration_s <= 0):
        raise ConfigError(
            f"the part of a trace must begin at >= 0 s and be > 0 s long; got {start_s:g} s and "
            f"{duration_s} s"
        )
    traces = _traces(folder)
    rows = {number: _read_trace(path) for number, path in traces.items()}
    last_s = max((row.end_s for chunk in rows.values() for row in chunk), default=0.0)
    if duration_s is None:
        if last_s - start_s > _DAY_S:
            raise ConfigError(
                f"{folder} must be imported in parts of at most a day where no length is given; "
                f"got {last_s - start_s:g} s; choose a part with --start and --duration"
            )
        duration_s = last_s - start_s
    end_s = start_s + duration_s
    parts = {number: _part(all_rows, start_s, end_s) for number, all_rows in rows.items()}
    chunks = [
        _Chunk(number, part, traces[number].with_name(f"chunk-{number}-dataset.json"))
        for number, part in parts.items()
        if any(row.rate for row in part)
    ]
    if not chunks:
        raise ConfigError(
            f"{folder} must have a client that sends from {start_s:g} s on, for {duration_s:g} s; "
            f"got none; the traces end at {last_s:g} s"
        )
    notices: list[str] = []
    clients = [
        _client(chunk, start_s, notices) for chunk in _busiest(chunks, max_clients, notices)
    ]
    title = f"ServeGen folder {folder}, {start_s:g} s to {end_s:g} s"
    check_load({"clients": clients}, str(folder))
    return Imported({"clients": clients}, tuple(_gathered(notices)), "servegen", title)


def _traces(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        raise ConfigError(f"a ServeGen folder must be an existing folder; got {folder}")
    matches = ((_TRACE_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    traces = {int(match[1]): path for match, path in matches if match is not None}
    if not traces:
        raise ConfigError(
            f"{folder} must hold files chunk-<number>-trace.csv; got none; give the folder of "
            "one model, such as data/language/m-large"
        )
    return dict(sorted(traces.items()))


def _read_trace(path: Path) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [
                (line, _figures(f"{path}:{line}", cells))
                for line, cells in enumerate(csv.reader(file), start=1)
                if any(cell.strip() for cell in cells)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} must be a readable CSV file; got: {error}") from None
    for (_, before), (line, after) in pairwise(lines):
        if after[0] <= before[0]:
            raise ConfigError(
                f"{path}:{line}: start_s must be greater than that of the row before "
                f"({before[0]:g} s); got {after[0]:g}"
            )
    if not lines:
        return []
    starts = [row[0] for _, row in lines]
    last_s = starts[-1] - starts[-2] if len(starts) > 1 else _DEFAULT_ROW_S
    ends = [*starts[1:], starts[-1] + last_s]
    return [
        _Row(start, end, rate, cv, process)
        for (_, (start, rate, cv, process)), end in zip(lines, ends, strict=True)
    ]


def _figures(where: str, cells: list[str]) -> tuple[float, float, float, str]:
    if len(cells) < _NUM_FIGURES:
        raise ConfigError(
            f"{where}: a row must have start_s, rate, cv and pattern; got {len(cells)} columns"
        )
    numbers = []
    for name, cell in zip(("start_s", "rate", "cv"), cells, strict=False):
        try:
            number = float(cell)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            raise ConfigError(f"{where}: {name} must be a number >= 0; got {cell.strip()!r}")
        numbers.append(number)
    process = _PROCESSES.get(cells[3].strip().lower())
    if process is None:
        raise ConfigError(
            f"{where}: pattern must be Gamma, Weibull, Exponential or empty; got {cells[3]!r}"
        )
    if process != "poisson" and numbers[2] == 0 and numbers[1] > 0:
        raise ConfigError(f"{where}: cv must be > 0 with pattern {cells[3].strip()}; got 0")
    return numbers[0], numbers[1], numbers[2], process


def _part(rows: list[_Row], start_s: float, end_s: float) -> list[_Row]:
    return [
        row._replace(start_s=max(row.start_s, start_s), end_s=min(row.end_s, end_s))
        for row in rows
        if row.end_s > start_s and row.start_s < end_s
    ]


def _busiest(chunks: list[_Chunk], count: int | None, notices: list[str]) -> list[_Chunk]:
    if count is None or len(chunks) <= count:
        return chunks
    ordered = sorted(chunks, key=lambda chunk: (-chunk.num_requests, chunk.number))
    total = sum(chunk.num_requests for chunk in chunks)
    left_out = sum(chunk.num_requests for chunk in ordered[count:])
    notices.append(
        f"{len(chunks) - count} of {len(chunks)} clients left out, with "
        f"{left_out / total:.1%} of the requests"
    )
    return sorted(ordered[:count], key=lambda chunk: chunk.number)


def _client(chunk: _Chunk, start_s: float, notices: list[str]) -> dict[str, Any]:
    name = f"chunk-{chunk.number}"
    tables = read_lengths(chunk.lengths)
    prompt, output = LengthTable(), LengthTable()
    used = set()
    for row in chunk.rows:
        if row.rate:
            begin = max((t for t in tables if t <= row.start_s), default=min(tables))
            used.add(begin)
            prompt.add(tables[begin].prompt, row.num_requests)
            output.add(tables[begin].output, row.num_requests)
    if len(used) > 1:
        notices.append(f"{name}: lengths of {len(used)} data sets mixed by their requests")
    return {
        "name": name,
        "stages": _stages(chunk.rows, start_s),
        "arrivals": _arrivals(name, chunk, notices),
        "prompt": prompt.settings(),
        "output": output.settings(),
    }


def _arrivals(name: str, chunk: _Chunk, notices: list[str]) -> dict[str, Any]:
    active = [row for row in chunk.rows if row.rate]
    counts: dict[str, float] = defaultdict(float)
    for row in active:
        counts[row.process] += row.num_requests
    process = max(counts, key=lambda key: counts[key])
    if len(counts) > 1:
        notices.append(f"{name}: {process} arrivals all the time, as for most of its requests")
    if process == "poisson":
        return {"process": process}
    own = [row for row in active if row.process == process]
    cv = sum(row.cv * row.num_requests for row in own) / counts[process]
    if len({row.cv for row in own}) > 1:
        low, high = min(row.cv for row in own), max(row.cv for row in own)
        notices.append(
            f"{name}: cv {cv:.4g} all the time, the mean over its requests ({low:g} to {high:g})"
        )
    return {"process": process, "cv": plain(round(cv, 6))}


def _stages(rows: list[_Row], start_s: float) -> list[dict[str, Any]]:
    """Return the rates from ``start_s`` to the last row with requests."""
    stages: list[dict[str, Any]] = []
    now_s = start_s
    last = max(number for number, row in enumerate(rows) if row.rate)
    for row in rows[: last + 1]:
        pieces = [(row.start_s - now_s, 0.0), (row.end_s - row.start_s, row.rate)]
        for span_s, rate in pieces:
            if span_s <= 0:
                continue
            if stages and stages[-1]["rate"] == rate:
                stages[-1]["duration_s"] = plain(stages[-1]["duration_s"] + span_s)
            else:
                stages.append({"rate": plain(rate), "duration_s": plain(span_s)})
        now_s = row.end_s
    return stages


def _gathered(notices: list[str]) -> list[str]:
    """Return one line where many clients have the same notice: the first, and how many."""
    groups: Mapping[str, list[str]] = defaultdict(list)
    for notice in notices:
        kind = re.sub(r"[\d.]+", "#", notice)
        groups[kind].append(notice)
    return [
        lines[0] if len(lines) == 1 else f"{lines[0]}; likewise {len(lines) - 1} more clients"
        for lines in groups.values()
    ]
