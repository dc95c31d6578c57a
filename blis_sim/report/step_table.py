"""``blis step``: a step kernel by kernel, as text and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from blis_sim.metrics.plain import to_plain
from blis_sim.report.step_breakdown import DecodeSet, StepBreakdown, StepLine, Subtotal
from blis_sim.report.text_columns import text_columns
from blis_sim.units import US_PER_MS
from blis_sim.version import package_version

if TYPE_CHECKING:
    from blis_sim.latency.base import PrefillChunk

WIDTH = 120
_GIGA, _MEGA = 1e9, 1e6
_HEADER = (
    *("kernel", "shape", "runs", "time", "share", "work", "moved", "MFU", "MBU"),
    *("bound by", "rests on"),
)
_UNITS = ("", "", "", "us", "%", "GFLOP", "MB", "%", "%", "", "")
_LEFT = (0, 1, 9, 10)
_DEFINITIONS = {
    "time_us": "all executions of the kernel in the step, one GPU of the group",
    "flops": "operations on one GPU; a multiply-add is two",
    "bytes": "moved through the GPU's memory when every operand moves once; of communication "
    "the size of the messages",
    "mfu": "flops at the dense peak of the format over the time",
    "mbu": "bytes at the full memory bandwidth over the time; null for communication",
    "bound_by": "compute, memory or link: which decides the least possible time; overhead: the "
    "time is more than twice that; launch and host are no kernels",
    "evidence": "measured = this kernel on this GPU, interpolated at most; otherwise what the "
    "efficiency was carried over from",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What was asked for.

    Attributes
    ----------
    model, gpu : str
        Their names.
    tensor_parallel_size : int
        GPUs that share every layer.
    dtype, kv_cache_dtype : str
        Formats of activations and KV cache.
    quantization : str or None
        Of the weights.
    prefills : sequence of PrefillChunk
    decodes : sequence of DecodeSet
    source : str
        Where the kernel times come from.
    notices : sequence of str
        What the reader should know.
    """

    model: str
    gpu: str
    tensor_parallel_size: int
    dtype: str
    kv_cache_dtype: str
    quantization: str | None
    prefills: Sequence[PrefillChunk]
    decodes: Sequence[DecodeSet]
    source: str
    notices: Sequence[str] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens computed in the step."""
        new = sum(chunk.new_tokens for chunk in self.prefills)
        return new + sum(each.num_requests for each in self.decodes)


def step_json(step: StepBreakdown, context: StepContext) -> str:
    """Return the step as strict JSON text, ending in a newline."""
    document = {
        "blis_sim_version": package_version(),
        "latency_model": "roofline-v2",
        "latency_model_source": context.source,
        "model": context.model,
        "gpu": context.gpu,
        "tensor_parallel_size": context.tensor_parallel_size,
        "dtype": context.dtype,
        "quantization": context.quantization,
        "kv_cache_dtype": context.kv_cache_dtype,
        "prefills": [
            chunk._asdict() | {"num_requests": times}
            for chunk, times in Counter(context.prefills).items()
        ],
        "decodes": [each._asdict() for each in context.decodes],
        "num_tokens": context.num_tokens,
        "step_time_us": step.step_time_us,
        "rounding_us": step.step_time_us - step.total.time_us,
        "total": _subtotal_json(step.total),
        "groups": {
            group: _subtotal_json(Subtotal.of(lines)) for group, lines in step.groups().items()
        },
        "lines": [_line_json(line) for line in step.lines],
        "notices": list(context.notices),
        "definitions": _DEFINITIONS,
    }
    return json.dumps(to_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _subtotal_json(total: Subtotal) -> Mapping[str, float]:
    return {
        "time_us": total.time_us,
        "flops": total.flops,
        "bytes": total.bytes,
        "mfu": _share(total.compute_us, total.time_us),
        "mbu": _share(total.memory_us, total.time_us),
    }


def _line_json(line: StepLine) -> Mapping[str, Any]:
    is_message = line.group == "communication"
    is_kernel = line.group != "host" and line.bound_by != "launch"
    return {
        "group": line.group,
        "name": line.name,
        "shape": line.shape,
        "count": line.count,
        "time_us": line.time_us,
        "flops": line.flops if is_kernel else None,
        "bytes": line.bytes if is_kernel else None,
        "mfu": _share(line.compute_us, line.time_us) if line.flops else None,
        "mbu": _share(line.memory_us, line.time_us) if is_kernel and not is_message else None,
        "bound_by": line.bound_by,
        "evidence": asdict(line.evidence),
    }


def render_step(step: StepBreakdown, context: StepContext) -> str:
    """Return the step as text, without a final newline."""
    rows: list[Sequence[str]] = [_HEADER, _UNITS]
    whole_us = step.total.time_us
    for group, lines in step.groups().items():
        is_its_own_sum = len(lines) == 1 and lines[0].name == group
        if not is_its_own_sum:
            rows.append(_total_row(group, Subtotal.of(lines), whole_us))
        rows += [_line_row(line, whole_us, "" if is_its_own_sum else "  ") for line in lines]
    rows.append(_total_row("step", step.total, whole_us))
    header, units, *body, total = text_columns(rows, _LEFT)
    rule = "-" * max(map(len, (header, *body)))
    return "\n".join(
        (
            *_title(context),
            rule,
            header,
            units,
            *body,
            rule,
            total,
            f"step time {step.step_time_us:,} us = {step.step_time_us / US_PER_MS:,.2f} ms"
            " (whole microseconds)",
            *_wrapped(f"kernel times: {context.source}"),
            *(line for notice in context.notices for line in _wrapped(f"note: {notice}")),
        )
    )


def _title(context: StepContext) -> Iterator[str]:
    formats = [context.dtype]
    if context.quantization:
        formats.append(f"weights {context.quantization}")
    formats.append(f"KV cache {context.kv_cache_dtype}")
    yield (
        f"One step of {context.model} on {context.gpu}, TP {context.tensor_parallel_size} "
        f"({', '.join(formats)}), one GPU of the group"
    )
    parts = [
        f"{times} x {chunk.new_tokens:,} new tokens on {chunk.context_tokens:,} in the cache"
        for chunk, times in Counter(context.prefills).items()
    ]
    if parts:
        yield from _wrapped(f"prefill: {', '.join(parts)}")
    parts = [
        f"{each.num_requests:,} x context {each.context_tokens:,}" for each in context.decodes
    ]
    if parts:
        yield from _wrapped(f"decode: {', '.join(parts)}")


def _line_row(line: StepLine, whole_us: float, indent: str) -> Sequence[str]:
    is_message = line.group == "communication"
    return (
        indent + line.name,
        line.shape,
        f"{line.count:,}",
        f"{line.time_us:,.1f}",
        _percent(_share(line.time_us, whole_us)),
        _amount(line.flops / _GIGA),
        _amount(line.bytes / _MEGA),
        _percent(_share(line.compute_us, line.time_us)) if line.flops else "",
        _percent(_share(line.memory_us, line.time_us)) if line.bytes and not is_message else "",
        line.bound_by,
        line.evidence.summary,
    )


def _total_row(name: str, total: Subtotal, whole_us: float) -> Sequence[str]:
    return (
        name,
        "",
        "",
        f"{total.time_us:,.1f}",
        _percent(_share(total.time_us, whole_us)),
        _amount(total.flops / _GIGA),
        _amount(total.bytes / _MEGA),
        _percent(_share(total.compute_us, total.time_us)) if total.flops else "",
        _percent(_share(total.memory_us, total.time_us)) if total.bytes else "",
        "",
        "",
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _amount(value: float) -> str:
    """Return a number with about three digits; nothing for 0."""
    if not value:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
