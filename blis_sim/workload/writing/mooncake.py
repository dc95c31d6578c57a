"""Mooncake traces: lengths and hashes of blocks of 512 tokens."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Hashable, Iterable, Iterator

from blis_sim.units import US_PER_MS
from blis_sim.workload.block_hashes import DEFAULT_HASH_BLOCK_TOKENS as BLOCK_TOKENS
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.writing.base import TextWriter
from blis_sim.workload.writing.content import content_key, named_runs
from blis_sim.workload.writing.survey import FACTS, Survey, count_of

_SHARED = ("prefix_group", "session_id", "prompt_id", "block_hashes")


class MooncakeWriter(TextWriter):
    """Mooncake JSONL: ``timestamp`` in ms, lengths, ``hash_ids`` of blocks of 512 tokens.

    Block hashes of 512 tokens are kept as they are, and finer ones, if 512 is a multiple of
    their size, by the last in each block. Otherwise blocks of 512 tokens that lie whole in
    what requests share (a prefix, a conversation, a known prompt) have one number, all others
    a number of their own.
    """

    name = "mooncake"
    title = "Mooncake JSONL"
    endings = (".jsonl", ".jsonl.gz")

    def losses(self, survey: Survey) -> list[str]:
        """Return what is not kept: labels, deadlines, and what is shared in parts of a block."""
        losses = survey.not_kept([fact for fact in FACTS if fact not in _SHARED])
        for fact in ("prefix_group", "prompt_id"):
            if survey.used[fact]:
                losses.append(
                    f"{fact} of {count_of(survey.used[fact])} is kept as hash_ids of whole "
                    f"blocks of {BLOCK_TOKENS} tokens, without its name"
                )
        if survey.used["session_id"]:
            losses.append(
                f"session_id of {count_of(survey.used['session_id'])} is kept as hash_ids of "
                f"whole blocks of {BLOCK_TOKENS} tokens of the prompts; that a prompt goes on "
                "from an answer is not"
            )
        for size, number in survey.hash_sizes.items():
            if BLOCK_TOKENS % size:
                losses.append(
                    f"block_hashes of {count_of(number)} with {size} tokens per hash are not kept"
                )
            elif size != BLOCK_TOKENS:
                losses.append(
                    f"block_hashes of {count_of(number)} with {size} tokens per hash are kept "
                    f"for blocks of {BLOCK_TOKENS} tokens only"
                )
        return losses

    def lines(self, requests: Iterable[RequestSpec], survey: Survey) -> Iterator[str]:
        """Yield one JSON object per request."""
        numbers = _BlockNumbers(survey.max_hash + 1)
        for spec in requests:
            whole_ms, rest = divmod(spec.arrival_us, US_PER_MS)
            time = f"{whole_ms}.{rest:03d}" if rest else f"{whole_ms}"
            hashes = ", ".join(map(str, numbers.of(spec)))
            yield (
                f'{{"timestamp": {time}, "input_length": {spec.prompt_tokens}, '
                f'"output_length": {spec.output_tokens}, "hash_ids": [{hashes}]}}\n'
            )


class _BlockNumbers:
    """Numbers of blocks; memory grows with the blocks that have a name."""

    def __init__(self, first: int) -> None:
        self._fresh = itertools.count(first)
        self._known: dict[Hashable, array[int]] = {}

    def of(self, spec: RequestSpec) -> list[int]:
        """Return the numbers of the blocks of a prompt, the last of them partial."""
        num_blocks = -(-spec.prompt_tokens // BLOCK_TOKENS)
        if spec.block_hashes is not None and BLOCK_TOKENS % spec.hash_block_tokens == 0:
            step = BLOCK_TOKENS // spec.hash_block_tokens
            last = len(spec.block_hashes) - 1
            return [spec.block_hashes[min(i + step - 1, last)] for i in range(0, last + 1, step)]
        blocks: list[int] = []
        if spec.block_hashes is None:
            for key, end in named_runs(spec):
                if key is None:
                    break
                # A known prompt ends alike wherever it is sent, in a partial block, too.
                is_whole_prompt = key == content_key(spec) and spec.session_id is None
                whole = num_blocks if is_whole_prompt else end // BLOCK_TOKENS
                blocks += self._shared(key, whole - len(blocks))
        return blocks + [next(self._fresh) for _ in range(num_blocks - len(blocks))]

    def _shared(self, key: Hashable, count: int) -> list[int]:
        known = self._known.setdefault(key, array("q"))
        known.extend(itertools.islice(self._fresh, max(count - len(known), 0)))
        return known[:count].tolist()
