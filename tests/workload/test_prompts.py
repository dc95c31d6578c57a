"""What requests say: the pool of prompts, and prefixes that groups share."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from blis_sim.config.lengths import LengthSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.lengths import Lengths, open_lengths
from blis_sim.workload.prompts import DrawnPrompts, PromptPool, SharedPrefix

from .builders import make_requests, make_workload

POOL: dict[str, Any] = {
    "kind": "shared_prefix",
    "num_groups": 3,
    "num_prompts_per_group": 4,
    "system_prompt_len": 100,
    "question_len": {"mean": 500, "stdev": 100},
    "output_len": {"mean": 250, "stdev": 50},
}


def lengths(mean: float, stdev: float = 0.0) -> Lengths:
    return open_lengths("x", LengthSettings(mean=mean, stdev=stdev))


def test_prompts_in_turn_go_round_the_groups() -> None:
    """Request k sends prompt k modulo the pool; neighbours are of different groups."""
    requests = make_requests(prompts=POOL, num_requests=30)
    assert [r.prompt_id for r in requests] == [f"prompt-{k % 12}" for k in range(30)]
    assert [r.prefix_group for r in requests] == [f"group-{k % 3}" for k in range(30)]


def test_a_prompt_of_the_pool_keeps_its_length() -> None:
    """Each prompt has a length of its own, always the same; answers are drawn anew."""
    requests = make_requests(prompts=POOL, num_requests=120)
    prompts = {(r.prompt_id, r.prompt_tokens) for r in requests}
    assert len(prompts) == 12
    assert len({tokens for _, tokens in prompts}) > 6
    assert len({r.output_tokens for r in requests}) > 30
    assert {r.prefix_tokens for r in requests} == {100}


def test_prompts_at_random_are_drawn_uniformly() -> None:
    """Each prompt of the pool is sent as often as the others, within 4.5 standard errors."""
    requests = make_requests(prompts={**POOL, "order": "random"}, num_requests=24_000)
    counts = Counter(r.prompt_id for r in requests)
    assert len(counts) == 12
    error = math.sqrt(24_000 * (1 / 12) * (11 / 12))
    assert max(abs(count - 2000) for count in counts.values()) < 4.5 * error
    for r in requests[:100]:
        number = int(str(r.prompt_id).removeprefix("prompt-"))
        assert r.prefix_group == f"group-{number % 3}"


def test_the_order_changes_neither_prompts_nor_answers() -> None:
    """The pool and the answers are the same in any order."""
    in_turn, random = (
        make_requests(prompts={**POOL, "order": order}, num_requests=100)
        for order in ("round_robin", "random")
    )
    pool = {r.prompt_id: r.prompt_tokens for r in in_turn}
    assert all(pool[r.prompt_id] == r.prompt_tokens for r in random)
    assert [r.output_tokens for r in in_turn] == [r.output_tokens for r in random]


def test_a_pool_without_system_prompts_has_no_prefix() -> None:
    """Prompts that begin with nothing shared are of no group."""
    requests = make_requests(prompts={**POOL, "system_prompt_len": 0}, num_requests=5)
    assert {(r.prefix_group, r.prefix_tokens) for r in requests} == {(None, 0)}
    assert requests[0].prompt_id == "prompt-0"


@pytest.mark.parametrize("is_random", [False, True])
def test_contents_do_not_depend_on_how_many_are_drawn_at_once(is_random: bool) -> None:
    """One after the other or all together: the same prompts and answers."""
    pool = PromptPool(2, 3, 10, lengths(50, 9), lengths(20, 5), is_random=is_random)
    one, all_together = pool.walk(7, ("a",)), pool.walk(7, ("a",))(9)
    contents = [one(1) for _ in range(9)]
    assert [c.prompt_tokens[0] for c in contents] == all_together.prompt_tokens.tolist()
    assert [c.output_tokens[0] for c in contents] == all_together.output_tokens.tolist()
    assert [next(iter(c.prompt_id)) for c in contents] == list(all_together.prompt_id)


def test_the_description_says_what_is_shared() -> None:
    """One line names the pool, its order and its lengths."""
    assert str(PromptPool(10, 10, 100, lengths(491), lengths(247))) == (
        "a pool of 100 prompts in turn (10 system prompts of 100 tokens, questions of "
        f"{lengths(491)}), output {lengths(247)}"
    )
    prefix = SharedPrefix(64, 3)
    assert str(DrawnPrompts(lengths(5), lengths(6), prefix)).endswith(
        "; 64 prefix tokens in 3 group(s)"
    )
    assert "drawn at random" in make_workload(prompts={**POOL, "order": "random"}).description


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        (SharedPrefix(5), ["prefix-0"]),
        (SharedPrefix(5, 2, "a/prefix"), ["a/prefix-0", "a/prefix-1"]),
        (SharedPrefix(5, 1, "docs", is_shared=True), ["docs"]),
        (SharedPrefix(5, 2, "docs", is_shared=True), ["docs-0", "docs-1"]),
    ],
)
def test_groups_have_names(prefix: SharedPrefix, names: list[str]) -> None:
    """A named group has its name, several are numbered."""
    assert prefix.group_names() == names


BAD_POOLS: list[tuple[dict[str, Any], str]] = [
    (
        {"num_groups": 10_000, "num_prompts_per_group": 10_000},
        r"prompts\.num_groups x num_prompts_per_group must be <= 10,000,000 .*got 100,000,000",
    ),
    (
        {"system_prompt_len": 0, "question_len": {"mean": 3, "stdev": 1, "min": 0}},
        r"workload\.prompts\.question_len must be >= 1 token without a system prompt; got 0",
    ),
    ({"question_len": {"mean": 5, "min": 9, "max": 12}}, r"workload\.prompts\.question_len\.mean"),
    ({"output_len": {"mean": 5, "sigma": 2.0}}, r"workload\.prompts\.output_len\.sigma must not"),
]


@pytest.mark.parametrize(("change", "match"), BAD_POOLS, ids=[m for _, m in BAD_POOLS])
def test_bad_pools_are_refused(change: dict[str, Any], match: str) -> None:
    """One line that names the setting, the constraint and the value."""
    with pytest.raises(ConfigError, match=match):
        make_workload(prompts={**POOL, **change})
