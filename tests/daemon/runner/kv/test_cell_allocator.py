"""Cells: one is in use as long as a sequence refers to it, and a shared one counts once."""

from __future__ import annotations

import random
from array import array
from collections import Counter

import pytest
from outrider.daemon.runner.kv.cell_allocator import CellAllocator

pytestmark = pytest.mark.unit


def test_allocated_cells_are_different_ones() -> None:
    allocator = CellAllocator(10)
    first, second = allocator.allocate(4), allocator.allocate(6)
    assert sorted([*first, *second]) == list(range(10))
    assert allocator.num_free == 0


def test_a_shared_cell_counts_once_and_is_free_after_its_last_reference() -> None:
    allocator = CellAllocator(10)
    cells = allocator.allocate(6)
    allocator.share(cells[:4])
    assert allocator.num_free == 4
    allocator.free(cells)
    assert allocator.num_free == 6, "the other reference keeps its four"
    allocator.free(cells[:4])
    assert allocator.num_free == 10


def test_a_freed_cell_is_given_again() -> None:
    allocator = CellAllocator(3)
    allocator.free(allocator.allocate(3)[1:2])
    assert list(allocator.allocate(1)) == [1]


def test_no_cells_is_nothing() -> None:
    allocator = CellAllocator(3)
    empty = allocator.allocate(0)
    allocator.share(empty)
    allocator.free(empty)
    assert allocator.num_free == 3


def test_more_than_there_are_is_a_bug_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        CellAllocator(3).allocate(4)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_shared_and_freed_the_count_is_right(seed: int) -> None:
    rng = random.Random(seed)
    allocator = CellAllocator(50)
    references: list[array[int]] = []
    for _ in range(300):
        action = rng.choice(("allocate", "share", "free"))
        if action == "allocate":
            references.append(allocator.allocate(rng.randint(0, allocator.num_free)))
        elif action == "share" and references:
            cells = rng.choice(references)
            prefix = cells[: rng.randint(0, len(cells))]
            allocator.share(prefix)
            references.append(prefix)
        elif action == "free" and references:
            allocator.free(references.pop(rng.randrange(len(references))))
        used = Counter(cell for cells in references for cell in cells)
        assert allocator.num_free == 50 - len(used)
    for cells in references:
        allocator.free(cells)
    assert sorted(allocator.allocate(50)) == list(range(50))
