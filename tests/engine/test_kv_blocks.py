"""The KV cache in extents against one in which every block is an object of its own."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from blis_sim.engine.kv_cache import KVCache
from blis_sim.engine.request import Request

from .builders import fixed
from .test_kv_cache import SIZE, admit, make_cache, registered, release


@dataclass
class BlockCache:
    """The same cache with every block an object of its own."""

    num_blocks: int
    free: OrderedDict[int, None] = field(init=False)
    copies: dict[object, dict[int, None]] = field(default_factory=dict)
    content: dict[int, object] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    held: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.free = OrderedDict.fromkeys(range(self.num_blocks))

    @staticmethod
    def name(request: Request, j: int) -> object:
        spec = request.spec
        if spec.prefix_group is not None and (j + 1) * SIZE <= spec.prefix_tokens:
            return spec.prefix_group, j
        if spec.session_id is not None:
            return spec.session_id, spec.prefix_group, spec.prefix_tokens, j
        return request.request_id, j

    def lookup(self, request: Request) -> list[int]:
        names = (self.name(request, j) for j in range((request.num_tokens - 1) // SIZE))
        found = takewhile(len, (self.copies.get(name, {}) for name in names))
        return [next(iter(copies)) for copies in found]

    def extend(self, request: Request, hit: list[int], computed: int) -> None:
        held = self.held.setdefault(request.request_id, [])
        first_full = len(held) if not hit else len(hit)
        for block in hit:
            self.free.pop(block, None)
            self.owners[block] = self.owners.get(block, 0) + 1
        held += hit
        while len(held) < -(-computed // SIZE):
            block, _ = self.free.popitem(last=False)
            self.copies.get(self.content.pop(block, None), {}).pop(block, None)
            self.owners[block] = 1
            held.append(block)
        for j in range(max(0, first_full - 1), computed // SIZE):
            name = self.name(request, j)
            self.content[held[j]] = name
            self.copies.setdefault(name, {})[held[j]] = None

    def release(self, request: Request) -> None:
        for block in reversed(self.held.pop(request.request_id)):
            self.owners[block] -= 1
            if not self.owners[block]:
                self.free[block] = None


KINDS: list[dict[str, Any]] = [
    {},
    {"prefix_group": "g", "prefix_tokens": 9},
    {"prefix_group": "g", "prefix_tokens": 16},
    {"session_id": "s"},
    {"prefix_group": "g", "prefix_tokens": 9, "session_id": "s"},
]
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["start", "start", "grow", "grow", "preempt", "end"]),
        st.integers(0, 7),
        st.integers(1, 24),
        st.integers(0, len(KINDS) - 1),
    ),
    min_size=5,
    max_size=80,
)


@hypothesis_settings(fixed, max_examples=300)
@given(OPERATIONS, st.integers(8, 24))
def test_extents_behave_like_single_blocks(
    operations: list[tuple[str, int, int, int]], num_blocks: int
) -> None:
    """Whatever is admitted, grown, preempted and ended: the same hits, the same blocks free."""
    cache, model = make_cache(num_blocks), BlockCache(num_blocks)
    running: dict[int, Request] = {}
    preempted: dict[int, Request] = {}
    for number, (operation, slot, tokens, kind) in enumerate(operations):
        request = running.get(slot)
        if operation == "start" and request is None:
            request = preempted.pop(slot, None)
            if request is None:
                spec = {"request_id": number, "prompt_tokens": tokens + 4, **KINDS[kind]}
                request = registered(cache, **spec)
            if start_both(cache, model, request):
                running[slot] = request
            elif request.num_preemptions:
                preempted[slot] = request
        elif operation == "grow" and request is not None:
            grow_both(cache, model, request, tokens)
        elif operation == "preempt" and request is not None:
            request.num_preemptions += 1
            preempted[slot] = running.pop(slot)
            model.release(request)
            release(cache, request, keep=True)
        elif operation == "end" and request is not None:
            del running[slot]
            model.release(request)
            release(cache, request)
            cache.forget(request)
        assert cache.num_free == len(model.free)
        cache.check_integrity({r: (q, q.num_computed_tokens) for r, q in running.items()})


def start_both(cache: KVCache, model: BlockCache, request: Request) -> bool:
    """Admit a request with all its tokens where they fit; compare what it hits."""
    hit, blocks = cache.lookup(request), model.lookup(request)
    assert hit.num_blocks == len(blocks)
    assert hit.num_on_free_list == sum(block in model.free for block in blocks)
    tokens = request.num_tokens
    if -(-tokens // SIZE) - hit.num_blocks > cache.num_free - hit.num_on_free_list:
        return False
    model.extend(request, blocks, tokens)
    admit(cache, request)
    return True


def grow_both(cache: KVCache, model: BlockCache, request: Request, tokens: int) -> None:
    """Let a request generate tokens, one after the other, while blocks are there."""
    for _ in range(tokens):
        computed = request.num_computed_tokens + 1
        need = -(-computed // SIZE) + -request.num_computed_tokens // SIZE
        if need > cache.num_free:
            return
        model.extend(request, [], computed)
        cache.allocate(need, 0)
        request.num_generated += 1
        request.num_computed_tokens = computed
        cache.publish(request, computed)
