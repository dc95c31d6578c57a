"""The Mooncake traces: lengths and block hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from blis_sim.units import US_PER_MS
from blis_sim.workload.block_hashes import DEFAULT_HASH_BLOCK_TOKENS, hash_column, prefix_complete
from blis_sim.workload.columns import ReadOptions, TraceColumns
from blis_sim.workload.json_file import (
    BadValueError,
    duration_us,
    json_lines,
    shown_json,
    whole_number,
)
from blis_sim.workload.trace_file import BadRows
from blis_sim.workload.trace_sample import FileSample

_MAX_HASH = 2**63 - 1


class MooncakeJsonl:
    """Mooncake traces: one object per line, times in ms, hashes of blocks of 512 tokens.

    ``{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}``; the last
    block of a prompt may be partial, so there are ceil(input_length / 512) of them.
    """

    name = "mooncake"
    title = "Mooncake JSONL"

    def recognises(self, sample: FileSample) -> bool:
        """Return whether the first object has prompt and answer lengths by their names here."""
        return sample.kind == "json" and sample.has("input_length", "output_length")

    def read(self, path: Path, options: ReadOptions) -> TraceColumns:
        """Read the rows and make the block hashes stand for whole prefixes."""
        bad_rows = BadRows(path, options.skip_bad_rows)
        arrivals: list[int] = []
        prompts: list[int] = []
        outputs: list[int] = []
        hashes: list[list[int]] = []
        for line, item in json_lines(path, bad_rows):
            try:
                arrival = duration_us(item.get("timestamp"), "timestamp", "ms", US_PER_MS)
                prompt = whole_number(item.get("input_length"), "input_length", 1)
                output = whole_number(item.get("output_length"), "output_length", 0)
                blocks = _blocks(item.get("hash_ids"), prompt)
            except BadValueError as error:
                bad_rows.add(str(error), line)
                continue
            arrivals.append(arrival)
            prompts.append(prompt)
            outputs.append(output)
            hashes.append(blocks)
        bad_rows.require_rows(len(prompts), "no lines")
        notices = bad_rows.notices()
        column, renumbered = prefix_complete(hash_column(hashes))
        if renumbered:
            notices.append(
                f"{path}: equal hash_ids follow different ones; they are taken for the hashes of "
                "single blocks, and prompts share a block where all before it is shared too"
            )
        return TraceColumns(
            np.array(arrivals, dtype=np.int64),
            np.array(prompts, dtype=np.int64),
            np.array(outputs, dtype=np.int64),
            block_hashes=column if len(column.hashes) else None,
            hash_block_tokens=DEFAULT_HASH_BLOCK_TOKENS,
            notices=notices,
        )


def _blocks(value: Any, prompt_tokens: int) -> list[int]:
    """Return the block hashes of a prompt; a line may be without."""
    if value is None:
        return []
    expected = -(-prompt_tokens // DEFAULT_HASH_BLOCK_TOKENS)
    if not isinstance(value, list) or len(value) != expected:
        raise BadValueError(
            f"hash_ids must be an array of {expected} numbers, one per "
            f"{DEFAULT_HASH_BLOCK_TOKENS} tokens of input_length; got {shown_json(value)}"
        )
    if {*map(type, value)} != {int} or min(value) < 0 or max(value) > _MAX_HASH:
        raise BadValueError(
            f"hash_ids must be whole numbers from 0 to {_MAX_HASH}; got {shown_json(str(value))}"
        )
    return value
