"""ggml's allocator, followed with sizes: what is reused, what is a hole, what lies where."""

from __future__ import annotations

import pytest
from outrider.quant.graph_buffer import ALIGNMENT, HOST, Graph, GraphTensor

pytestmark = pytest.mark.unit

UNIT = 10 * ALIGNMENT


def tensor(units: int, *parents: GraphTensor, in_place: bool = False) -> GraphTensor:
    return GraphTensor(units * UNIT, parents, is_in_place=in_place)


def units(*results: GraphTensor) -> int:
    graph = Graph()
    for result in results:
        graph.expand(result)
    return graph.buffer_bytes()[HOST] // UNIT


def test_a_chain_needs_two_tensors_at_a_time() -> None:
    first = tensor(1)
    assert units(tensor(1, tensor(1, tensor(1, first)))) == 2


def test_an_operation_in_place_needs_no_tensor() -> None:
    assert units(tensor(3, tensor(3, tensor(3), in_place=True), in_place=True)) == 3


def test_a_parent_with_another_reader_is_not_overwritten() -> None:
    source = tensor(3)
    assert units(tensor(3, tensor(3, source, in_place=True), source)) == 9


def test_an_output_is_not_overwritten_and_not_freed() -> None:
    kept = GraphTensor(3 * UNIT, is_output=True)
    assert units(tensor(3, tensor(3, kept, in_place=True))) == 9


def test_a_hole_that_is_too_small_stays_one() -> None:
    low, high = tensor(2), tensor(1)
    after = tensor(1, tensor(3, low), high)
    assert units(after) == 6, "two, one, three that have no hole yet, and one in the hole of two"


def test_the_smallest_hole_is_taken() -> None:
    large, wall, small, end = tensor(4), tensor(1), tensor(2), tensor(1)
    freed = GraphTensor(0, (large, small))
    fits = tensor(2, wall, end)
    graph = Graph()
    for node in (freed, fits, tensor(4, fits), GraphTensor(0, (wall, end))):
        graph.expand(node)
    assert graph.buffer_bytes()[HOST] == 8 * UNIT


def test_sizes_are_rounded_up() -> None:
    graph = Graph()
    graph.expand(GraphTensor(1, (GraphTensor(ALIGNMENT + 1),)))
    assert graph.buffer_bytes() == {HOST: 3 * ALIGNMENT}


def test_a_device_has_a_copy_of_what_it_reads_from_another() -> None:
    mask, rows = tensor(5), tensor(1)
    first = GraphTensor(UNIT, (rows, mask), device=0)
    second = GraphTensor(UNIT, (first, mask), device=0)
    graph = Graph()
    graph.expand(second)
    assert graph.buffer_bytes() == {HOST: 6 * UNIT, 0: 7 * UNIT}, "one copy serves both"
