"""Which token comes next, given one row of logits?

As llama.cpp's own chain does it: bias and masks, penalties, truncation, temperature
(GUIDE 3.5); only the draw itself is our own.

A row is a view of llama.cpp's memory of up to a megabyte: it is never written to.
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
from .truncation import (
    MAX_LOGIT,
    Ids,
    Row,
    best,
    largest,
    mirostat_survivors,
    survivors,
    updated_mu,
)

RIVALS = 8  # of the likeliest token, in the measure of how sure a guess is
FAR_BELOW = np.float32(9.0)  # a logit that counts for nothing beside the largest
ZERO_TEMPERATURE = 1e-45  # below it llama.cpp's float32 is zero
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
    """The next token; its logprob and the most likely ones come from the row as the model gave it,
    before any option (CONTRACT 1.8), and only if they were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()


class Sampler:
    """Draws the tokens of one sequence. Its only state is mirostat's mu."""

    def __init__(
        self,
        sampling: Sampling,
        *,
        num_tokens: int,
        suppressed: tuple[int, ...] = (),
        num_logprobs: int | None = None,
    ) -> None:
        """`suppressed` tokens are never drawn; `num_logprobs` None means no logprobs, 0 only the
        drawn token's own. The options must have passed `check`."""
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
        """The token at `position`, after all of `history`; `allowed` is False for the impossible.

        Raises ValueError if no token is possible, or if the logits are not finite.
        """
        row = self.edited(logits, history, allowed)
        token = best(row) if self._is_greedy else self._pick(row, position)
        if self._num_logprobs is None:
            return SampledToken(token)
        return SampledToken(token, *logprobs(logits, token, self._num_logprobs))

    def sample_draft(self, logits: Row, history: Sequence[int], position: int) -> tuple[int, float]:
        """The token that `sample` would return if this row were the target's, and its confidence:
        its share of the candidates' probability. Changes no state.

        The noise is that of the draw, so a drafter whose row is like the target's says the same
        also at a high temperature.
        """
        row = self.edited(logits, history, None)
        if self._is_greedy:
            ids = largest(row, RIVALS)
            return int(ids[0]), _share(row[ids], row[ids[0]], 1.0)
        ids, left = self._candidates(row)
        token = gumbel_argmax(ids, left, self._sampling, position)
        return token, _share(left, row[token], self._sampling.temperature)

    def edited(self, logits: Row, history: Sequence[int], allowed: NDArray[np.bool_] | None) -> Row:
        """A copy with biases, penalties and masks applied, or the very row if there are none."""
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
        ids, logits = self._candidates(row)
        token = gumbel_argmax(ids, logits, s, position)
        if s.mirostat:
            self._mu = updated_mu(self._mu, logits, float(row[token]), s)
        return token

    def _candidates(self, row: Row) -> tuple[Ids, Row]:
        s = self._sampling
        return mirostat_survivors(row, s, self._mu) if s.mirostat else survivors(row, s)


def check(sampling: Sampling) -> None:
    """Raises BadRequest for options that have no meaning."""
    for name in FINITE:
        if not abs(getattr(sampling, name)) < MAX_LOGIT:
            raise BadRequest(f"{name} must be a finite number")
    if sampling.repeat_penalty < 1 / MAX_LOGIT:
        raise BadRequest("repeat_penalty must be greater than 0; 1 means no penalty")
    if sampling.mirostat not in (0, 1, 2):
        raise BadRequest("mirostat must be 0 (off), 1 or 2")


def target_confidence(row: Row) -> float:
    """The share that the likeliest token has of the probability of the likeliest few. (What is far
    below them counts for nothing, which is found sooner than who they are.)"""
    peak = row.max()
    rivals = row[np.flatnonzero(row > peak - FAR_BELOW)]
    if rivals.size > RIVALS:
        rivals = np.partition(rivals, -RIVALS)[-RIVALS:]
    return _share(rivals, peak, 1.0)


def penalise(row: Row, history: Sequence[int], sampling: Sampling) -> None:
    """Lower, in place, the logits of the tokens in the window that repeat_last_n names."""
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


def _share(logits: Row, own: np.float32, temperature: float) -> float:
    """What part of these candidates' probability one of them has."""
    return 1.0 / float(np.exp((logits.astype(np.float64) - own) / temperature).sum())


def _is_greedy(s: Sampling) -> bool:
    """Whether the most likely token is sure to be drawn: only `typical` may cut that one."""
    if s.temperature < ZERO_TEMPERATURE:
        return s.typical_p >= 1 or s.mirostat > 0
    return s.top_k == 1 and not s.mirostat


def _penalises(s: Sampling) -> bool:
    penalties = (s.repeat_penalty, s.frequency_penalty, s.presence_penalty)
    return s.repeat_last_n != 0 and penalties != (1.0, 0.0, 0.0)


def _store(row: Row, ids: Ids, logits: NDArray[np.float64]) -> None:
    with np.errstate(over="ignore"):  # far below zero is -inf
        row[ids] = np.minimum(logits, MAX_LOGIT)
