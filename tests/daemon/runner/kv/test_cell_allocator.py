"""Cells: one is taken as long as anybody holds it, and shared ones count once."""

from __future__ import annotations

import random
from array import array
from collections import Counter

import pytest
from outrider.daemon.runner.kv.cell_allocator import CellAllocator

pytestmark = pytest.mark.unit


def test_taken_cells_are_different_ones() -> None:
    pool = CellAllocator(10)
    first, second = pool.take(4), pool.take(6)
    assert sorted([*first, *second]) == list(range(10))
    assert pool.num_free == 0


def test_a_shared_cell_counts_once_and_is_free_when_nobody_holds_it() -> None:
    pool = CellAllocator(10)
    cells = pool.take(6)
    pool.share(cells[:4])
    assert pool.num_free == 4
    pool.drop(cells)
    assert pool.num_free == 6, "the other holder still has its four"
    pool.drop(cells[:4])
    assert pool.num_free == 10


def test_a_freed_cell_is_given_again() -> None:
    pool = CellAllocator(3)
    pool.drop(pool.take(3)[1:2])
    assert list(pool.take(1)) == [1]


def test_no_cells_is_nothing() -> None:
    pool = CellAllocator(3)
    empty = pool.take(0)
    pool.share(empty)
    pool.drop(empty)
    assert pool.num_free == 3


def test_more_than_there_are_is_a_bug_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        CellAllocator(3).take(4)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_shared_and_dropped_the_count_is_right(seed: int) -> None:
    rng = random.Random(seed)
    pool = CellAllocator(50)
    holders: list[array[int]] = []
    for _ in range(300):
        action = rng.choice(("take", "share", "drop"))
        if action == "take":
            holders.append(pool.take(rng.randint(0, pool.num_free)))
        elif action == "share" and holders:
            cells = rng.choice(holders)
            prefix = cells[: rng.randint(0, len(cells))]
            pool.share(prefix)
            holders.append(prefix)
        elif action == "drop" and holders:
            pool.drop(holders.pop(rng.randrange(len(holders))))
        held = Counter(cell for cells in holders for cell in cells)
        assert pool.num_free == 50 - len(held)
    for cells in holders:
        pool.drop(cells)
    assert sorted(pool.take(50)) == list(range(50))
