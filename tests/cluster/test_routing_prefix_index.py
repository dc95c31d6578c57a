"""The gateway's index of sent prompts, against one that keeps every block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.cluster.asked import Asked
from blis_sim.cluster.routing.prefix_index import PrefixIndex
from tests.cluster.fake_candidates import make_asked
from tests.engine.builders import fixed

BLOCK = 4


class BlockByBlock:
    """The same index for one instance, in which each block is an entry."""

    def __init__(self, capacity_blocks: int) -> None:
        self.capacity_blocks = capacity_blocks
        self.blocks: OrderedDict[Hashable, None] = OrderedDict()
        self.num_private = 0

    def names(self, asked: Asked) -> list[Hashable]:
        """Return what identifies each full block; None where it is private."""
        content = asked.content(BLOCK)
        names: list[Hashable] = []
        for number in range(asked.prompt_tokens // BLOCK):
            keys = [key for key, end in content if number < end]
            names.append((keys[0], number) if keys else None)
        return names

    def add(self, asked: Asked) -> None:
        for name in reversed(self.names(asked)):
            if name is None:
                self.num_private += 1
            self.blocks.pop(name, None)
            self.blocks[("private", self.num_private) if name is None else name] = None
        while len(self.blocks) > self.capacity_blocks:
            self.blocks.popitem(last=False)

    def matched_blocks(self, asked: Asked) -> int:
        matched = 0
        for name in self.names(asked):
            if name is None or name not in self.blocks:
                break
            matched += 1
        return matched


def pieces(path: tuple[int, ...], rest_tokens: int) -> Asked:
    """Return a prompt of two-block pieces, each named after all before it, and a private rest.

    The rest is a hash of its own piece, which no other prompt has.
    """
    if not path:
        return make_asked(prompt_tokens=max(rest_tokens, 1))
    names = tuple(_number(path[: end + 1]) for end in range(len(path)))
    return make_asked(
        prompt_tokens=len(path) * 2 * BLOCK + rest_tokens,
        block_hashes=names,
        hash_block_tokens=2 * BLOCK,
    )


def _number(path: tuple[int, ...]) -> int:
    number = 1
    for step in path:
        number = number * 4 + step
    return number


trees = st.builds(
    pieces,
    st.lists(st.integers(0, 2), max_size=4).map(tuple),
    st.integers(0, 3 * BLOCK),
)
sharing = st.builds(
    make_asked,
    prompt_tokens=st.integers(30, 60),
    prefix_group=st.sampled_from([None, "g", "h"]),
    prefix_tokens=st.integers(0, 30),
    session_id=st.sampled_from([None, None, "s", "t"]),
    prompt_id=st.sampled_from([None, "p", "q"]),
)
"""Groups with prefixes of several lengths, sessions whose prompts also get shorter."""


@fixed
@given(capacity=st.integers(1, 40), sent=st.lists(trees | sharing, max_size=30))
def test_runs_of_blocks_are_forgotten_as_single_blocks_would_be(
    capacity: int, sent: list[Asked]
) -> None:
    """Matches and sizes are those of an LRU list of blocks, the last of a prompt oldest."""
    index, reference = PrefixIndex(capacity), BlockByBlock(capacity)
    for asked in sent:
        assert index.matched_blocks(asked, 0, BLOCK) == reference.matched_blocks(asked)
        index.add(asked, 0, BLOCK)
        reference.add(asked)
        assert index.matched_blocks(asked, 0, BLOCK) == reference.matched_blocks(asked)
        assert index.num_blocks(0) == len(reference.blocks)
        index.check_integrity()


def test_only_the_prompts_full_blocks_are_known() -> None:
    """A session's next prompt contains an answer that the gateway never sent."""
    index = PrefixIndex(100)
    index.add(make_asked(prompt_tokens=10, session_id="s"), 0, BLOCK)
    assert index.num_blocks(0) == 2
    longer = make_asked(prompt_tokens=40, session_id="s", round=1)
    assert index.matched_blocks(longer, 0, BLOCK) == 2
    index.add(longer, 0, BLOCK)
    assert index.num_blocks(0) == 10
    assert index.matched_blocks(make_asked(prompt_tokens=23, session_id="s"), 0, BLOCK) == 5


def test_a_prefix_outlives_what_followed_it() -> None:
    """6 blocks of a prefix, then 3 of its session: 2 more blocks push out the session's end."""
    index = PrefixIndex(9)
    asked = make_asked(prompt_tokens=36, prefix_group="g", prefix_tokens=24, session_id="s")
    index.add(asked, 0, BLOCK)
    assert index.matched_blocks(asked, 0, BLOCK) == 9
    index.add(make_asked(prompt_tokens=8), 0, BLOCK)
    assert index.matched_blocks(asked, 0, BLOCK) == 7


def test_what_is_sent_again_is_kept_longer() -> None:
    """Of two prompts of 4 blocks the one sent again stays when 4 more come."""
    index = PrefixIndex(8)
    one = make_asked(prompt_tokens=16, prompt_id="one")
    two = make_asked(prompt_tokens=16, prompt_id="two")
    for asked in (one, two, one, make_asked(prompt_tokens=16)):
        index.add(asked, 0, BLOCK)
    assert index.matched_blocks(one, 0, BLOCK) == 4
    assert index.matched_blocks(two, 0, BLOCK) == 0


def test_instances_are_remembered_apart() -> None:
    """One is forgotten without the other; block sizes may differ."""
    index = PrefixIndex(100)
    asked = make_asked(prompt_tokens=32, prompt_id="p")
    index.add(asked, 0, BLOCK)
    index.add(asked, 3, 2 * BLOCK)
    assert [index.num_blocks(instance) for instance in (0, 1, 3)] == [8, 0, 4]
    index.forget(0)
    index.forget(1)
    assert index.matched_blocks(asked, 0, BLOCK) == 0
    assert index.matched_blocks(asked, 3, 2 * BLOCK) == 4


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_private_prompts_take_up_room_as_a_number(num_prompts: int) -> None:
    """A million blocks each, at once."""
    index = PrefixIndex(2_500_000)
    for _ in range(num_prompts):
        index.add(make_asked(prompt_tokens=4_000_000), 0, BLOCK)
    assert index.num_blocks(0) == min(1_000_000 * num_prompts, 2_500_000)
    index.check_integrity()
