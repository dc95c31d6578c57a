"""The KV cache: sharing, eviction order and references, block by block."""

from __future__ import annotations

from typing import Any

import pytest

from blis_sim.engine.kv_cache import UNBOUNDED, KVCache, content_of
from blis_sim.engine.request import Request
from blis_sim.errors import InvariantError

from .builders import make_request, make_spec

SIZE = 4


def make_cache(num_blocks: int = 20, *, caching: bool = True) -> KVCache:
    return KVCache(num_blocks, SIZE, enable_prefix_caching=caching)


def registered(cache: KVCache, **spec: Any) -> Request:
    request = make_request(**spec)
    cache.register(request)
    return request


def admit(cache: KVCache, request: Request, tokens: int | None = None) -> int:
    """Compute a request up to ``tokens`` (default: all it has); return the hit blocks."""
    hit = cache.lookup(request)
    computed = request.num_tokens if tokens is None else tokens
    cache.pin(request, hit, 0)
    cache.allocate(-(-computed // SIZE) - hit.num_blocks, 0)
    request.num_computed_tokens = computed
    cache.publish(request, computed)
    return hit.num_blocks


def release(cache: KVCache, request: Request, *, keep: bool = False) -> None:
    computed = request.num_computed_tokens
    cache.release(request, -(-computed // SIZE), computed, 0, keep=keep)
    request.num_computed_tokens = 0


def hits(cache: KVCache, **spec: Any) -> int:
    """Return the blocks a new request of this content would hit."""
    return cache.lookup(registered(cache, request_id=999, **spec)).num_blocks


GROUP: dict[str, Any] = {"prompt_tokens": 20, "prefix_group": "g", "prefix_tokens": 18}


# -- content ------------------------------------------------------------------


def test_private_content_has_no_identity() -> None:
    """Without group or session nobody else can ever hit a block."""
    assert content_of(make_spec(), SIZE) == ()


def test_only_full_blocks_of_a_prefix_are_shared() -> None:
    """18 shared tokens are 4 full blocks of 4; the rest of the fifth is not shared."""
    segments = content_of(make_spec(prefix_group="g", prefix_tokens=18), SIZE)
    assert [segment.end for segment in segments] == [4]
    assert content_of(make_spec(prefix_group="g", prefix_tokens=3), SIZE) == ()


def test_a_session_continues_its_prefix_without_end() -> None:
    """After the group's blocks everything, prompt and answers, belongs to the session."""
    spec = make_spec(prefix_group="g", prefix_tokens=8, session_id="s")
    assert [segment.end for segment in content_of(spec, SIZE)] == [2, UNBOUNDED]
    other = make_spec(prefix_group="h", prefix_tokens=8, session_id="s")
    assert content_of(spec, SIZE)[1].key != content_of(other, SIZE)[1].key


# -- hits ---------------------------------------------------------------------


def test_blocks_are_findable_before_their_step_runs() -> None:
    """A request admitted later in the same pass already hits what an earlier one allocated."""
    cache = make_cache()
    first = registered(cache, **GROUP)
    second = registered(cache, request_id=1, **GROUP)
    assert admit(cache, first) == 0
    assert admit(cache, second) == 4
    assert cache.num_used == 5 + 1
    cache.check_integrity({0: (first, 20), 1: (second, 20)})


def test_only_full_blocks_are_found() -> None:
    """With 10 of 18 shared tokens computed, 2 blocks are full."""
    cache = make_cache()
    admit(cache, registered(cache, **GROUP), tokens=10)
    assert hits(cache, **GROUP) == 2


def test_at_least_one_token_is_computed() -> None:
    """A prompt of 16 that is cached as a whole hits floor((16 - 1) / 4) = 3 blocks."""
    cache = make_cache()
    shared = {"prompt_tokens": 16, "prefix_group": "g", "prefix_tokens": 16}
    admit(cache, registered(cache, **shared))
    assert hits(cache, **shared) == 3
    assert hits(cache, **(shared | {"prompt_tokens": 17})) == 4


def test_another_group_or_session_hits_nothing() -> None:
    """Identity is the group or session, not the length."""
    cache = make_cache()
    admit(cache, registered(cache, **GROUP))
    assert hits(cache, **(GROUP | {"prefix_group": "h"})) == 0
    assert hits(cache, prompt_tokens=20, session_id="g") == 0
    assert hits(cache, prompt_tokens=20) == 0


def test_a_shorter_prefix_hits_its_part() -> None:
    """Of a group, 9 shared tokens hit 2 blocks of whoever shares more."""
    cache = make_cache()
    admit(cache, registered(cache, **GROUP))
    assert hits(cache, **(GROUP | {"prefix_tokens": 9})) == 2


def test_a_follow_up_hits_prompt_and_answer() -> None:
    """Prompt 10 and answer 7 leave 16 computed tokens, 4 blocks, for the next round."""
    cache = make_cache()
    first = registered(cache, prompt_tokens=10, session_id="s")
    first.num_generated = 6  # the 7th token, the last, is never stored
    admit(cache, first)
    release(cache, first)
    assert hits(cache, prompt_tokens=30, session_id="s") == 4


def test_without_caching_nothing_is_found() -> None:
    """Switched off, neither others nor a preempted request itself hit anything."""
    cache = make_cache(caching=False)
    first = registered(cache, **GROUP)
    admit(cache, first)
    release(cache, first, keep=True)
    assert admit(cache, first) == 0
    assert hits(cache, **GROUP) == 0


# -- eviction -----------------------------------------------------------------


def test_freed_blocks_stay_findable_until_reused() -> None:
    """Of 10 blocks 5 are returned; taking the other 5 first evicts nothing."""
    cache = make_cache(10)
    first = registered(cache, **GROUP)
    admit(cache, first)
    release(cache, first)
    cache.allocate(5, 0)
    assert hits(cache, **GROUP) == 4


def test_the_end_of_a_chain_is_evicted_first() -> None:
    """Returned last block first: the private fifth block goes, then 3, 2, 1, 0."""
    cache = make_cache(5)
    first = registered(cache, **GROUP)
    admit(cache, first)
    release(cache, first)
    found = []
    for _ in range(5):
        cache.allocate(1, 0)
        found.append(hits(cache, **GROUP))
    assert found == [4, 3, 2, 1, 0]


def test_a_hit_block_is_not_evicted() -> None:
    """A hit takes blocks out of the free list, so less is free than it seems."""
    cache = make_cache(10)
    first = registered(cache, **GROUP)
    admit(cache, first)
    release(cache, first)
    hit = cache.lookup(registered(cache, request_id=1, **GROUP))
    assert (hit.num_blocks, hit.num_on_free_list, cache.num_free) == (4, 4, 10)
    second = registered(cache, request_id=2, **GROUP)
    admit(cache, second)
    assert cache.num_free == 5
    cache.allocate(5, 0)
    assert hits(cache, **GROUP) == 4


def test_shared_blocks_return_with_their_last_owner() -> None:
    """References are counted: the first release frees what it alone holds."""
    cache = make_cache()
    first, second = registered(cache, **GROUP), registered(cache, request_id=1, **GROUP)
    admit(cache, first)
    admit(cache, second)
    release(cache, first)
    assert cache.num_used == 5
    cache.check_integrity({1: (second, 20)})
    release(cache, second)
    assert cache.num_used == 0


def test_a_lookup_returns_the_oldest_copy() -> None:
    """Two copies of a block: the older one is pinned, and the younger stays to be evicted."""
    cache = make_cache(10)
    spec: dict[str, Any] = {"prompt_tokens": 5, "prefix_group": "g", "prefix_tokens": 4}
    early = registered(cache, request_id=0, **spec)
    late = registered(cache, request_id=1, **spec)
    miss = cache.lookup(early)  # both looked before either computed
    for request in (early, late):
        cache.pin(request, miss, 0)
        cache.allocate(2, 0)
        request.num_computed_tokens = 5
        cache.publish(request, 5)
    release(cache, late)
    hit = cache.lookup(registered(cache, request_id=2, **spec))
    assert (hit.num_blocks, hit.num_on_free_list) == (1, 0)
    release(cache, early)
    hit = cache.lookup(registered(cache, request_id=3, **spec))
    assert hit.pieces[0][0] is not cache._index["group", "g"][-1]


def test_a_chain_that_grows_beside_another_is_younger_there() -> None:
    """Two rounds of a session at once: 0 fills block 0 first, 1 fills blocks 0 and 1, then 0
    its own block 1. The oldest copies are block 0 of request 0 and block 1 of request 1."""
    cache = make_cache()
    first, second = (
        registered(cache, request_id=number, prompt_tokens=9, session_id="s") for number in (0, 1)
    )
    miss = cache.lookup(first)
    for request, computed in ((first, 4), (second, 8)):
        cache.pin(request, miss, 0)
        cache.allocate(computed // SIZE, 0)
        request.num_computed_tokens = computed
        cache.publish(request, computed)
    cache.allocate(1, 0)
    first.num_computed_tokens = 8
    cache.publish(first, 8)
    release(cache, second)
    hit = cache.lookup(registered(cache, request_id=2, prompt_tokens=9, session_id="s"))
    assert (hit.num_blocks, hit.num_on_free_list) == (2, 1)


def test_blocks_beyond_the_first_of_a_chain_are_evicted_one_by_one() -> None:
    """Own blocks 1 and 2 of a victim lie ahead of others: taking 3 evicts them and one more."""
    cache = make_cache(6)
    victim = registered(cache, prompt_tokens=12, prefix_group="g", prefix_tokens=4)
    other = registered(cache, request_id=1, prompt_tokens=12)
    admit(cache, victim)
    admit(cache, other)
    release(cache, victim, keep=True)
    release(cache, other, keep=True)
    cache.allocate(3, 0)
    assert cache.lookup(victim).num_blocks == 0
    assert cache.lookup(other).num_blocks == 2
    cache.allocate(1, 0)
    assert cache.lookup(other).num_blocks == 2
    cache.allocate(1, 0)
    assert cache.lookup(other).num_blocks == 1


def test_more_than_is_free_cannot_be_taken() -> None:
    """Taking more is a defect of the caller and says so."""
    with pytest.raises(InvariantError, match="2 KV blocks more taken than were free"):
        make_cache(3).allocate(5, 0)


# -- a request's own blocks ---------------------------------------------------


def test_a_preempted_request_hits_its_own_blocks() -> None:
    """Prompt and generated tokens alike, as far as full blocks and the cap go."""
    cache = make_cache()
    request = registered(cache, prompt_tokens=10)
    request.num_generated = 3
    admit(cache, request)
    release(cache, request, keep=True)
    assert cache.num_used == 0
    assert hits(cache, prompt_tokens=13) == 0
    assert admit(cache, request) == 3
    cache.check_integrity({0: (request, 13)})


def test_own_blocks_are_hit_as_far_as_they_are_left() -> None:
    """Of 5 returned blocks in a pool of 5, two are reused by somebody: 3 are left."""
    cache = make_cache(5)
    request = registered(cache, prompt_tokens=20)
    admit(cache, request)
    release(cache, request, keep=True)
    cache.allocate(2, 0)
    assert cache.lookup(request).num_blocks == 3


def test_own_blocks_follow_a_shared_prefix() -> None:
    """A chain may begin in a shared prefix and go on in blocks of its own."""
    cache = make_cache()
    request = registered(cache, prompt_tokens=19, prefix_group="g", prefix_tokens=8)
    admit(cache, request)
    release(cache, request, keep=True)
    hit = cache.lookup(request)
    assert hit.num_blocks == 4
    assert [extent.key[0] for extent, _ in hit.pieces] == ["group", "own"]


def test_nothing_is_kept_of_a_request_that_ended() -> None:
    """Once it cannot come back, its private blocks are anonymous: no trace in the index."""
    cache = make_cache()
    request = registered(cache, prompt_tokens=19)
    admit(cache, request)
    release(cache, request, keep=True)
    cache.forget(request)
    assert cache._index == {}
    assert cache.num_free == 20


# -- books --------------------------------------------------------------------


def test_the_integral_counts_blocks_by_time() -> None:
    """5 blocks from 100 to 300 us and 2 more from 200 us: 5 * 200 + 2 * 100 block us."""
    cache = make_cache()
    cache.allocate(5, 5 * 100)
    cache.allocate(2, 2 * 200)
    cache.release_private(7, 300)
    assert cache.block_us == 1200


def test_the_peak_is_remembered() -> None:
    """min_free is the fewest blocks that were ever free."""
    cache = make_cache()
    cache.allocate(15, 0)
    cache.release_private(9, 0)
    assert (cache.min_free, cache.num_used) == (5, 6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda cache: setattr(cache, "num_free", 3), "3 counted free"),
        (lambda cache: cache._free.append_anonymous(1), "do not add up to 20"),
        (lambda cache: setattr(cache._index["group", "g"][0], "refs", 2), "owners as refs"),
    ],
)
def test_integrity_check_finds_lost_blocks(spoil: Any, message: str) -> None:
    """A block lost, doubled or wrongly referenced is an InvariantError."""
    cache = make_cache()
    request = registered(cache, **GROUP)
    admit(cache, request)
    cache.check_integrity({0: (request, 20)})
    spoil(cache)
    with pytest.raises(InvariantError, match=message):
        cache.check_integrity({0: (request, 20)})
