"""Sequences: where one ends, and what a context shift removes."""

from __future__ import annotations

from array import array

import pytest
from outrider.daemon.protocol import Limits, Sampling
from outrider.daemon.runner.kv.cached_sequence import CachedSequence
from outrider.daemon.runner.sequence import Sequence, cut_middle

pytestmark = pytest.mark.unit


def sequence(tokens: int = 3, *, num_ctx: int = 16, limits: Limits | None = None) -> Sequence:
    return Sequence(0, numbers(tokens), Sampling(), limits or Limits(), num_ctx)


def numbers(count: int) -> array[int]:
    return array("i", range(count))


def evaluate(seq: Sequence, count: int) -> None:
    """Put its first `count` tokens into the KV cache."""
    seq.kv_seq = CachedSequence(0, seq.tokens[:count])


@pytest.mark.parametrize("num_ctx", [*range(4, 40), 64, 127, 512])
@pytest.mark.parametrize("num_keep", [-5, -1, 0, 1, 2, 3, 4, 5, 17, 126, 510, 512, 10_000])
def test_what_is_kept_is_as_long_as_the_contract_says(num_ctx: int, num_keep: int) -> None:
    for length in (num_ctx, num_ctx + 1, 3 * num_ctx):
        tokens = numbers(length)
        kept = cut_middle(tokens, num_keep, num_ctx)
        keep = min(max(num_keep, 0), num_ctx - 2)
        assert len(kept) == num_ctx - max((num_ctx - keep) // 2, 1)
        assert len(kept) < num_ctx, "there is room for the next token"
        assert kept[:keep] == tokens[:keep], "the beginning stays"
        assert kept[-1] == tokens[-1], "the last token stays"
        assert kept[keep:] == tokens[length - (len(kept) - keep) :], "and so does an unbroken tail"


def test_the_example_of_a_full_context_of_64() -> None:
    tokens = numbers(64)
    assert list(cut_middle(tokens, 4, 64)) == [*range(4), *range(34, 64)]
    assert tokens == numbers(64), "the tokens that were given stay as they are"


@pytest.mark.parametrize(
    ("num_predict", "limit"),
    [(0, 0), (1, 1), (159, 159), (160, 160), (161, 160), (10**9, 160), (-1, 160), (-2, 160)],
)
def test_a_sequence_ends_after_num_predict_or_ten_contexts(num_predict: int, limit: int) -> None:
    seq = sequence(num_ctx=16, limits=Limits(num_predict=num_predict))
    for token in range(limit):
        assert not seq.reached_max_tokens
        seq.append(token)
    assert seq.reached_max_tokens


def test_a_sequence_is_full_when_no_token_has_a_place() -> None:
    seq = sequence(14, num_ctx=16)
    seq.append(1)
    assert not seq.is_full
    seq.append(2)
    assert seq.is_full


def test_what_is_pending_has_not_been_evaluated() -> None:
    seq = sequence(5)
    assert (seq.cached, seq.pending, seq.num_prompt, seq.output_tokens) == (0, 5, 5, [])
    evaluate(seq, 5)
    seq.append(9)
    assert (seq.cached, seq.pending, seq.num_prompt, seq.output_tokens) == (5, 1, 5, [9])
    assert list(seq.tokens) == [0, 1, 2, 3, 4, 9]


def test_a_position_counts_every_sampled_token_shifted_or_not() -> None:
    seq = sequence(14, num_ctx=16)
    positions = []
    for token in range(20):
        positions.append(seq.position)
        seq.append(token)
        if seq.is_full:
            seq.shift()
    assert positions == list(range(14, 34))


@pytest.mark.parametrize(
    ("cached", "checkpoint_at", "room", "count"),
    [
        (0, [], 100, 20),
        (0, [], 8, 8),
        (15, [], 8, 5),
        (0, [6, 12], 100, 6),
        (0, [12, 6], 100, 6),
        (0, [12, 6], 4, 4),
        (6, [12, 6], 100, 6),
        (7, [12, 6], 100, 5),
        (12, [12, 6], 100, 8),
        (0, [0, 20, 300], 100, 20),
    ],
)
def test_a_chunk_goes_to_the_next_checkpoint_at_most(
    cached: int, checkpoint_at: list[int], room: int, count: int
) -> None:
    seq = sequence(20, num_ctx=64)
    seq.checkpoint_at = checkpoint_at
    evaluate(seq, cached)
    assert seq.next_chunk(room) == count


def test_a_shift_frees_half_and_drops_the_checkpoint_positions() -> None:
    seq = sequence(16, num_ctx=16, limits=Limits(num_keep=2))
    seq.output_tokens, seq.checkpoint_at = [14, 15], [8]
    seq.shift()
    assert list(seq.tokens) == [0, 1, *range(9, 16)]
    assert seq.checkpoint_at == []
    assert not seq.is_full
    assert seq.output_tokens == [14, 15], "what the client got still counts"
    assert seq.num_prompt == 16
