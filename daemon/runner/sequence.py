"""What one request is while it decodes: its tokens, how many are evaluated, and its limits."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from ..chat.parse.parser import ContentParser, OutputParser
from ..protocol import Limits, Sampling
from .kv.cached_sequence import CachedSequence
from .sampling.grammar import Grammar

YOUNG_TOKENS = 4


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and what was drawn after it.

    Invariant: 0 <= cached <= len(tokens) <= num_ctx. A running sequence has a holding in the KV
    cache with its first `cached` tokens; the others are `pending`. Nothing tells a prompt chunk
    from a decode row but the number of pending tokens.
    """

    id: int
    tokens: array[int]
    sampling: Sampling
    limits: Limits
    num_ctx: int
    num_logprobs: int | None = None  # None: not asked for
    draft_limit: int | None = None  # guesses at a time; None: as many as pay
    draft_fixed: int | None = None  # so many guesses, whether they pay or not
    grammar: Grammar | None = None
    parser: OutputParser = field(default_factory=ContentParser)
    num_prompt: int = 0
    num_reused: int = 0  # prompt tokens that the KV cache had already
    output_tokens: list[int] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # where a checkpoint is worth its memory
    kv_seq: CachedSequence | None = None

    def __post_init__(self) -> None:
        self.num_prompt = len(self.tokens)

    @property
    def cached(self) -> int:
        """Tokens that the KV cache holds."""
        return len(self.kv_seq.tokens) if self.kv_seq else 0

    @property
    def pending(self) -> int:
        """Tokens that the model has not seen yet."""
        return len(self.tokens) - self.cached

    @property
    def is_decoding(self) -> bool:
        """Whether its next step evaluates one token that was drawn."""
        return self.pending == 1 and bool(self.output_tokens)

    @property
    def past_first_token(self) -> bool:
        """Whether a reader would see it stutter.

        The requests of a burst arrive one by one; those first served let the others catch up.
        """
        return self.pending == 1 and len(self.output_tokens) >= YOUNG_TOKENS

    @property
    def position(self) -> int:
        """Where the next token stands in the whole text, shifted or not."""
        return self.num_prompt + len(self.output_tokens)

    @property
    def is_full(self) -> bool:
        """Whether no further token has a place in the context."""
        return len(self.tokens) >= self.num_ctx

    @property
    def num_left(self) -> int:
        """Tokens that may still be drawn."""
        limit = 10 * self.num_ctx  # CONTRACT 1.4
        if 0 <= self.limits.num_predict < limit:
            limit = self.limits.num_predict
        return limit - len(self.output_tokens)

    @property
    def reached_max_tokens(self) -> bool:
        """Whether the number of tokens that the client asked for is drawn."""
        return self.num_left <= 0

    def append(self, token: int) -> None:
        """Take a token that was drawn."""
        self.tokens.append(token)
        self.output_tokens.append(token)

    def next_chunk(self, room: int) -> int:
        """How many pending tokens go into the next batch: at most `room`, and not across a mark."""
        cached = self.cached
        ahead = (mark - cached for mark in self.marks if mark > cached)
        return min(self.pending, room, min(ahead, default=room))

    def shift(self) -> None:
        """Forget the middle: keep the first tokens and the newer half of the rest.

        The kept tokens are evaluated again, so the text is exactly what the model says to them
        (a shifted KV cache would only approximate that, GUIDE 5.3).
        """
        self.tokens = cut_middle(self.tokens, self.limits.num_keep, self.num_ctx)
        self.marks = []


def cut_middle(tokens: array[int], num_keep: int, num_ctx: int) -> array[int]:
    """The first `num_keep` tokens and a tail, as Ollama cuts: at most half of the rest stays free.

    Total = num_ctx - max((num_ctx - keep) / 2, 1) (CONTRACT 1.4).
    """
    keep = min(max(num_keep, 0), num_ctx - 2)
    total = num_ctx - max((num_ctx - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (total - keep) :]
