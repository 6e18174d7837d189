"""What is the state of one request while it runs: its tokens, its KV sequence, its limits?"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from ..chat.parse.parser import ContentParser, OutputParser
from ..protocol import Limits, Sampling
from .kv.cached_sequence import CachedSequence
from .sampling.constraint import Constraint

# Output tokens after which a stream counts as visible to its reader. The requests of a burst arrive
# one by one; the first of them do not slow down the prompts of the others before that.
FIRST_TOKENS = 4


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and the tokens sampled after it.

    Invariant: 0 <= cached <= len(tokens) <= num_ctx. A running sequence has a sequence id in the
    KV cache with its first `cached` tokens; the others are `pending`. A prompt chunk differs from
    a decode row only by the number of pending tokens.
    """

    id: int
    tokens: array[int]
    sampling: Sampling
    limits: Limits
    num_ctx: int
    num_logprobs: int | None = None  # alternatives per token; None: no logprobs
    scored: tuple[tuple[int, ...], ...] = ()  # words whose score is wanted, as tokens that spell it
    draft_limit: int | None = None  # draft tokens per step at most; None: as many as pay
    draft_fixed: int | None = None  # draft tokens per step, whether they pay or not
    constraint: Constraint | None = None
    parser: OutputParser = field(default_factory=ContentParser)
    marker_tokens: frozenset[int] = frozenset()  # special tokens that the parser sees as text
    stops_loops: bool = False  # whether an endless repetition ends it
    num_dropped: int = 0  # old messages that did not fit the context
    num_cut: int = 0  # tokens cut out of the rest of the prompt
    num_prompt: int = 0
    num_reused: int = 0  # prompt tokens that were in the KV cache
    output_tokens: list[int] = field(default_factory=list)
    checkpoint_at: list[int] = field(default_factory=list)  # token counts after which to save one
    kv_seq: CachedSequence | None = None

    def __post_init__(self) -> None:
        self.num_prompt = len(self.tokens)

    @property
    def cached(self) -> int:
        """Tokens in the KV cache."""
        return len(self.kv_seq.tokens) if self.kv_seq else 0

    @property
    def pending(self) -> int:
        """Tokens that are not evaluated yet."""
        return len(self.tokens) - self.cached

    @property
    def is_decoding(self) -> bool:
        """Whether its next step evaluates one sampled token."""
        return self.pending == 1 and bool(self.output_tokens)

    @property
    def past_first_token(self) -> bool:
        """Whether a slower step would be visible to the reader of this stream."""
        return self.pending == 1 and len(self.output_tokens) >= FIRST_TOKENS

    @property
    def position(self) -> int:
        """Index of the next token in the whole text; a context shift does not change it."""
        return self.num_prompt + len(self.output_tokens)

    @property
    def is_full(self) -> bool:
        """Whether the context has no place for another token."""
        return len(self.tokens) >= self.num_ctx

    @property
    def num_left(self) -> int:
        """Tokens that may still be sampled."""
        limit = 10 * self.num_ctx  # CONTRACT 1.4
        if 0 <= self.limits.num_predict < limit:
            limit = self.limits.num_predict
        return limit - len(self.output_tokens)

    @property
    def reached_max_tokens(self) -> bool:
        """Whether all tokens that the request allows are sampled."""
        return self.num_left <= 0

    def append(self, token: int) -> None:
        """Add a sampled token."""
        self.tokens.append(token)
        self.output_tokens.append(token)

    def next_chunk(self, budget: int) -> int:
        """How many pending tokens go into the next batch: at most `budget`, and none beyond the
        next checkpoint."""
        cached = self.cached
        distances = (count - cached for count in self.checkpoint_at if count > cached)
        return min(self.pending, budget, min(distances, default=budget))

    def shift(self) -> None:
        """Context shift: keep the first tokens and the newer half of the rest.

        The kept tokens are evaluated again, so the text continues exactly as after a prompt of
        these tokens (a shifted KV cache is only an approximation, GUIDE 5.3).
        """
        self.tokens = cut_middle(self.tokens, self.limits.num_keep, self.num_ctx)
        self.checkpoint_at = []


def cut_middle(tokens: array[int], num_keep: int, num_ctx: int) -> array[int]:
    """The first `num_keep` tokens and a tail, as Ollama cuts: at most half of the rest stays free.

    Total = num_ctx - max((num_ctx - keep) / 2, 1) (CONTRACT 1.4).
    """
    keep = min(max(num_keep, 0), num_ctx - 2)
    total = num_ctx - max((num_ctx - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (total - keep) :]
