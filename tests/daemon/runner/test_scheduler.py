"""The scheduler: who decodes next, and that nobody ever takes what is not there."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable

import pytest
from fakes import FakeMemory
from outrider.daemon.protocol import Limits, Sampling
from outrider.daemon.runner.kv.prefix_cache import PrefixCache, TrimMode
from outrider.daemon.runner.scheduler import WORTH_WAITING, Chunk, Scheduler
from outrider.daemon.runner.sequence import Sequence

pytestmark = pytest.mark.unit

EVERY_RECALL = pytest.mark.parametrize("trim_mode", TrimMode)


def sequence(number: int, tokens: int, *, after: Iterable[int] = (), num_ctx: int = 64) -> Sequence:
    """A prompt like no other, but for what it comes after."""
    own = range(1000 * (number + 1), 1000 * (number + 1) + tokens)
    return Sequence(number, array("i", [*after, *own]), Sampling(), Limits(), num_ctx)


class Desk:
    """A scheduler with its cache, over memory that refuses what llama.cpp refuses."""

    def __init__(
        self,
        *,
        slots: int = 4,
        cells: int = 256,
        rows: int = 64,
        prompt_rows: int = 16,
        trim_mode: TrimMode = TrimMode.ANYWHERE,
    ) -> None:
        self.slots, self.cells, self.rows, self.prompt_rows = slots, cells, rows, prompt_rows
        window = 16 if trim_mode is TrimMode.WINDOW else 0
        seqs = slots + -(-slots // 2)
        self.memory = FakeMemory(seqs=seqs, cells=cells, trim_mode=trim_mode, window=window)
        self.cache = PrefixCache(
            self.memory, seqs=seqs, cells=cells, trim_mode=trim_mode, window=window
        )
        self.queue = Scheduler(self.cache, slots=slots, rows=rows)

    def add(self, *sequences: Sequence) -> None:
        for seq in sequences:
            self.queue.add(seq)

    @property
    def running(self) -> list[int]:
        return [seq.id for seq in self.queue.running]

    @property
    def waiting(self) -> list[int]:
        return [seq.id for seq in self.queue.waiting]

    def step(self) -> dict[int, int]:
        """One step as the engine does it, with a token for everybody; the rows of each."""
        chunks = self.queue.next_batch(lambda _: self.prompt_rows)
        rows = {chunk.sequence.id: chunk.count for chunk in chunks}
        for seq in self.decode(chunks):
            seq.append(-seq.id)
        return rows

    def decode(self, chunks: list[Chunk]) -> list[Sequence]:
        """Evaluate a batch; those whose tokens are all evaluated now."""
        drawing = [chunk.sequence for chunk in chunks if chunk.is_last]
        for chunk in chunks:
            seq, cached = chunk.sequence, chunk.sequence.cached
            tokens = seq.tokens[cached : cached + chunk.count]
            assert seq.kv_seq
            self.memory.evaluate(seq.kv_seq.seq, cached, tokens)
            self.cache.extend(seq.kv_seq, tokens)
            if seq.cached in seq.marks:
                self.cache.checkpoint(seq.kv_seq)
        return drawing

    def check(self, chunks: list[Chunk]) -> None:
        """What must be true of every batch."""
        running = self.queue.running
        assert len(running) <= self.slots
        assert len({seq.kv_seq.seq for seq in running if seq.kv_seq}) == len(running)
        assert all(seq.kv_seq is None for seq in self.queue.waiting)
        for seq in running:
            assert 0 <= seq.cached < len(seq.tokens)
            assert seq.kv_seq
            assert self.memory.tokens(seq.kv_seq.seq) == list(seq.tokens[: seq.cached])
        assert len({chunk.sequence.id for chunk in chunks}) == len(chunks)
        assert all(chunk.sequence in running for chunk in chunks)
        assert all(0 < chunk.count <= chunk.sequence.pending for chunk in chunks)
        assert all(
            not chunk.sequence.cached < mark < chunk.sequence.cached + chunk.count
            for chunk in chunks
            for mark in chunk.sequence.marks
        )
        streams = sum(chunk.sequence.pending == 1 for chunk in chunks)
        prompts = sum(chunk.count for chunk in chunks) - streams
        assert streams + prompts <= self.rows
        assert not streams or prompts <= self.prompt_rows
        assert self.cache.num_cells_used == self.memory.num_cells_used
        assert self.cache.num_cells_used + streams + prompts <= self.cells


def drain(desk: Desk, seq: Sequence, steps: int) -> int:
    """Run one sequence alone for so many draws; how many of its tokens were computed."""
    desk.add(seq)
    computed = 0
    while len(seq.output_tokens) < steps:
        computed += sum(desk.step().values())
    desk.queue.remove(seq)
    return computed


def test_first_come_first_served() -> None:
    desk = Desk(slots=2)
    desk.add(*[sequence(i, 5) for i in range(5)])
    order = []
    while desk.queue:
        desk.step()
        order.append(desk.running)
        desk.queue.remove(desk.queue.running[0])
    assert order == [[0, 1], [1, 2], [2, 3], [3, 4], [4]]


def test_there_is_work_while_somebody_waits_or_runs() -> None:
    desk = Desk()
    assert not desk.queue
    seq = sequence(0, 5)
    desk.add(seq)
    assert desk.queue
    desk.step()
    assert desk.queue
    desk.queue.remove(seq)
    assert not desk.queue


def test_removing_one_that_waits_leaves_the_others_alone() -> None:
    desk = Desk(slots=1)
    first, second = sequence(0, 5), sequence(1, 5)
    desk.add(first, second)
    desk.step()
    desk.queue.remove(second)
    assert desk.step() == {0: 1}
    assert desk.cache.num_cells_used == 6


def test_short_prompts_start_together() -> None:
    desk = Desk()
    desk.add(*[sequence(i, 5) for i in range(4)])
    assert desk.step() == {0: 5, 1: 5, 2: 5, 3: 5}
    assert desk.step() == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_long_prompt_is_cut_into_the_rows_of_a_batch() -> None:
    desk = Desk(rows=16)
    seq = sequence(0, 40)
    desk.add(seq)
    assert [desk.step()[0] for _ in range(4)] == [16, 16, 8, 1]
    assert len(seq.output_tokens) == 2, "drawn from after the last chunk, not before"


def test_beside_a_stream_a_prompt_gets_fewer_rows() -> None:
    desk = Desk(rows=32, prompt_rows=8)
    desk.add(sequence(0, 5))
    desk.step()
    desk.add(sequence(1, 20))
    assert [desk.step() for _ in range(4)] == [
        {0: 1, 1: 8},
        {0: 1, 1: 8},
        {0: 1, 1: 4},
        {0: 1, 1: 1},
    ]


def test_the_older_prompt_is_served_first() -> None:
    desk = Desk(rows=16)
    desk.add(*[sequence(i, 12) for i in range(3)])
    assert desk.step() == {0: 12, 1: 4}
    assert desk.step() == {0: 1, 1: 8, 2: 7}


def test_streams_come_before_prompts_when_rows_are_few() -> None:
    desk = Desk(rows=4)
    desk.add(*[sequence(i, 1) for i in range(3)])
    desk.step()
    desk.add(sequence(3, 9))
    assert desk.step() == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_prompt_waits_until_it_fits_beside_the_others() -> None:
    desk = Desk(cells=64)
    first, second = sequence(0, 40), sequence(1, 30)
    desk.add(first, second)
    assert desk.step() == {0: 40}
    desk.queue.remove(first)
    assert desk.step() == {1: 30}


def test_nobody_overtakes_the_one_that_waits_for_room() -> None:
    desk = Desk(cells=64)
    desk.add(sequence(0, 40), sequence(1, 30), sequence(2, 2))
    desk.step()
    assert (desk.running, desk.waiting) == ([0], [1, 2])


def test_one_whose_prompt_fills_the_pool_runs_alone() -> None:
    desk = Desk(cells=64)
    desk.add(sequence(0, 64), sequence(1, 2))
    assert desk.step() == {0: 64}


def test_when_the_pool_is_full_the_youngest_gives_way_and_comes_back_first() -> None:
    desk = Desk(cells=34, slots=3)
    oldest, middle, youngest = (sequence(i, 10, num_ctx=34) for i in range(3))
    desk.add(oldest, middle, youngest)
    late = sequence(3, 2)
    desk.step()
    desk.add(late)
    desk.step()
    tokens = youngest.tokens[:]
    assert desk.step() == {0: 1, 1: 1}
    assert (youngest.kv_seq, youngest.cached, youngest.tokens) == (None, 0, tokens)
    assert list(desk.queue.waiting) == [youngest, late], "it stands before those who came later"
    desk.queue.remove(oldest)
    assert desk.step() == {1: 1, 2: len(tokens), 3: 2}


def test_preempt_puts_a_sequence_back_and_what_it_computed_is_found_again() -> None:
    desk = Desk()
    seq = sequence(0, 5)
    desk.add(seq)
    desk.step()
    desk.queue.preempt(seq)
    assert (seq.kv_seq, len(seq.tokens), desk.waiting) == (None, 6, [0])
    assert desk.step() == {0: 1}


def test_what_a_preempted_sequence_computed_may_be_evicted() -> None:
    desk = Desk(cells=64)
    seq = sequence(0, 40)
    desk.add(seq)
    desk.step()
    desk.queue.preempt(seq)
    assert desk.cache.reserve(60)
    assert desk.step() == {0: 41}
    assert seq.num_reused == 0


def test_restart_forgets_what_was_computed() -> None:
    desk = Desk()
    seq, other = sequence(0, 5), sequence(1, 5)
    desk.add(seq)
    desk.step()
    desk.add(other)
    desk.queue.restart(seq)
    assert (seq.kv_seq, desk.waiting, desk.cache.num_cells_used) == (None, [0, 1], 0)
    assert desk.step() == {0: 6, 1: 5}


@EVERY_RECALL
def test_a_continuation_computes_only_what_is_new(trim_mode: TrimMode) -> None:
    desk = Desk(trim_mode=trim_mode)
    first = sequence(0, 20)
    drain(desk, first, 3)
    second = sequence(1, 7, after=first.tokens)
    assert drain(desk, second, 1) == 8, "its own tokens, and the last one that was drawn"
    assert second.num_reused == len(first.tokens) - 1


@EVERY_RECALL
def test_the_same_prompt_again_computes_one_token(trim_mode: TrimMode) -> None:
    desk = Desk(trim_mode=trim_mode)
    assert drain(desk, sequence(0, 100), 1) == 100
    again = sequence(0, 100)
    assert drain(desk, again, 1) == 1
    assert again.num_reused == 99


@EVERY_RECALL
def test_even_if_it_was_answered_at_length(trim_mode: TrimMode) -> None:
    desk = Desk(trim_mode=trim_mode)
    drain(desk, sequence(0, 100), 60)
    assert drain(desk, sequence(0, 100), 1) == 1


@EVERY_RECALL
def test_same_prompts_at_once_are_computed_once(trim_mode: TrimMode) -> None:
    desk = Desk(trim_mode=trim_mode)
    desk.add(*[Sequence(i, sequence(0, 100).tokens, Sampling(), Limits(), 200) for i in range(3)])
    computed = 0
    while not all(seq.output_tokens for seq in (*desk.queue.running, *desk.queue.waiting)):
        computed += sum(count for count in desk.step().values() if count > 1)
    assert computed in (100, 99), "99: for a checkpoint, the last token of the first goes alone"
    assert sorted(seq.num_reused for seq in desk.queue.running) == [0, 99, 99]


@EVERY_RECALL
def test_one_waits_for_a_prefix_that_is_being_computed_and_lets_others_pass(
    trim_mode: TrimMode,
) -> None:
    desk = Desk(rows=50, cells=600, trim_mode=trim_mode)
    system = range(80)
    first, second = (sequence(i, 90, after=system, num_ctx=300) for i in range(2))
    desk.add(first, second, sequence(2, 3))
    desk.step()
    assert (desk.running, desk.waiting) == ([0, 2], [1])
    while desk.waiting:
        before = first.cached
        desk.step()
    assert before >= 80 - WORTH_WAITING, "it did not wait in vain"
    assert before < 170, "nor until the whole prompt was computed"
    assert second.num_reused >= 80 - WORTH_WAITING
    assert desk.running == [0, 2, 1]


def test_a_short_common_prefix_is_not_waited_for() -> None:
    desk = Desk(rows=16)
    system = range(WORTH_WAITING - 1)
    desk.add(*[sequence(i, 20, after=system) for i in range(2)])
    desk.step()
    assert desk.running == [0, 1]


def test_one_that_waited_starts_when_the_other_is_cancelled() -> None:
    desk = Desk(rows=16)
    first, second = (sequence(i, 20, after=range(100), num_ctx=200) for i in range(2))
    desk.add(first, second)
    desk.step()
    assert desk.running == [0]
    desk.queue.remove(first)
    assert desk.step() == {1: 16}
    assert second.num_reused == 16


def test_a_chunk_ends_at_a_mark() -> None:
    desk = Desk(rows=50)
    seq = sequence(0, 60)
    seq.marks = [10, 59, 30]
    desk.add(seq)
    assert [desk.step()[0] for _ in range(5)] == [10, 20, 29, 1, 1]


@pytest.mark.parametrize("trim_mode", [TrimMode.WINDOW, TrimMode.END])
def test_marks_are_set_where_texts_part_and_before_the_last_token(trim_mode: TrimMode) -> None:
    desk = Desk(trim_mode=trim_mode, cells=600, rows=200)
    drain(desk, sequence(0, 100, after=range(70)), 1)
    seq = sequence(1, 100, after=range(70))
    desk.add(seq)
    rows = desk.step()
    assert set(seq.marks) == {70, 169}
    assert rows == {1: 70}
    assert seq.kv_seq
    assert [checkpoint.count for checkpoint in seq.kv_seq.checkpoints] == [70]


def test_a_parked_prefix_is_evicted_when_its_cells_are_needed() -> None:
    desk = Desk(cells=64)
    drain(desk, sequence(0, 20), 1)
    drain(desk, sequence(1, 20), 1)
    assert desk.cache.num_cells_used == 40
    drain(desk, sequence(2, 40), 1)
    assert desk.cache.num_cells_used == 60, "the older one of the two is gone"
    assert drain(desk, sequence(1, 20), 1) == 1
    assert drain(desk, sequence(0, 20), 1) == 20


def test_a_running_sequence_is_never_evicted() -> None:
    desk = Desk(cells=64)
    running = sequence(0, 30)
    desk.add(running)
    desk.step()
    assert not desk.cache.reserve(40)
    assert running.kv_seq
    assert desk.memory.tokens(running.kv_seq.seq) == list(running.tokens[:30])


class Crowd:
    """Requests that come, share prefixes, grow, are cancelled and preempted at random."""

    def __init__(self, seed: int, trim_mode: TrimMode) -> None:
        self.rng = rng = random.Random(seed)
        slots = rng.randint(1, 5)
        self.num_ctx = rng.randint(4, 200)
        self.desk = Desk(
            slots=slots,
            cells=rng.randint(self.num_ctx, self.num_ctx * slots),
            rows=rng.randint(slots, 40),
            prompt_rows=rng.randint(1, 12),
            trim_mode=trim_mode,
        )
        self.stems = [rng.choices(range(100), k=self.num_ctx) for _ in range(2)]
        self.coming = [self.request(number) for number in range(30)]
        self.num_finished = 0

    def request(self, number: int) -> Sequence:
        stem = self.rng.choice(self.stems)[: self.rng.randrange(self.num_ctx)]
        own = self.rng.choices(range(100, 200), k=self.rng.randint(0, 8))
        tokens = array("i", (stem + own)[: self.num_ctx - 1] or [1])
        limits = Limits(num_predict=self.rng.randint(0, 60))
        return Sequence(number, tokens, Sampling(), limits, self.num_ctx)

    def disturb(self) -> None:
        queue, rng = self.desk.queue, self.rng
        if self.coming and (not queue or rng.random() < 0.3):
            queue.add(self.coming.pop())
        if queue and rng.random() < 0.05:
            self.finish(rng.choice([*queue.waiting, *queue.running]))
        if queue.running and rng.random() < 0.05:
            queue.preempt(rng.choice(queue.running))
        if queue.running and rng.random() < 0.02:
            queue.restart(rng.choice(queue.running))

    def step(self) -> None:
        chunks = self.desk.queue.next_batch(lambda _: self.desk.prompt_rows)
        assert chunks, "a step without rows would hang the engine"
        self.desk.check(chunks)
        for seq in self.desk.decode(chunks):
            self.draw(seq)

    def draw(self, seq: Sequence) -> None:
        if not seq.reached_max_tokens:
            seq.append(self.rng.randrange(100))
        if seq.reached_max_tokens:
            self.finish(seq)
        elif seq.is_full:
            seq.shift()
            self.desk.queue.preempt(seq)

    def finish(self, seq: Sequence) -> None:
        self.desk.queue.remove(seq)
        self.num_finished += 1


@EVERY_RECALL
@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_the_pool_holds_and_everybody_finishes(
    seed: int, trim_mode: TrimMode
) -> None:
    crowd = Crowd(seed, trim_mode)
    for _ in range(5000):
        if not (crowd.coming or crowd.desk.queue):
            break
        crowd.disturb()
        if crowd.desk.queue:
            crowd.step()
    assert crowd.num_finished == 30
    assert crowd.desk.cache.reserve(crowd.desk.cells), "what is left are parked prefixes"
    assert crowd.desk.memory.num_cells_used == 0
