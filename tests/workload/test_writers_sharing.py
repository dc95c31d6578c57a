from __future__ import annotations

import csv
import itertools
import json
import tempfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import assume, given, settings

from blis_sim.workload.request import RequestSpec

from .written import make_stream, read, streams, write


def tokens(spec: RequestSpec, with_answer: bool = False) -> list[Hashable]:
    """Spell a prompt out, as RequestSpec defines what it shares; equal tokens are equal."""
    own = ("own", spec.request_id)
    count = spec.prompt_tokens
    if spec.block_hashes is not None:
        size = spec.hash_block_tokens
        text: list[Hashable] = [(spec.block_hashes[i // size], i) for i in range(count)]
        return text + [(own, i) for i in range(count, count + spec.output_tokens)] * with_answer
    prefix = spec.prefix_tokens if spec.prefix_group else 0
    rest: Hashable = own
    if spec.session_id is not None:
        rest = ("session", spec.session_id, spec.prefix_group, prefix)
    elif spec.prompt_id is not None:
        rest = ("prompt", spec.prompt_id, spec.prefix_group, prefix)
    answer = rest if spec.session_id is not None else own
    text = [(spec.prefix_group, i) for i in range(prefix)]
    text += [(rest, i) for i in range(prefix, count)]
    return text + [(answer, i) for i in range(count, count + spec.output_tokens)] * with_answer


def num_alike(one: Sequence[object], other: Sequence[object]) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def consistent(requests: list[RequestSpec]) -> list[RequestSpec]:
    """Leave one request of each prompt_id: the same one means the same prompt, so one length."""
    seen: set[str] = set()
    kept = []
    for spec in requests:
        if spec.prompt_id is None or spec.prompt_id not in seen:
            kept.append(spec._replace(request_id=len(kept)))
        if spec.prompt_id is not None:
            seen.add(spec.prompt_id)
    twin = kept[-1]._replace(request_id=len(kept))
    return [*kept, twin]


def all_kinds(tokens_per_unit: int) -> list[RequestSpec]:
    """Every prefix with every content at several lengths, and block hashes like fresh numbers."""
    prefixes: list[dict[str, Any]] = [{}]
    prefixes += [
        {"prefix_group": group, "prefix_tokens": units * tokens_per_unit}
        for group, units in (("g", 6), ("g", 11), ("h", 11))
    ]
    rows: list[dict[str, Any]] = []
    for prefix, units in itertools.product(prefixes, (11, 16, 26)):
        prompt = {**prefix, "prompt_tokens": units * tokens_per_unit, "output_tokens": 9}
        known = prompt | {"prompt_id": f"{units} units"}
        rows += [prompt, known, known, prompt | {"session_id": "s"}, prompt | {"session_id": "t"}]
    hashed = {"prompt_tokens": 1000, "output_tokens": 9}
    rows += [hashed | {"block_hashes": (0, 1)}, hashed | {"block_hashes": (0, 2)}]
    return make_stream(*rows)


def check_token_lists(requests: Sequence[RequestSpec]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        write(requests, path, "blis")
        csv.field_size_limit(10**7)
        with path.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
    lists = [(json.loads(row[3]), json.loads(row[4])) for row in rows]
    texts = [tokens(spec, with_answer=True) for spec in requests]
    for one, other in itertools.permutations(range(len(requests)), 2):
        # The answer of a round is part of the prompts after it.
        prompt = texts[other][: requests[other].prompt_tokens]
        listed = [*lists[one][0], *lists[one][1]]
        assert num_alike(listed, lists[other][0]) == num_alike(texts[one], prompt)


def check_hash_ids(requests: Sequence[RequestSpec]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.jsonl")
        write(requests, path)
        blocks = [json.loads(line)["hash_ids"] for line in path.read_text().splitlines()]
    texts = [tokens(spec) for spec in requests]
    for one, other in itertools.combinations(range(len(requests)), 2):
        whole = min(len(texts[one]), len(texts[other])) // 512
        alike = num_alike(blocks[one], blocks[other])
        assert min(alike, whole) == num_alike(texts[one], texts[other]) // 512
        # Behind them at most the partial block of two equal prompts is the same.
        assert alike <= whole or texts[one] == texts[other] or requests[one].block_hashes


def test_token_lists_begin_alike_exactly_as_prompts_do() -> None:
    """In the lists of BLIS, two requests share as many tokens as they do by definition."""
    check_token_lists(all_kinds(tokens_per_unit=8))


def test_hash_ids_agree_exactly_on_whole_blocks_that_are_shared() -> None:
    """In Mooncake's form, two prompts share the blocks of 512 tokens that are the same."""
    check_hash_ids(all_kinds(tokens_per_unit=100))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(requests=streams(max_tokens=200))
def test_token_lists_of_any_stream(requests: list[RequestSpec]) -> None:
    """The same whatever else the requests have, with block hashes of any size."""
    check_token_lists(consistent(requests))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(requests=streams(max_tokens=3000))
def test_hash_ids_of_any_stream(requests: list[RequestSpec]) -> None:
    """The same whatever else the requests have, with block hashes that 512 is a multiple of."""
    assume(512 % requests[0].hash_block_tokens == 0)
    check_hash_ids(consistent(requests))


def test_a_prompt_sent_again_shares_its_partial_block() -> None:
    """A known prompt has the same hash_ids each time; the prefix of a group only whole ones."""
    known = {"prompt_tokens": 1100, "prompt_id": "p", "prefix_group": "g", "prefix_tokens": 700}
    requests = make_stream(known, known, known | {"prompt_id": "q"}, {"prompt_tokens": 1100})
    with tempfile.TemporaryDirectory() as folder:
        write(requests, Path(folder, "t.jsonl"))
        first, again, sibling, stranger = (
            spec.block_hashes or () for spec in read(Path(folder, "t.jsonl"))
        )
    assert first == again
    assert num_alike(first, sibling) == 1
    assert not {*stranger} & {*first, *sibling}
    assert len({*first, *sibling, *stranger}) == 3 + 2 + 3
