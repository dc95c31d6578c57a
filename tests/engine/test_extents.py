"""The free list against a plain list of blocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blis_sim.engine.extents import Extent, FreeList

from .builders import fixed

Block = tuple[str | None, int]


def blocks_of(free: FreeList) -> list[Block]:
    """Return the blocks from head to tail, in the order they would be taken."""
    blocks: list[Block] = []
    extent = free.end.next
    while extent is not free.end:
        blocks += [(extent.key, index) for index in reversed(range(extent.lo, extent.hi))]
        extent = extent.next
    return blocks


def test_an_extent_is_eaten_from_its_end() -> None:
    """A chain goes to the list last block first, so its start is evicted last."""
    free = FreeList()
    extent = Extent("g", 2, 6)
    free.append(extent)
    assert blocks_of(free) == [("g", 5), ("g", 4), ("g", 3), ("g", 2)]
    assert free.take(3) == []
    assert (extent.lo, extent.hi) == (2, 3)
    assert free.take(1) == [extent]
    assert free.count_blocks() == 0


def test_the_head_is_taken_before_the_tail() -> None:
    """First returned, first reused."""
    free = FreeList()
    first, second = Extent("a", 0, 2), Extent("b", 0, 2)
    free.append(first)
    free.append(second)
    assert free.take(3) == [first]
    assert blocks_of(free) == [("b", 0)]


def test_neighbouring_anonymous_blocks_are_one_extent() -> None:
    """Blocks nobody can find need no identity; what lies behind something keeps its place."""
    free = FreeList()
    free.append_anonymous(3)
    free.append_anonymous(4)
    assert free.end.next is free.end.prev
    free.append(Extent("g", 0, 1))
    free.append_anonymous(2)
    assert [key for key, _ in blocks_of(free)] == [None] * 7 + ["g"] + [None] * 2


def test_an_extent_leaves_from_the_middle() -> None:
    """A hit takes an extent out wherever it lies; the others keep their order."""
    free = FreeList()
    extents = [Extent(name, 0, 1) for name in "abc"]
    for extent in extents:
        free.append(extent)
    free.remove(extents[1])
    assert [key for key, _ in blocks_of(free)] == ["a", "c"]


def test_taking_nothing_from_an_empty_list() -> None:
    """An allocation of no blocks is none."""
    free = FreeList()
    assert free.take(0) == []
    assert free.count_blocks() == 0


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "anonymous", "take", "remove"]),
        st.integers(1, 6),
        st.integers(0, 100),
    ),
    max_size=40,
)


@fixed
@given(OPERATIONS)
def test_any_operations_agree_with_a_list_of_blocks(
    operations: list[tuple[str, int, int]],
) -> None:
    """Returning, taking and hitting leave the blocks that a plain LRU list holds."""
    free, model = FreeList(), list[Block]()
    listed: list[Extent] = []
    for number, (operation, count, choice) in enumerate(operations):
        if operation == "append":
            extent = Extent(str(number), choice, choice + count)
            free.append(extent)
            listed.append(extent)
            model += [(extent.key, index) for index in reversed(range(choice, choice + count))]
        elif operation == "anonymous":
            free.append_anonymous(count)
            model += [(None, -1)] * count
        elif operation == "take":
            wanted = min(count, len(model))
            emptied = free.take(wanted)
            listed = [extent for extent in listed if extent not in emptied]
            taken = (
                {key for key, _ in model[:wanted]} - {key for key, _ in model[wanted:]} - {None}
            )
            assert {extent.key for extent in emptied} - {None} == taken
            del model[:wanted]
        elif listed:
            extent = listed.pop(choice % len(listed))
            free.remove(extent)
            model = [block for block in model if block[0] != extent.key]
        found = [(key, -1 if key is None else index) for key, index in blocks_of(free)]
        assert found == model
        assert free.count_blocks() == len(model)
