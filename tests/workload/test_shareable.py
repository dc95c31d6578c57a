from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.api import load_scenario, resolve, run
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.shareable import InfinitePrefixCache
from tests.workload.builders import SHARED_TRACES, make_workload

Token = tuple[object, ...]


def make_request(prompt_tokens: int, output_tokens: int = 1, **fields: object) -> RequestSpec:
    return RequestSpec(0, 0, prompt_tokens, output_tokens)._replace(**fields)


def hits_of(requests: Iterable[RequestSpec], block_tokens: int = 16) -> list[int]:
    cache = InfinitePrefixCache(block_tokens)
    return [cache.serve(spec) for spec in requests]


def tokens_of(spec: RequestSpec) -> list[Token]:
    """Return every token that is computed: equal tokens are equal tuples."""
    answer = spec.output_tokens
    if spec.max_output_tokens is not None:
        answer = min(answer, spec.max_output_tokens)
    tokens: list[Token] = []
    for i in range(spec.prompt_tokens + max(answer - 1, 0)):
        owner = (spec.prefix_group, spec.prefix_tokens)
        in_prompt = i < spec.prompt_tokens
        if spec.block_hashes is not None:
            piece = i // spec.hash_block_tokens
            known = in_prompt and piece < len(spec.block_hashes)
            name: Token = ("hash", spec.block_hashes[piece]) if known else ("own", spec.request_id)
        elif spec.prefix_group is not None and i < spec.prefix_tokens:
            name = ("group", spec.prefix_group)
        elif spec.session_id is not None:
            name = ("session", spec.session_id, *owner)
        elif spec.prompt_id is not None and in_prompt:
            name = ("prompt", spec.prompt_id, *owner)
        else:
            name = ("own", spec.request_id)
        tokens.append((*name, i))
    return tokens


def hits_by_brute_force(requests: Iterable[RequestSpec], block_tokens: int) -> list[int]:
    """Cache the whole sequence up to the end of each full block; look up block by block."""
    cached: set[tuple[Token, ...]] = set()
    hits = []
    for spec in requests:
        tokens = tokens_of(spec)
        num_hit = 0
        for end in range(block_tokens, spec.prompt_tokens, block_tokens):
            if tuple(tokens[:end]) not in cached:
                break
            num_hit = end
        hits.append(num_hit)
        for end in range(block_tokens, len(tokens) + 1, block_tokens):
            cached.add(tuple(tokens[:end]))
    return hits


@st.composite
def named_requests(draw: st.DrawFn) -> RequestSpec:
    prompt = draw(st.integers(1, 70))
    grouped = draw(st.booleans())
    return make_request(
        prompt,
        draw(st.integers(0, 40)),
        max_output_tokens=draw(st.none() | st.integers(0, 30)),
        prefix_group=draw(st.sampled_from("gh")) if grouped else None,
        prefix_tokens=min(prompt, draw(st.sampled_from((0, 16, 20, 37)))) if grouped else 0,
        session_id=draw(st.none() | st.sampled_from("st")),
        prompt_id=draw(st.none() | st.sampled_from("pq")),
    )


@st.composite
def hashed_requests(draw: st.DrawFn) -> RequestSpec:
    """Draw a prompt of pieces; the number of a piece stands for the way to it, too."""
    path = draw(st.lists(st.integers(0, 1), max_size=4))
    numbers, number = [], 1
    for turn in path:
        number = 2 * number + turn
        numbers.append(number)
    piece_tokens = 24
    full = piece_tokens * len(path)
    return make_request(
        max(1, full + draw(st.integers(-piece_tokens + 1, 30))),
        draw(st.integers(0, 20)),
        session_id=draw(st.none() | st.just("s")),
        block_hashes=tuple(numbers),
        hash_block_tokens=piece_tokens,
    )


@given(
    st.lists(st.one_of(named_requests(), hashed_requests()), max_size=12),
    st.sampled_from((1, 4, 16)),
)
def test_hits_equal_a_search_block_by_block(
    requests: list[RequestSpec], block_tokens: int
) -> None:
    """A block hits exactly when the same tokens, from the first on, were computed before."""
    numbered = [spec._replace(request_id=i) for i, spec in enumerate(requests)]
    assert hits_of(numbered, block_tokens) == hits_by_brute_force(numbered, block_tokens)


def test_a_prompt_of_a_pool_costs_its_last_partial_block() -> None:
    """591 tokens sent again: 36 full blocks hit, 15 tokens are computed; the first of another
    question in the group finds the 6 full blocks of 100 shared tokens."""
    first = make_request(591, 247, prefix_group="g", prefix_tokens=100, prompt_id="p")
    other = first._replace(prompt_id="q")
    assert hits_of([first, first, other, other]) == [0, 591 - 15, 96, 591 - 15]


def test_at_least_one_token_is_computed() -> None:
    """Of a known prompt of whole blocks the last block does not hit."""
    prompt = make_request(32, prompt_id="p")
    assert hits_of([prompt, prompt]) == [0, 16]


@pytest.mark.parametrize(
    ("output_tokens", "limit", "hit"), [(9, None, 112), (8, None, 96), (50, 9, 112), (50, 0, 96)]
)
def test_a_round_finds_the_answer_before_but_its_last_token(
    output_tokens: int, limit: int | None, hit: int
) -> None:
    """104 prompt tokens and an answer of 9, 8 of them computed upon, fill seven blocks."""
    first = make_request(104, output_tokens, session_id="s", max_output_tokens=limit)
    second = make_request(200, session_id="s", round=1)
    assert hits_of([first, second]) == [0, hit]


def test_a_round_without_answer_leaves_its_prompt() -> None:
    """All 112 prompt tokens were computed, seven blocks."""
    first = make_request(112, 0, session_id="s")
    assert hits_of([first, make_request(200, session_id="s", round=1)]) == [0, 112]


@pytest.mark.parametrize("names", [{"prompt_id": "p"}, {"session_id": "s"}])
def test_the_same_name_behind_another_prefix_is_other_content(names: dict[str, str]) -> None:
    """Only the two blocks of the shorter prefix are the same."""
    short = make_request(160, prefix_group="g", prefix_tokens=32, **names)
    long = short._replace(prefix_tokens=64)
    other = short._replace(prefix_group="h")
    assert hits_of([short, long, other, short]) == [0, 32, 0, 144]


def test_the_first_unknown_hash_ends_the_hit() -> None:
    """Even if a hash behind it was seen, at another place."""
    prompts = [
        make_request(100, block_hashes=hashes, hash_block_tokens=32)
        for hashes in ((1, 2, 3), (4, 2, 3), (1, 5, 3), (1, 2, 6))
    ]
    assert hits_of(prompts) == [0, 0, 32, 64]


def test_requests_without_names_share_nothing() -> None:
    """The same lengths are not the same content."""
    assert hits_of([make_request(100)] * 3) == [0, 0, 0]


def test_mooncake_equals_the_count_over_its_hash_ids() -> None:
    """Leading hash ids seen before, times 32 blocks, up to all but one token."""
    path = SHARED_TRACES / "mooncake_conversation.jsonl"
    if not path.exists():
        pytest.skip("the Mooncake trace is not beside the checkout")
    seen: set[int] = set()
    expected = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        prompt, ids = row["input_length"], row["hash_ids"]
        num_known = next((i for i, one in enumerate(ids) if one not in seen), len(ids))
        expected.append(min(num_known * 32, (prompt - 1) // 16) * 16)
        seen.update(ids)
    assert hits_of(make_workload(trace=path)) == expected
    assert sum(expected) > 0


@pytest.mark.parametrize(
    "load",
    [
        {
            "num_requests": 120,
            "prompts": {
                "kind": "shared_prefix",
                "num_groups": 5,
                "num_prompts_per_group": 8,
                "system_prompt_len": 100,
                "question_len": 91,
                "output_len": 10,
            },
        },
        {
            "num_requests": 20,
            "prompt": {"kind": "uniform", "min": 20, "max": 300},
            "output": {"kind": "uniform", "min": 1, "max": 60},
            "max_output_tokens": 33,
            "sessions": {"rounds": 4, "think_time_s": 3},
        },
        {"num_requests": 50, "prompt": 50, "prefix_tokens": 77, "num_prefix_groups": 4},
    ],
    ids=["pool", "sessions", "prefix"],
)
def test_the_engine_hits_as_much(load: dict[str, Any]) -> None:
    """Requests far apart, in a pool that is never short: what is cached is what is shareable."""
    load = {"request_rate": 0.01, **load}
    expected = hits_of(make_workload(**load))
    engine = {"num_gpu_blocks_override": 100_000}
    result = run(resolve(load_scenario({"workload": load, "engine": engine})))
    assert sum(expected) > 0
    assert np.maximum(result.run.requests.cached_tokens, 0).sum() == sum(expected)
