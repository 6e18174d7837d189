"""The scheduler: which sequences are in the next batch, and no more cells than there are."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable

import pytest
from fakes import FakeMemory
from outrider.daemon.protocol import Limits, Sampling
from outrider.daemon.runner.kv.prefix_cache import PrefixCache, TrimMode
from outrider.daemon.runner.scheduler import MIN_SHARED_TOKENS, Chunk, Scheduler
from outrider.daemon.runner.sequence import Sequence

pytestmark = pytest.mark.unit

EVERY_TRIM_MODE = pytest.mark.parametrize("trim_mode", TrimMode)


def sequence(number: int, tokens: int, *, after: Iterable[int] = (), num_ctx: int = 64) -> Sequence:
    """A prompt whose tokens no other has, except for those of `after`."""
    own = range(1000 * (number + 1), 1000 * (number + 1) + tokens)
    return Sequence(number, array("i", [*after, *own]), Sampling(), Limits(), num_ctx)


class SchedulerHarness:
    """A scheduler with its cache, over a fake memory with the rules of llama.cpp."""

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
        self.scheduler = Scheduler(self.cache, slots=slots, rows=rows)

    def add(self, *sequences: Sequence) -> None:
        for seq in sequences:
            self.scheduler.add(seq)

    @property
    def running(self) -> list[int]:
        return [seq.id for seq in self.scheduler.running]

    @property
    def waiting(self) -> list[int]:
        return [seq.id for seq in self.scheduler.waiting]

    def step(self) -> dict[int, int]:
        """One step as the engine does it, with a token for each stream; the rows by id."""
        chunks = self.scheduler.next_batch(lambda _: self.prompt_rows)
        rows = {chunk.sequence.id: chunk.count for chunk in chunks}
        for seq in self.decode(chunks):
            seq.append(-seq.id)
        return rows

    def decode(self, chunks: list[Chunk]) -> list[Sequence]:
        """Evaluate a batch; the sequences without pending tokens."""
        drawing = [chunk.sequence for chunk in chunks if chunk.is_last]
        for chunk in chunks:
            seq, cached = chunk.sequence, chunk.sequence.cached
            tokens = seq.tokens[cached : cached + chunk.count]
            assert seq.kv_seq
            self.memory.evaluate(seq.kv_seq.seq, cached, tokens)
            self.cache.extend(seq.kv_seq, tokens)
            if seq.cached in seq.checkpoint_at:
                self.cache.checkpoint(seq.kv_seq)
        return drawing

    def check(self, chunks: list[Chunk]) -> None:
        """What must be true of every batch."""
        running = self.scheduler.running
        assert len(running) <= self.slots
        assert len({seq.kv_seq.seq for seq in running if seq.kv_seq}) == len(running)
        assert all(seq.kv_seq is None for seq in self.scheduler.waiting)
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
            for mark in chunk.sequence.checkpoint_at
        )
        streams = sum(chunk.sequence.pending == 1 for chunk in chunks)
        prompts = sum(chunk.count for chunk in chunks) - streams
        assert streams + prompts <= self.rows
        assert not streams or prompts <= self.prompt_rows
        assert self.cache.num_cells_used == self.memory.num_cells_used
        assert self.cache.num_cells_used + streams + prompts <= self.cells


def drain(harness: SchedulerHarness, seq: Sequence, steps: int) -> int:
    """Run one sequence alone for so many draws; how many of its tokens were computed."""
    harness.add(seq)
    computed = 0
    while len(seq.output_tokens) < steps:
        computed += sum(harness.step().values())
    harness.scheduler.remove(seq)
    return computed


def test_first_come_first_served() -> None:
    harness = SchedulerHarness(slots=2)
    harness.add(*[sequence(i, 5) for i in range(5)])
    order = []
    while harness.scheduler:
        harness.step()
        order.append(harness.running)
        harness.scheduler.remove(harness.scheduler.running[0])
    assert order == [[0, 1], [1, 2], [2, 3], [3, 4], [4]]


def test_there_is_work_while_a_request_waits_or_runs() -> None:
    harness = SchedulerHarness()
    assert not harness.scheduler
    seq = sequence(0, 5)
    harness.add(seq)
    assert harness.scheduler
    harness.step()
    assert harness.scheduler
    harness.scheduler.remove(seq)
    assert not harness.scheduler


def test_removing_a_waiting_request_changes_no_other() -> None:
    harness = SchedulerHarness(slots=1)
    first, second = sequence(0, 5), sequence(1, 5)
    harness.add(first, second)
    harness.step()
    harness.scheduler.remove(second)
    assert harness.step() == {0: 1}
    assert harness.cache.num_cells_used == 6


def test_short_prompts_start_together() -> None:
    harness = SchedulerHarness()
    harness.add(*[sequence(i, 5) for i in range(4)])
    assert harness.step() == {0: 5, 1: 5, 2: 5, 3: 5}
    assert harness.step() == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_long_prompt_is_cut_into_the_rows_of_a_batch() -> None:
    harness = SchedulerHarness(rows=16)
    seq = sequence(0, 40)
    harness.add(seq)
    assert [harness.step()[0] for _ in range(4)] == [16, 16, 8, 1]
    assert len(seq.output_tokens) == 2, "sampled after the last chunk, not before"


def test_beside_a_stream_a_prompt_gets_fewer_rows() -> None:
    harness = SchedulerHarness(rows=32, prompt_rows=8)
    harness.add(sequence(0, 5))
    harness.step()
    harness.add(sequence(1, 20))
    assert [harness.step() for _ in range(4)] == [
        {0: 1, 1: 8},
        {0: 1, 1: 8},
        {0: 1, 1: 4},
        {0: 1, 1: 1},
    ]


def test_the_older_prompt_is_served_first() -> None:
    harness = SchedulerHarness(rows=16)
    harness.add(*[sequence(i, 12) for i in range(3)])
    assert harness.step() == {0: 12, 1: 4}
    assert harness.step() == {0: 1, 1: 8, 2: 7}


def test_streams_come_before_prompts_when_rows_are_few() -> None:
    harness = SchedulerHarness(rows=4)
    harness.add(*[sequence(i, 1) for i in range(3)])
    harness.step()
    harness.add(sequence(3, 9))
    assert harness.step() == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_prompt_waits_until_it_fits_beside_the_others() -> None:
    harness = SchedulerHarness(cells=64)
    first, second = sequence(0, 40), sequence(1, 30)
    harness.add(first, second)
    assert harness.step() == {0: 40}
    harness.scheduler.remove(first)
    assert harness.step() == {1: 30}


def test_no_request_overtakes_one_that_waits_for_cells() -> None:
    harness = SchedulerHarness(cells=64)
    harness.add(sequence(0, 40), sequence(1, 30), sequence(2, 2))
    harness.step()
    assert (harness.running, harness.waiting) == ([0], [1, 2])


def test_a_prompt_that_needs_all_cells_runs_alone() -> None:
    harness = SchedulerHarness(cells=64)
    harness.add(sequence(0, 64), sequence(1, 2))
    assert harness.step() == {0: 64}


def test_without_cells_the_youngest_is_preempted_and_resumed_first() -> None:
    harness = SchedulerHarness(cells=34, slots=3)
    oldest, middle, youngest = (sequence(i, 10, num_ctx=34) for i in range(3))
    harness.add(oldest, middle, youngest)
    late = sequence(3, 2)
    harness.step()
    harness.add(late)
    harness.step()
    tokens = youngest.tokens[:]
    assert harness.step() == {0: 1, 1: 1}
    assert (youngest.kv_seq, youngest.cached, youngest.tokens) == (None, 0, tokens)
    assert list(harness.scheduler.waiting) == [youngest, late], "it comes before later requests"
    harness.scheduler.remove(oldest)
    assert harness.step() == {1: 1, 2: len(tokens), 3: 2}


def test_preempt_puts_a_sequence_back_and_what_it_computed_is_found_again() -> None:
    harness = SchedulerHarness()
    seq = sequence(0, 5)
    harness.add(seq)
    harness.step()
    harness.scheduler.preempt(seq)
    assert (seq.kv_seq, len(seq.tokens), harness.waiting) == (None, 6, [0])
    assert harness.step() == {0: 1}


def test_what_a_preempted_sequence_computed_may_be_evicted() -> None:
    harness = SchedulerHarness(cells=64)
    seq = sequence(0, 40)
    harness.add(seq)
    harness.step()
    harness.scheduler.preempt(seq)
    assert harness.cache.reserve(60)
    assert harness.step() == {0: 41}
    assert seq.num_reused == 0


def test_restart_forgets_what_was_computed() -> None:
    harness = SchedulerHarness()
    seq, other = sequence(0, 5), sequence(1, 5)
    harness.add(seq)
    harness.step()
    harness.add(other)
    harness.scheduler.restart(seq)
    assert (seq.kv_seq, harness.waiting, harness.cache.num_cells_used) == (None, [0, 1], 0)
    assert harness.step() == {0: 6, 1: 5}


@EVERY_TRIM_MODE
def test_a_continuation_computes_only_what_is_new(trim_mode: TrimMode) -> None:
    harness = SchedulerHarness(trim_mode=trim_mode)
    first = sequence(0, 20)
    drain(harness, first, 3)
    second = sequence(1, 7, after=first.tokens)
    assert drain(harness, second, 1) == 8, "its own tokens, and the last sampled one"
    assert second.num_reused == len(first.tokens) - 1


@EVERY_TRIM_MODE
def test_the_same_prompt_again_computes_one_token(trim_mode: TrimMode) -> None:
    harness = SchedulerHarness(trim_mode=trim_mode)
    assert drain(harness, sequence(0, 100), 1) == 100
    again = sequence(0, 100)
    assert drain(harness, again, 1) == 1
    assert again.num_reused == 99


@EVERY_TRIM_MODE
def test_the_same_prompt_after_a_long_answer_computes_one_token(trim_mode: TrimMode) -> None:
    harness = SchedulerHarness(trim_mode=trim_mode)
    drain(harness, sequence(0, 100), 60)
    assert drain(harness, sequence(0, 100), 1) == 1


@EVERY_TRIM_MODE
def test_same_prompts_at_once_are_computed_once(trim_mode: TrimMode) -> None:
    harness = SchedulerHarness(trim_mode=trim_mode)
    harness.add(
        *[Sequence(i, sequence(0, 100).tokens, Sampling(), Limits(), 200) for i in range(3)]
    )
    computed = 0
    while not all(
        seq.output_tokens for seq in (*harness.scheduler.running, *harness.scheduler.waiting)
    ):
        computed += sum(count for count in harness.step().values() if count > 1)
    assert computed in (100, 99), "99: for a checkpoint, the last token of the first goes alone"
    assert sorted(seq.num_reused for seq in harness.scheduler.running) == [0, 99, 99]


@EVERY_TRIM_MODE
def test_a_request_waits_for_a_prefix_that_is_being_computed_and_others_overtake(
    trim_mode: TrimMode,
) -> None:
    harness = SchedulerHarness(rows=50, cells=600, trim_mode=trim_mode)
    system = range(80)
    first, second = (sequence(i, 90, after=system, num_ctx=300) for i in range(2))
    harness.add(first, second, sequence(2, 3))
    harness.step()
    assert (harness.running, harness.waiting) == ([0, 2], [1])
    while harness.waiting:
        before = first.cached
        harness.step()
    assert before >= 80 - MIN_SHARED_TOKENS, "the wait saved tokens"
    assert before < 170, "nor until the whole prompt was computed"
    assert second.num_reused >= 80 - MIN_SHARED_TOKENS
    assert harness.running == [0, 2, 1]


def test_a_short_common_prefix_is_not_waited_for() -> None:
    harness = SchedulerHarness(rows=16)
    system = range(MIN_SHARED_TOKENS - 1)
    harness.add(*[sequence(i, 20, after=system) for i in range(2)])
    harness.step()
    assert harness.running == [0, 1]


def test_a_waiting_request_starts_when_the_other_is_cancelled() -> None:
    harness = SchedulerHarness(rows=16)
    first, second = (sequence(i, 20, after=range(100), num_ctx=200) for i in range(2))
    harness.add(first, second)
    harness.step()
    assert harness.running == [0]
    harness.scheduler.remove(first)
    assert harness.step() == {1: 16}
    assert second.num_reused == 16


def test_a_chunk_ends_where_a_checkpoint_is_due() -> None:
    harness = SchedulerHarness(rows=50)
    seq = sequence(0, 60)
    seq.checkpoint_at = [10, 59, 30]
    harness.add(seq)
    assert [harness.step()[0] for _ in range(5)] == [10, 20, 29, 1, 1]


@pytest.mark.parametrize("trim_mode", [TrimMode.WINDOW, TrimMode.END])
def test_checkpoints_are_due_at_branching_points_and_before_the_last_token(
    trim_mode: TrimMode,
) -> None:
    harness = SchedulerHarness(trim_mode=trim_mode, cells=600, rows=200)
    drain(harness, sequence(0, 100, after=range(70)), 1)
    seq = sequence(1, 100, after=range(70))
    harness.add(seq)
    rows = harness.step()
    assert set(seq.checkpoint_at) == {70, 169}
    assert rows == {1: 70}
    assert seq.kv_seq
    assert [checkpoint.count for checkpoint in seq.kv_seq.checkpoints] == [70]


def test_a_released_prefix_is_evicted_when_its_cells_are_needed() -> None:
    harness = SchedulerHarness(cells=64)
    drain(harness, sequence(0, 20), 1)
    drain(harness, sequence(1, 20), 1)
    assert harness.cache.num_cells_used == 40
    drain(harness, sequence(2, 40), 1)
    assert harness.cache.num_cells_used == 60, "the older one of the two is gone"
    assert drain(harness, sequence(1, 20), 1) == 1
    assert drain(harness, sequence(0, 20), 1) == 20


def test_a_running_sequence_is_never_evicted() -> None:
    harness = SchedulerHarness(cells=64)
    running = sequence(0, 30)
    harness.add(running)
    harness.step()
    assert not harness.cache.reserve(40)
    assert running.kv_seq
    assert harness.memory.tokens(running.kv_seq.seq) == list(running.tokens[:30])


class RandomLoad:
    """Requests that come, share prefixes, grow, are cancelled and preempted at random."""

    def __init__(self, seed: int, trim_mode: TrimMode) -> None:
        self.rng = rng = random.Random(seed)
        slots = rng.randint(1, 5)
        self.num_ctx = rng.randint(4, 200)
        self.harness = SchedulerHarness(
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
        scheduler, rng = self.harness.scheduler, self.rng
        if self.coming and (not scheduler or rng.random() < 0.3):
            scheduler.add(self.coming.pop())
        if scheduler and rng.random() < 0.05:
            self.finish(rng.choice([*scheduler.waiting, *scheduler.running]))
        if scheduler.running and rng.random() < 0.05:
            scheduler.preempt(rng.choice(scheduler.running))
        if scheduler.running and rng.random() < 0.02:
            scheduler.restart(rng.choice(scheduler.running))

    def step(self) -> None:
        chunks = self.harness.scheduler.next_batch(lambda _: self.harness.prompt_rows)
        assert chunks, "a step without rows would hang the engine"
        self.harness.check(chunks)
        for seq in self.harness.decode(chunks):
            self.draw(seq)

    def draw(self, seq: Sequence) -> None:
        if not seq.reached_max_tokens:
            seq.append(self.rng.randrange(100))
        if seq.reached_max_tokens:
            self.finish(seq)
        elif seq.is_full:
            seq.shift()
            self.harness.scheduler.preempt(seq)

    def finish(self, seq: Sequence) -> None:
        self.harness.scheduler.remove(seq)
        self.num_finished += 1


@EVERY_TRIM_MODE
@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_the_cells_suffice_and_all_requests_finish(
    seed: int, trim_mode: TrimMode
) -> None:
    load = RandomLoad(seed, trim_mode)
    for _ in range(5000):
        if not (load.coming or load.harness.scheduler):
            break
        load.disturb()
        if load.harness.scheduler:
            load.step()
    assert load.num_finished == 30
    assert load.harness.cache.reserve(load.harness.cells), "only released prefixes are left"
    assert load.harness.memory.num_cells_used == 0
