"""Reused prefixes without weights: the fake memory refuses what would leave a wrong state."""

from __future__ import annotations

import pytest
from fakes import FakeMemory
from outrider.daemon.runner.kv import prefix_cache
from outrider.daemon.runner.kv.cached_sequence import CachedSequence
from outrider.daemon.runner.kv.prefix_cache import MIN_HOST_TOKENS, PrefixCache, TrimMode

pytestmark = pytest.mark.unit

EVERY_TRIM_MODE = pytest.mark.parametrize("trim_mode", TrimMode)
CELLS, SEQS, WINDOW = 400, 4, 16
FIRST, SECOND = list(range(100)), list(range(1000, 1100))


class FakeCacheHarness:
    """A cache over a fake memory, and what the engine does with it."""

    def __init__(self, trim_mode: TrimMode, *, host_cache_bytes: int = 0) -> None:
        window = WINDOW if trim_mode is TrimMode.WINDOW else 0
        shape = {"seqs": SEQS, "cells": CELLS, "trim_mode": trim_mode, "window": window}
        self.memory = FakeMemory(**shape, max_rollback=8)
        self.cache = PrefixCache(self.memory, **shape, host_cache_bytes=host_cache_bytes)

    def open(self, tokens: list[int]) -> tuple[CachedSequence, int]:
        """A sequence with all these tokens evaluated, and how many of them were reused."""
        kv_seq = self.cache.open(tokens)
        reused = len(kv_seq.tokens)
        self.extend(kv_seq, tokens[reused:-1])
        self.cache.checkpoint(kv_seq)
        self.extend(kv_seq, tokens[-1:])
        return kv_seq, reused

    def extend(self, kv_seq: CachedSequence, tokens: list[int], *, rejected: int = 0) -> None:
        """Evaluate tokens, and drafts that are rejected."""
        assert self.cache.reserve(len(tokens) + rejected)
        self.memory.evaluate(kv_seq.seq, len(kv_seq.tokens), [*tokens, *[-7] * rejected])
        self.cache.extend(kv_seq, tokens)
        if rejected:
            self.cache.roll_back(kv_seq)
        assert self.memory.tokens(kv_seq.seq) == list(kv_seq.tokens)
        assert self.memory.num_cells_used == self.cache.num_cells_used

    def release(self, tokens: list[int]) -> CachedSequence:
        """Evaluate a text and release it."""
        kv_seq, _ = self.open(tokens)
        self.cache.release(kv_seq)
        return kv_seq


@EVERY_TRIM_MODE
def test_a_continuation_goes_on_with_the_same_id(trim_mode: TrimMode) -> None:
    harness = FakeCacheHarness(trim_mode)
    before = harness.release(FIRST)
    kv_seq, reused = harness.open(FIRST + SECOND)
    assert (kv_seq, reused) == (before, len(FIRST))


@EVERY_TRIM_MODE
def test_a_busy_prefix_is_forked_and_costs_no_cells(trim_mode: TrimMode) -> None:
    harness = FakeCacheHarness(trim_mode)
    first, _ = harness.open(FIRST)
    fork, reused = harness.open([*FIRST, 7])
    assert (fork.seq != first.seq, reused) == (True, len(FIRST))
    assert harness.cache.num_cells_used == len(FIRST) + 1
    harness.extend(first, [8, 9])
    harness.cache.drop(first)
    harness.extend(fork, [10])
    assert list(fork.tokens) == [*FIRST, 7, 10]


@EVERY_TRIM_MODE
def test_a_fork_after_a_rollback_has_no_rejected_drafts(trim_mode: TrimMode) -> None:
    harness = FakeCacheHarness(trim_mode)
    first, _ = harness.open(FIRST)
    harness.extend(first, [500], rejected=4)
    fork, reused = harness.open([*FIRST, 500, 7])
    assert reused == len(FIRST) + 1
    harness.extend(fork, [8])
    harness.extend(first, [9])


@EVERY_TRIM_MODE
def test_a_checkpoint_before_the_last_token_serves_the_same_prompt(trim_mode: TrimMode) -> None:
    harness = FakeCacheHarness(trim_mode)
    first, _ = harness.open(FIRST)
    harness.extend(first, SECOND)  # an answer beyond the window
    harness.cache.release(first)
    assert harness.open(FIRST)[1] == len(FIRST) - 1


@EVERY_TRIM_MODE
def test_an_offloaded_sequence_comes_back_whole(trim_mode: TrimMode) -> None:
    harness = FakeCacheHarness(trim_mode, host_cache_bytes=1 << 20)
    harness.release(FIRST)
    harness.cache.offload_released()
    assert harness.cache.num_cells_used == harness.memory.num_cells_used == 0
    harness.open(SECOND)
    kv_seq, reused = harness.open([*FIRST, 7])
    assert (reused, list(kv_seq.tokens)) == (len(FIRST), [*FIRST, 7])


@pytest.mark.parametrize(("length", "reused"), [(MIN_HOST_TOKENS - 1, 0), (MIN_HOST_TOKENS, 4)])
def test_a_short_sequence_is_not_worth_a_copy(length: int, reused: int) -> None:
    harness = FakeCacheHarness(TrimMode.ANYWHERE, host_cache_bytes=1 << 20)
    harness.release(FIRST[:length])
    harness.cache.offload_released()
    assert harness.cache.reusable(FIRST) == reused


def test_seen_short_prompts_with_a_common_start_come_back_whole() -> None:
    """Chats behind one short system prompt differ in less than a screen of tokens."""
    harness = FakeCacheHarness(TrimMode.ANYWHERE, host_cache_bytes=1 << 20)
    chats = [[*FIRST[:20], *range(1000 * i, 1000 * i + 12)] for i in (1, 2, 3)]
    for chat in chats:
        harness.release([*chat, 7, 8, 9])
        harness.cache.offload_released()
    assert [harness.open(chat)[1] for chat in chats] == [len(chat) - 1 for chat in chats]


@pytest.mark.parametrize(("length", "reused"), [(9, 0), (10, 10)])
def test_a_long_copy_is_not_restored_for_few_tokens(
    length: int, reused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "RESTORE_DIVISOR", 10)
    harness = FakeCacheHarness(TrimMode.ANYWHERE, host_cache_bytes=1 << 20)
    harness.release(FIRST)
    harness.cache.offload_released()
    assert harness.open([*FIRST[:length], 7])[1] == reused


def test_a_full_host_cache_evicts_the_least_recently_used() -> None:
    harness = FakeCacheHarness(TrimMode.ANYWHERE, host_cache_bytes=2500)  # room for one copy
    for tokens in (FIRST, SECOND):
        harness.release(tokens)
        harness.cache.offload_released()
    assert [harness.cache.reusable([*tokens, 7]) for tokens in (FIRST, SECOND)] == [0, 100]


def test_the_least_recently_used_sequence_is_evicted_first() -> None:
    harness = FakeCacheHarness(TrimMode.ANYWHERE)
    for tokens in (FIRST, SECOND):
        harness.release(tokens)
    harness.cache.release(harness.open([*FIRST, 7])[0])
    assert harness.cache.reserve(CELLS - len(FIRST) - 1)
    assert [harness.cache.reusable([*tokens, 7]) for tokens in (FIRST, SECOND)] == [100, 0]


def test_without_a_free_id_a_released_sequence_makes_place() -> None:
    harness = FakeCacheHarness(TrimMode.ANYWHERE)
    texts = [[1000 * i + j for j in range(10)] for i in range(1, SEQS + 2)]
    for tokens in texts:
        harness.release(tokens)
    assert harness.cache.reusable(texts[0]) == 0
    assert all(harness.cache.reusable(tokens) == 9 for tokens in texts[1:])


def test_a_longer_text_takes_over_the_checkpoints_of_its_prefix() -> None:
    harness = FakeCacheHarness(TrimMode.END)
    first, _ = harness.open(FIRST)
    longer, _ = harness.open(FIRST)
    longer.checkpoints.clear()
    harness.extend(longer, SECOND)
    for kv_seq in (first, longer):
        harness.cache.release(kv_seq)
    assert [c.count for c in longer.checkpoints] == [len(FIRST) - 1]
    assert harness.cache.num_cells_used == len(FIRST + SECOND), "the prefix itself is dropped"
