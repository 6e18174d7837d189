"""The scheduler: who decodes next, and that nobody ever takes what is not there."""

from __future__ import annotations

import random

import pytest
from outrider.daemon.protocol import Limits, Sampling
from outrider.daemon.runner.scheduler import Batch, Scheduler
from outrider.daemon.runner.sequence import Sequence


def sequence(number: int, tokens: int, *, num_ctx: int = 64, num_predict: int = -1) -> Sequence:
    limits = Limits(num_predict=num_predict)
    return Sequence(number, [0] * tokens, Sampling(), limits, num_ctx)


def scheduler(
    *, slots: int = 4, cells: int = 256, rows: int = 64, prompt_rows: int = 16
) -> Scheduler:
    return Scheduler(slots=slots, cells=cells, rows=rows, prompt_rows=prompt_rows)


def decode(scheduler: Scheduler) -> Batch:
    """One step as the engine does it: evaluate the batch, draw where nothing is pending."""
    batch = scheduler.next_batch()
    drawing = [chunk.sequence for chunk in batch.chunks if chunk.is_last]
    for chunk in batch.chunks:
        chunk.sequence.cached += chunk.count
    for seq in drawing:
        seq.append(0)
    return batch


def counts(batch: Batch) -> dict[int, int]:
    return {chunk.sequence.id: chunk.count for chunk in batch.chunks}


def test_first_come_first_served() -> None:
    queue = scheduler(slots=2)
    sequences = [sequence(i, 5) for i in range(5)]
    for seq in sequences:
        queue.add(seq)
    order = []
    while queue:
        decode(queue)
        order.append([seq.id for seq in queue.running])
        queue.remove(queue.running[0])
    assert order == [[0, 1], [1, 2], [2, 3], [3, 4], [4]]


def test_there_is_work_while_somebody_waits_or_runs() -> None:
    queue = scheduler()
    assert not queue
    seq = sequence(0, 5)
    queue.add(seq)
    assert queue
    decode(queue)
    assert queue
    queue.remove(seq)
    assert not queue


def test_a_freed_slot_is_cleared_once_and_used_again() -> None:
    queue = scheduler(slots=1)
    first, second = sequence(0, 5), sequence(1, 5)
    queue.add(first)
    queue.add(second)
    assert decode(queue).freed == ()
    slot = first.slot
    queue.remove(first)
    assert (first.slot, first.cached) == (None, 0)
    assert decode(queue).freed == (slot,)
    assert second.slot == slot
    assert decode(queue).freed == ()


def test_removing_one_that_waits_frees_nothing() -> None:
    queue = scheduler(slots=1)
    first, second = sequence(0, 5), sequence(1, 5)
    queue.add(first)
    queue.add(second)
    decode(queue)
    queue.remove(second)
    assert decode(queue).freed == ()
    assert queue.running == [first]


def test_short_prompts_start_together() -> None:
    queue = scheduler()
    for i in range(4):
        queue.add(sequence(i, 5))
    assert counts(decode(queue)) == {0: 5, 1: 5, 2: 5, 3: 5}
    assert counts(decode(queue)) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_long_prompt_is_cut_into_the_rows_of_a_batch() -> None:
    queue = scheduler(rows=16)
    seq = sequence(0, 40)
    queue.add(seq)
    assert [counts(decode(queue))[0] for _ in range(4)] == [16, 16, 8, 1]
    assert len(seq.tokens) == 42, "drawn from after the last chunk, not before"


def test_beside_a_stream_a_prompt_gets_fewer_rows() -> None:
    queue = scheduler(rows=32, prompt_rows=8)
    queue.add(sequence(0, 5))
    decode(queue)
    queue.add(sequence(1, 20))
    assert [counts(decode(queue)) for _ in range(4)] == [
        {0: 1, 1: 8},
        {0: 1, 1: 8},
        {0: 1, 1: 4},
        {0: 1, 1: 1},
    ]


def test_the_older_prompt_is_served_first() -> None:
    queue = scheduler(rows=16)
    for i in range(3):
        queue.add(sequence(i, 12))
    assert counts(decode(queue)) == {0: 12, 1: 4}
    assert counts(decode(queue)) == {0: 1, 1: 8, 2: 7}


def test_streams_come_before_prompts_when_rows_are_few() -> None:
    queue = scheduler(rows=4, slots=4, prompt_rows=16)
    for i in range(3):
        queue.add(sequence(i, 1))
    decode(queue)
    queue.add(sequence(3, 9))
    assert counts(decode(queue)) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_prompt_waits_until_it_fits_beside_the_others() -> None:
    queue = scheduler(cells=64)
    first, second = sequence(0, 40), sequence(1, 30)
    queue.add(first)
    queue.add(second)
    assert counts(decode(queue)) == {0: 40}
    queue.remove(first)
    assert counts(decode(queue)) == {1: 30}


def test_nobody_overtakes_the_one_that_waits_for_room() -> None:
    queue = scheduler(cells=64)
    for seq in (sequence(0, 40), sequence(1, 30), sequence(2, 2)):
        queue.add(seq)
    decode(queue)
    assert [seq.id for seq in queue.running] == [0]
    assert [seq.id for seq in queue.waiting] == [1, 2]


def test_one_whose_prompt_fills_the_pool_runs_alone() -> None:
    queue = scheduler(cells=64)
    queue.add(sequence(0, 64))
    queue.add(sequence(1, 2))
    assert counts(decode(queue)) == {0: 64}


def test_when_the_pool_is_full_the_youngest_gives_way_and_comes_back_first() -> None:
    queue = scheduler(cells=34, slots=3)
    oldest, middle, youngest = (sequence(i, 10, num_ctx=34) for i in range(3))
    for seq in (oldest, middle, youngest):
        queue.add(seq)
    late = sequence(3, 2)
    decode(queue)
    queue.add(late)
    decode(queue)
    slot, tokens = youngest.slot, len(youngest.tokens)
    batch = decode(queue)
    assert batch.freed == (slot,)
    assert counts(batch) == {0: 1, 1: 1}
    assert (youngest.slot, youngest.cached, len(youngest.tokens)) == (None, 0, tokens)
    assert list(queue.waiting) == [youngest, late], "it stands before those who came later"
    queue.remove(oldest)
    assert counts(decode(queue)) == {1: 1, 2: tokens, 3: 2}


def test_preempt_puts_a_sequence_back_with_its_tokens() -> None:
    queue = scheduler()
    seq = sequence(0, 5)
    queue.add(seq)
    decode(queue)
    slot = seq.slot
    queue.preempt(seq)
    assert (seq.slot, seq.cached, len(seq.tokens)) == (None, 0, 6)
    batch = queue.next_batch()
    assert batch.freed == (slot,)
    assert counts(batch) == {0: 6}
    assert batch.chunks[0].is_last


def check(queue: Scheduler, batch: Batch, pool: dict[int, int], *, slots: int, cells: int) -> None:
    """`pool`: the cells that llama.cpp holds for each slot."""
    running = queue.running
    assert batch.chunks, "a step without rows would hang the engine"
    assert len({seq.slot for seq in running}) == len(running) <= slots
    assert all(seq.slot is not None and 0 <= seq.slot < slots for seq in running)
    assert all(seq.slot is None and seq.cached == 0 for seq in queue.waiting)
    assert all(0 <= seq.cached < len(seq.tokens) for seq in running)
    assert len({id(chunk.sequence) for chunk in batch.chunks}) == len(batch.chunks)
    assert all(chunk.sequence in running for chunk in batch.chunks)
    assert all(0 < chunk.count <= chunk.sequence.pending for chunk in batch.chunks)
    for slot in batch.freed:
        pool[slot] = 0
    for seq in running:
        assert seq.slot is not None
        assert pool[seq.slot] == seq.cached, "a slot is cleared before it is given on"
    for chunk in batch.chunks:
        assert chunk.sequence.slot is not None
        pool[chunk.sequence.slot] += chunk.count
    assert sum(pool.values()) <= cells


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_the_pool_holds_and_everybody_finishes(seed: int) -> None:
    rng = random.Random(seed)
    slots, num_ctx = rng.randint(1, 5), rng.randint(4, 40)
    cells, prompt_rows = rng.randint(num_ctx, num_ctx * slots), rng.randint(1, 12)
    rows = rng.randint(slots, 20)
    queue = scheduler(slots=slots, cells=cells, rows=rows, prompt_rows=prompt_rows)
    coming = [
        sequence(i, rng.randint(1, num_ctx - 1), num_ctx=num_ctx, num_predict=rng.randint(0, 60))
        for i in range(30)
    ]
    finished: list[Sequence] = []
    pool = dict.fromkeys(range(slots), 0)
    for _ in range(5000):
        if coming and rng.random() < 0.3:
            queue.add(coming.pop())
        if queue and rng.random() < 0.05:
            cancelled = rng.choice([*queue.waiting, *queue.running])
            queue.remove(cancelled)
            finished.append(cancelled)
        if queue.running and rng.random() < 0.05:
            queue.preempt(rng.choice(queue.running))
        if not queue:
            if not coming:
                break
            continue
        batch = queue.next_batch()
        decoding = [chunk for chunk in batch.chunks if chunk.count == chunk.sequence.pending == 1]
        prompts = sum(chunk.count for chunk in batch.chunks) - len(decoding)
        assert len(decoding) + prompts <= rows
        assert not decoding or prompts <= prompt_rows
        check(queue, batch, pool, slots=slots, cells=cells)
        drawing = [chunk.sequence for chunk in batch.chunks if chunk.is_last]
        for chunk in batch.chunks:
            chunk.sequence.cached += chunk.count
        for seq in drawing:
            assert seq.slot is not None
            if not seq.is_spent:
                seq.append(0)
            if seq.is_spent:
                queue.remove(seq)
                finished.append(seq)
            elif seq.is_full:
                pool[seq.slot] = 0
                seq.shift()
    assert len(finished) == 30
    assert not queue
