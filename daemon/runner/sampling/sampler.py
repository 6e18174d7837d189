"""Which token comes next, given one row of logits?

The steps are those of llama.cpp's sampler chain: bias and masks, penalties, truncation,
temperature (GUIDE 3.5). Only the random choice differs (gumbel.py).

A row is a view of llama.cpp's memory of up to a megabyte, and is never written to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import BadRequest
from ...protocol import Sampling
from .gumbel import gumbel_argmax
from .truncation import MAX_LOGIT, Ids, Row, best, largest, mirostat_survivors, next_mu, survivors

# Tokens among which the confidence of a greedy draft and of the target is measured.
NUM_RIVALS = 8
# Logits. A token so far below the largest has less than 1/8000 of its probability.
FAR_BELOW = np.float32(9.0)
# Smaller temperatures are zero in llama.cpp's float32.
ZERO_TEMPERATURE = 1e-45
# Options that must be finite numbers.
FINITE = (
    *("temperature", "top_p", "min_p", "typical_p", "mirostat_tau", "mirostat_eta"),
    *("repeat_penalty", "presence_penalty", "frequency_penalty"),
)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability."""

    token: int
    logprob: float


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The next token. Its logprob and the most likely alternatives, if requested, come from the
    model's row before any option is applied (CONTRACT 1.8)."""

    token: int
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()


class Sampler:
    """Samples the tokens of one sequence. Its only state is mirostat's mu."""

    def __init__(
        self,
        sampling: Sampling,
        *,
        num_tokens: int,
        suppressed: tuple[int, ...] = (),
        num_logprobs: int | None = None,
    ) -> None:
        """`suppressed` tokens are never sampled; `num_logprobs` None means no logprobs, 0 only that
        of the sampled token. The options must have passed `check`."""
        self._sampling = sampling
        self._num_logprobs = num_logprobs
        self._suppressed = np.array(suppressed, np.int64)
        bias: dict[int, float] = {}
        for token, value in sampling.logit_bias:
            if 0 <= token < num_tokens:
                bias[token] = bias.get(token, 0.0) + value
        self._biased = np.array(list(bias), np.int64)
        self._bias = np.array(list(bias.values()), np.float64)
        self._mu = 2.0 * sampling.mirostat_tau
        self._is_greedy = _is_greedy(sampling)
        self._penalises = _penalises(sampling)
        self._edits = bool(self._penalises or bias or suppressed)

    def sample(
        self,
        logits: Row,
        history: Sequence[int],
        position: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> SampledToken:
        """The token at `position`, after all of `history`; `allowed` is a mask over the vocabulary.

        Raises ValueError if no token is possible, or if the logits are not finite.
        """
        row = self.edited(logits, history, allowed)
        token = best(row) if self._is_greedy else self._pick(row, position)
        if self._num_logprobs is None:
            return SampledToken(token)
        return SampledToken(token, *logprobs(logits, token, self._num_logprobs))

    def sample_draft(self, logits: Row, history: Sequence[int], position: int) -> tuple[int, float]:
        """The token that `sample` would return if this row were the target's, and its confidence:
        its share of the probability of the tokens that truncation leaves. Changes no state.

        The noise is that of `sample`, so a drafter whose row is like the target's proposes the
        same token also at a high temperature.
        """
        row = self.edited(logits, history, None)
        if self._is_greedy:
            ids = largest(row, NUM_RIVALS)
            return int(ids[0]), _share(row[ids], row[ids[0]], 1.0)
        ids, left = self._survivors(row)
        token = gumbel_argmax(ids, left, self._sampling, position)
        return token, _share(left, row[token], self._sampling.temperature)

    def edited(self, logits: Row, history: Sequence[int], allowed: NDArray[np.bool_] | None) -> Row:
        """A copy with biases, penalties and masks applied; the row itself if there are none."""
        if not self._edits and allowed is None:
            return logits
        row = logits.copy()
        if self._biased.size:
            _store(row, self._biased, row[self._biased] + self._bias)
        if self._penalises:
            penalise(row, history, self._sampling)
        row[self._suppressed] = -np.inf
        if allowed is not None:
            row[np.flatnonzero(~allowed)] = -np.inf  # a boolean index is six times slower
        return row

    def _pick(self, row: Row, position: int) -> int:
        s = self._sampling
        ids, logits = self._survivors(row)
        token = gumbel_argmax(ids, logits, s, position)
        if s.mirostat:
            self._mu = next_mu(self._mu, logits, float(row[token]), s)
        return token

    def _survivors(self, row: Row) -> tuple[Ids, Row]:
        s = self._sampling
        return mirostat_survivors(row, s, self._mu) if s.mirostat else survivors(row, s)


def check(sampling: Sampling) -> None:
    """Raises BadRequest for options outside their range."""
    for name in FINITE:
        if not abs(getattr(sampling, name)) < MAX_LOGIT:
            raise BadRequest(f"{name} must be a finite number")
    if sampling.repeat_penalty < 1 / MAX_LOGIT:
        raise BadRequest("repeat_penalty must be greater than 0; 1 means no penalty")
    if sampling.mirostat not in (0, 1, 2):
        raise BadRequest("mirostat must be 0 (off), 1 or 2")


def target_confidence(row: Row) -> float:
    """The likeliest token's share of the probability of the NUM_RIVALS likeliest ones.

    Tokens far below the largest logit are left out first: a threshold is faster than a partition.
    """
    peak = row.max()
    rivals = row[np.flatnonzero(row > peak - FAR_BELOW)]
    if rivals.size > NUM_RIVALS:
        rivals = np.partition(rivals, -NUM_RIVALS)[-NUM_RIVALS:]
    return _share(rivals, peak, 1.0)


def penalise(row: Row, history: Sequence[int], sampling: Sampling) -> None:
    """Lower, in place, the logits of the tokens among the last `repeat_last_n` of the history."""
    s = sampling
    window = np.array(history[-s.repeat_last_n :] if s.repeat_last_n > 0 else history, np.int64)
    ids, counts = np.unique(window[(window >= 0) & (window < row.size)], return_counts=True)
    logits = row[ids].astype(np.float64)
    logits = np.where(logits > 0, logits / s.repeat_penalty, logits * s.repeat_penalty)
    _store(row, ids, logits - (counts * s.frequency_penalty + s.presence_penalty))


def logprobs(logits: Row, token: int, count: int) -> tuple[float, tuple[TokenLogprob, ...]]:
    """The token's logprob and the `count` best ones, best first, over the whole row."""
    peak = float(logits.max())
    log_total = peak + math.log(float(np.exp(logits - np.float32(peak)).sum()))
    ids = largest(logits, min(count, logits.size)) if count > 0 else np.empty(0, np.int64)
    top = (TokenLogprob(int(i), float(logits[i]) - log_total) for i in ids)
    return float(logits[token]) - log_total, tuple(top)


def score(logits: Row, words: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """The logprob of each word, given as the tokens that spell it: any of them may be sampled.

    Over the whole row, before any option is applied.
    """
    wide = logits.astype(np.float64)
    weights = np.exp(wide - wide.max())
    shares = (float(weights[list(tokens)].sum() / weights.sum()) for tokens in words)
    return tuple(math.log(share) if share > 0 else -math.inf for share in shares)


def _share(logits: Row, own: np.float32, temperature: float) -> float:
    """The share that the token with logit `own` has of the probability of all these."""
    return 1.0 / float(np.exp((logits.astype(np.float64) - own) / temperature).sum())


def _is_greedy(s: Sampling) -> bool:
    """Whether the most likely token is always sampled: only typical_p may exclude it."""
    if s.temperature < ZERO_TEMPERATURE:
        return s.typical_p >= 1 or s.mirostat > 0
    return s.top_k == 1 and not s.mirostat


def _penalises(s: Sampling) -> bool:
    penalties = (s.repeat_penalty, s.frequency_penalty, s.presence_penalty)
    return s.repeat_last_n != 0 and penalties != (1.0, 0.0, 0.0)


def _store(row: Row, ids: Ids, logits: NDArray[np.float64]) -> None:
    with np.errstate(over="ignore"):  # far below zero is -inf
        row[ids] = np.minimum(logits, MAX_LOGIT)
