"""``blis workload describe``: the figures of a load as a table and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from blis_sim.metrics.plain import to_plain
from blis_sim.workload.describe import GroupFigures, LengthFigures, WorkloadFigures

WIDTH = 100
_LABEL_WIDTH = 40
_MIN_NAME, _MAX_NAME = 8, 28
_MAX_GROUPS = 20
_LENGTH_HEADER = ("mean", "p50", "p90", "p99", "max", "total")
_GROUP_HEADER = ("requests", "share %", "req/s", "prompt", "p99", "output", "p99", "shared %")


def workload_json(figures: WorkloadFigures, source: dict[str, Any]) -> str:
    """Return the figures as strict JSON text without a final newline.

    Parameters
    ----------
    figures : WorkloadFigures
        What to write; times in seconds, lengths in tokens, shares in 0..1.
    source : dict
        What the load is; it stands under the key ``workload``.
    """
    document = to_plain({"workload": source} | figures.to_dict())
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def render_workload(
    figures: WorkloadFigures, description: str, notices: Sequence[str] = ()
) -> str:
    """Return the figures as text of at most 100 columns, without a final newline.

    Parameters
    ----------
    figures : WorkloadFigures
        What to show; what cannot be told shows ``n/a``.
    description : str
        What the load is, in one line.
    notices : sequence of str
        What the reader should know; they stand at the end.
    """
    lines = [
        *_wrapped(description),
        _section("Arrivals"),
        *_arrival_rows(figures),
        _section("Lengths (tokens)"),
        *_length_table(figures),
        _section("Content and clients"),
        *_content_rows(figures),
    ]
    for label, groups in figures.labels.items():
        title = f"By {_in_words(label)} (prompt, output: mean and p99; shared: prefix)"
        lines += [_section(title), *_group_table(groups)]
    lines.append("=" * WIDTH)
    for notice in notices:
        lines += _wrapped(f"note: {notice}")
    return "\n".join(lines)


def _arrival_rows(figures: WorkloadFigures) -> Iterator[str]:
    arrivals = figures.arrivals
    yield _row("Requests", figures.num_requests)
    yield _row("First arrival (s)", arrivals.first_s)
    yield _row("Span (s)", arrivals.span_s)
    yield _row("Mean rate (req/s)", arrivals.mean_rate_per_s)
    yield _row("Peak rate in any 1 s (req/s)", arrivals.peak_rate_1s_per_s)
    yield _row("Peak rate in any 60 s (req/s)", arrivals.peak_rate_60s_per_s)
    yield _row("Mean gap (s)", arrivals.gap_mean_s, decimals=4)
    yield _row("CV of the gaps", arrivals.gap_cv, "1 = Poisson, more = bursty")
    window_s = arrivals.dispersion_window_s
    windows = "" if window_s is None else f" per {window_s:g} s"
    yield _row(
        "Index of dispersion of counts",
        arrivals.dispersion_index,
        f"variance / mean{windows}; 1 = Poisson",
    )


def _length_table(figures: WorkloadFigures) -> Iterator[str]:
    yield from _columns(
        [
            ("", *_LENGTH_HEADER),
            ("Prompt", *_length_cells(figures.prompt_tokens)),
            ("Output", *_length_cells(figures.output_tokens)),
        ]
    )


def _length_cells(lengths: LengthFigures) -> Iterator[str]:
    yield f"{lengths.mean:,.1f}"
    for percentile in (lengths.p50, lengths.p90, lengths.p99):
        yield f"{percentile:,.0f}"
    yield f"{lengths.max:,}"
    yield f"{lengths.total:,}"


def _content_rows(figures: WorkloadFigures) -> Iterator[str]:
    cache, sessions, deadlines = figures.prefix_cache, figures.sessions, figures.deadlines
    share, remark = None, "no request says what its prompt holds"
    if cache.shareable_share is not None:
        share = 100 * cache.shareable_share
        remark = f"{cache.shareable_tokens:,} tokens, blocks of {cache.block_tokens}"
    yield _row("Shareable prefix (% of prompt tokens)", share, remark)
    for label, count in (
        ("Prefix groups", cache.num_prefix_groups),
        ("Distinct prompts of a pool", cache.num_prompt_ids),
        ("Distinct block hashes", cache.num_block_hashes),
    ):
        if count:
            yield _row(label, count)
    if sessions is not None:
        yield _row("Sessions", sessions.num_sessions, f"{sessions.num_requests:,} requests")
        yield _row("Rounds per session", sessions.rounds_mean, f"at most {sessions.rounds_max:,}")
    yield _row("Requests with a deadline (%)", 100 * deadlines.share)


def _group_table(groups: Sequence[GroupFigures]) -> Iterator[str]:
    cells = [_GROUP_HEADER, *(tuple(_group_cells(group)) for group in groups[:_MAX_GROUPS])]
    used = sum(2 + max(map(len, column)) for column in zip(*cells, strict=True))
    width = min(max(WIDTH - used, _MIN_NAME), _MAX_NAME)
    names = ["", *(_name(group.name, width) for group in groups[:_MAX_GROUPS])]
    yield from _columns([(name, *row) for name, row in zip(names, cells, strict=True)])
    if len(groups) > _MAX_GROUPS:
        yield f"and {len(groups) - _MAX_GROUPS:,} more with fewer requests (--json has them all)"


def _group_cells(group: GroupFigures) -> Iterator[str]:
    yield f"{group.num_requests:,}"
    yield f"{100 * group.share:.1f}"
    yield _number(group.mean_rate_per_s, decimals=2)
    for lengths in (group.prompt_tokens, group.output_tokens):
        yield f"{lengths.mean:,.0f}"
        yield f"{lengths.p99:,.0f}"
    share = group.shareable_share
    yield "n/a" if share is None else f"{100 * share:.1f}"


def _name(name: str | None, width: int) -> str:
    if name is None:
        return "(none)"
    return name if len(name) <= width else f"{name[: width - 3]}..."


def _in_words(label: str) -> str:
    return "SLO class" if label == "slo_class" else label.replace("_", " ")


def _section(title: str) -> str:
    return f"{f' {title} ':-^{WIDTH}}"


def _row(label: str, value: float | None, remark: str = "", *, decimals: int = 2) -> str:
    number = _number(value, decimals=decimals)
    return f"{label:<{_LABEL_WIDTH}}{number:>16}  {remark}".rstrip()


def _number(value: float | None, *, decimals: int) -> str:
    if value is None:
        return "n/a"
    return f"{value:,.{decimals}f}" if isinstance(value, float) else f"{value:,}"


def _columns(table: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield lines with the first column flush left and the others flush right."""
    first, *widths = (max(map(len, column)) for column in zip(*table, strict=True))
    for name, *cells in table:
        padded = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        yield "  ".join((name.ljust(first), *padded)).rstrip()


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
