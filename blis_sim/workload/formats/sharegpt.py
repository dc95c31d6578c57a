"""ShareGPT conversations: texts, whose lengths are estimated from their words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from blis_sim.workload.columns import ReadOptions, TraceColumns
from blis_sim.workload.formats.json_rows import list_of, object_of
from blis_sim.workload.json_file import BadValueError, json_array, shown_json
from blis_sim.workload.trace_file import BadRows
from blis_sim.workload.trace_sample import FileSample

DEFAULT_TOKENS_PER_WORD = 1.3
"""English text in the vocabularies of today's models: about four tokens for three words."""

_MIN_TOKENS = 4
_MAX_PROMPT_TOKENS = 1_024
_MAX_TOTAL_TOKENS = 2_048


class ShareGptJson:
    """ShareGPT: a JSON array of ``{"id", "conversations": [{"from", "value"}, ...]}``.

    As in ``vllm bench serve`` (``vllm/benchmarks/datasets.py``) the first turn of a
    conversation is the prompt and the second the answer. Conversations of fewer turns, with
    a prompt or an answer below 4 tokens, a prompt above 1024 or both together above 2048 are
    left out and counted. Lengths are words times ``tokens_per_word``, rounded. There are no
    times: the load draws the arrivals.
    """

    name = "sharegpt"
    title = "ShareGPT JSON"

    def recognises(self, sample: FileSample) -> bool:
        """Return whether the first object is a conversation."""
        return sample.kind == "json" and sample.has("conversations")

    def read(self, path: Path, options: ReadOptions) -> TraceColumns:
        """Read the first two turns of every conversation."""
        tokens_per_word = options.tokens_per_word or DEFAULT_TOKENS_PER_WORD
        bad_rows = BadRows(path, options.skip_bad_rows)
        lengths: list[tuple[int, int]] = []
        num_short = num_filtered = 0
        for index, item in json_array(path):
            try:
                words = _first_turns(item, f"[{index}]")
            except BadValueError as error:
                bad_rows.add(str(error))
                continue
            if words is None:
                num_short += 1
                continue
            prompt, output = (round(count * tokens_per_word) for count in words)
            if _is_used(prompt, output):
                lengths.append((prompt, output))
            else:
                num_filtered += 1
        left_out = (
            f"{num_short:,} conversations of fewer than two turns and {num_filtered:,} too short "
            f"or too long (vLLM's limits: {_MIN_TOKENS} tokens for each turn, "
            f"{_MAX_PROMPT_TOKENS} for the prompt, {_MAX_TOTAL_TOKENS} for both)"
        )
        bad_rows.require_rows(len(lengths), left_out)
        notices = [
            f"{path}: lengths are estimated: words x {tokens_per_word:g} tokens (tokens_per_word)"
        ]
        if num_short or num_filtered:
            notices.append(f"{path}: left out: {left_out}")
        prompts, outputs = np.array(lengths, dtype=np.int64).T
        return TraceColumns(
            None, prompts.copy(), outputs.copy(), notices=notices + bad_rows.notices()
        )


def _first_turns(item: Any, place: str) -> tuple[int, int] | None:
    """Return the words of the first two turns, or None where there are not two."""
    turns = list_of(object_of(item, place).get("conversations", []), f"{place}.conversations")
    if len(turns) < 2:
        return None
    words = []
    for number, turn in enumerate(turns[:2]):
        where = f"{place}.conversations[{number}]"
        text = object_of(turn, where).get("value")
        if not isinstance(text, str):
            raise BadValueError(f"{where}.value must be text; got {shown_json(text)}")
        words.append(len(text.split()))
    return words[0], words[1]


def _is_used(prompt_tokens: int, output_tokens: int) -> bool:
    return (
        min(prompt_tokens, output_tokens) >= _MIN_TOKENS
        and prompt_tokens <= _MAX_PROMPT_TOKENS
        and prompt_tokens + output_tokens <= _MAX_TOTAL_TOKENS
    )
