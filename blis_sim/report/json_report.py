"""``--json``: the whole result as one JSON document."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

from blis_sim.atomic import atomic_write
from blis_sim.metrics.result import Result

STDOUT = "-"


def render_json(result: Result, *, detailed: bool = False) -> str:
    """Return the result as strict JSON text (no NaN, no Infinity), ending in a newline.

    The order of the keys is fixed: vLLM's keys, then ``kv_cache``, ``engine``,
    ``conservation``, ``per_class``, ``per_tenant``, ``per_pool``, ``per_instance``,
    ``cluster``, ``accuracy``, ``manifest``, ``run_info``, ``metric_definitions``, then
    ``roofline`` where it was asked for and ``replications`` where there are several.

    Parameters
    ----------
    result : Result
        What to write.
    detailed : bool
        Add vLLM's per-request arrays.
    """
    document = result.to_json_dict(detailed=detailed)
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(
    result: Result,
    path: str | Path,
    *,
    detailed: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Write the result as JSON to ``path``, whole or not at all; ``-`` is standard output.

    Parameters
    ----------
    result : Result
        What to write.
    path : str or Path
        File, or ``-``.
    detailed : bool
        Add vLLM's per-request arrays.
    stream : text stream or None
        Where ``-`` goes; None = standard output.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    text = render_json(result, detailed=detailed)
    if str(path) == STDOUT:
        (stream or sys.stdout).write(text)
        return
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
