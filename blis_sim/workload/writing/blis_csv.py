"""The CSV traces of the BLIS simulator: prompts and answers as lists of token ids."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator

from blis_sim.errors import ConfigError
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.writing.base import TextWriter, seconds_text
from blis_sim.workload.writing.content import Run, content_key, named_runs
from blis_sim.workload.writing.survey import FACTS, Survey, count_of

_SHARED = ("prefix_group", "session_id", "prompt_id", "block_hashes")
_MAX_TOKENS = 4_000_000
_BYTES_PER_TOKEN = 7
_LARGE_BYTES = 100_000_000


class BlisCsvWriter(TextWriter):
    """BLIS CSV: ``arrived_at`` in seconds, and JSON arrays of token ids.

    BLIS reads the first, fourth and fifth column (``sim/workload_config.go``). What requests
    share is one token id over and over, and what one has alone is another: prompts begin
    with equal ids exactly as far as they are the same. The answer of a session's round goes
    on with the session's id, as the next prompt has it.
    """

    name = "blis"
    title = "BLIS CSV with token lists"

    def losses(self, survey: Survey) -> list[str]:
        """Return what is not kept: labels, deadlines and the names of what is shared."""
        losses = survey.not_kept([fact for fact in FACTS if fact not in _SHARED])
        return losses + [
            f"{fact} of {count_of(survey.used[fact])} is kept as equal token ids, without its name"
            for fact in _SHARED
            if survey.used[fact]
        ]

    def check(self, survey: Survey) -> None:
        """Raise when a list would be too long for a cell."""
        if survey.max_tokens > _MAX_TOKENS:
            raise ConfigError(
                f"blis: prompts and answers must be at most {_MAX_TOKENS:,} tokens to be written "
                f"as lists; got {survey.max_tokens:,}; choose another format"
            )

    def remarks(self, survey: Survey) -> list[str]:
        """Return how large the file is about to be."""
        size_bytes = survey.num_tokens * _BYTES_PER_TOKEN
        if size_bytes < _LARGE_BYTES:
            return []
        return [
            f"blis: {survey.num_tokens:,} token ids are written one by one, up to "
            f"{size_bytes / 1e9:.1f} GB before compression (.csv.gz)"
        ]

    def lines(self, requests: Iterable[RequestSpec], survey: Survey) -> Iterator[str]:
        """Yield the header and the rows."""
        yield "arrived_at,request_id,model,prefill_tokens,decode_tokens\n"
        numbers: dict[Hashable, int] = {}
        fresh = itertools.count()

        def number_of(key: Hashable | None) -> int:
            if key is None:
                return next(fresh)
            return numbers[key] if key in numbers else numbers.setdefault(key, next(fresh))

        for index, spec in enumerate(requests):
            parts, begin = [], 0
            for key, end in _runs(spec):
                parts.append(f"{number_of(key)}, " * (end - begin))
                begin = end
            prompt = "".join(parts)[:-2]
            answer = (f"{number_of(_answer_key(spec))}, " * spec.output_tokens)[:-2]
            yield f'{seconds_text(spec.arrival_us)},{index},,"[{prompt}]","[{answer}]"\n'


def _runs(spec: RequestSpec) -> Iterator[Run]:
    if spec.block_hashes is None:
        yield from named_runs(spec)
        return
    end = 0
    for block in spec.block_hashes:
        end = min(end + spec.hash_block_tokens, spec.prompt_tokens)
        yield Run(("hash", block), end)


def _answer_key(spec: RequestSpec) -> Hashable | None:
    is_conversation = spec.session_id is not None and spec.block_hashes is None
    return content_key(spec) if is_conversation else None
