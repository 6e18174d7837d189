"""Which token comes next, given one row of logits?

The candidates that survive are those of llama.cpp's own chain, in its order: bias and masks,
penalties, top-k, typical, top-p, min-p, temperature (engine guide 3.5). The draw is the Gumbel-max
trick with noise that is a function of seed, position and token id, so it does not depend on what
was drawn before, in which batch, or how often.

A row is a view of llama.cpp's memory of up to a megabyte: it is never written to, and never
sorted. Every step takes a few passes over it and then works on what is left.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ..errors import BadRequest
from ..protocol import Sampling

Row = NDArray[np.float32]  # one logit for each token id
Ids = NDArray[np.int64]  # token ids, or places in an array

BLOCK = 256  # tokens that share a peak in the search for the largest logits
CHUNK = 8192  # tokens whose noise is made at once: larger arrays leave the CPU's cache
HANDFUL = 64  # candidates that plain numbers are faster for: a decode makes numpy's code cold
FEW = 2048  # so many may be sorted; also the size of a sample
HEAD = 8  # of a sample
RIVALS = 8  # of the likeliest token, in the measure of how sure a guess is
MIROSTAT_HEAD = 100  # tokens from which mirostat 1 estimates the row's shape, as in llama-server
MAX_LOGIT = 1e30  # no bias or penalty lifts a token beyond what float32 can subtract
ZERO_TEMPERATURE = 1e-45  # below it llama.cpp's float32 is zero
FINITE = (
    *("temperature", "top_p", "min_p", "typical_p", "mirostat_tau", "mirostat_eta"),
    *("repeat_penalty", "presence_penalty", "frequency_penalty"),
)
GOLDEN = 0x9E3779B97F4A7C15  # of SplitMix64, as are the shifts and factors in `_split`


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token and the natural logarithm of its probability."""

    token: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """The next token; its logprob and the most likely ones come from the row as the model gave it,
    before any option (contract section 1.8), and only if they were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[Logprob, ...] = ()


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

    def draw(
        self,
        logits: Row,
        history: Sequence[int],
        position: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> Drawn:
        """The token at `position`, after all of `history`; `allowed` is False for the impossible.

        Raises ValueError if no token is possible, or if the logits are not finite.
        """
        row = self.edited(logits, history, allowed)
        token = best(row) if _is_greedy(self._sampling) else self._pick(row, position)
        if self._num_logprobs is None:
            return Drawn(token)
        return Drawn(token, *logprobs(logits, token, self._num_logprobs))

    def guess(self, logits: Row, history: Sequence[int], position: int) -> tuple[int, float]:
        """The token that `draw` would give if this row were the target's, and how sure that is: its
        share of the candidates' probability. Changes nothing.

        The noise is that of the draw, so a drafter whose row is like the target's says the same
        also at a high temperature.
        """
        row = self.edited(logits, history, None)
        if _is_greedy(self._sampling):
            ids = largest(row, RIVALS)
            return int(ids[0]), _share(row[ids], row[ids[0]], 1.0)
        ids, left = self._candidates(row)
        token = _noisiest(ids, left, self._sampling, position)
        return token, _share(left, row[token], self._sampling.temperature)

    def edited(self, logits: Row, history: Sequence[int], allowed: NDArray[np.bool_] | None) -> Row:
        """A copy with biases, penalties and masks applied, or the very row if there are none."""
        s = self._sampling
        penalises = _penalises(s)
        if not (penalises or self._biased.size or self._suppressed.size or allowed is not None):
            return logits
        row = logits.copy()
        if self._biased.size:
            _store(row, self._biased, row[self._biased] + self._bias)
        if penalises:
            penalise(row, history, s)
        row[self._suppressed] = -np.inf
        if allowed is not None:
            row[np.flatnonzero(~allowed)] = -np.inf  # a boolean index is six times slower
        return row

    def _pick(self, row: Row, position: int) -> int:
        s = self._sampling
        ids, logits = self._candidates(row)
        token = _noisiest(ids, logits, s, position)
        if s.mirostat:
            self._mu = adapted(self._mu, logits, float(row[token]), s)
        return token

    def _candidates(self, row: Row) -> tuple[Ids, Row]:
        s = self._sampling
        return surprising(row, s, self._mu) if s.mirostat else survivors(row, s)


def check(sampling: Sampling) -> None:
    """Raises BadRequest for options that have no meaning."""
    for name in FINITE:
        if not abs(getattr(sampling, name)) < MAX_LOGIT:
            raise BadRequest(f"{name} must be a finite number")
    if sampling.repeat_penalty < 1 / MAX_LOGIT:
        raise BadRequest("repeat_penalty must be greater than 0; 1 means no penalty")
    if sampling.mirostat not in (0, 1, 2):
        raise BadRequest("mirostat must be 0 (off), 1 or 2")


def best(row: Row) -> int:
    """The most likely token; of equal ones the smallest id."""
    token = int(row.argmax())
    _check_peak(float(row[token]))
    return token


def sureness(row: Row) -> float:
    """The share that the likeliest token has of the probability of the likeliest few."""
    ids = largest(row, RIVALS)
    return _share(row[ids], row[ids[0]], 1.0)


def survivors(row: Row, sampling: Sampling) -> tuple[Ids, Row]:
    """The tokens that may be drawn and their logits, in no order.

    Tokens at -inf are no candidates, where llama.cpp keeps them with probability 0.
    """
    s = sampling
    ids = None
    if 0 < s.top_k < row.size:
        ids = largest(row, s.top_k)
    else:
        _check_peak(float(row.max()))
    if ids is not None and ids.size <= HANDFUL and s.typical_p >= 1:
        logits = row[ids]
        count = _leading(logits.tolist(), s)
        return ids[:count], logits[:count]
    for truncate, p, is_on in (
        (_typical, s.typical_p, s.typical_p < 1),
        (_top_p, s.top_p, s.top_p < 1),
        (_min_p, s.min_p, s.min_p > 0),
    ):
        if is_on:
            kept = truncate(row if ids is None else row[ids], p)
            ids = kept if ids is None else ids[kept]
    if ids is None:
        ids = np.flatnonzero(row > -np.inf)
    return ids, row[ids]


def _leading(logits: list[float], s: Sampling) -> int:
    """How many top_p and min_p leave of a handful of candidates that are sorted, best first."""
    count, peak = len(logits), logits[0]
    if s.top_p < 1:
        sums = list(accumulate(math.exp(logit - peak) for logit in logits))
        mass = math.nextafter(s.top_p * sums[-1], -math.inf)  # to reach it is enough
        count = min(bisect_right(sums, mass) + 1, count)
    if s.min_p > 0:
        floor = peak + math.log(min(s.min_p, 1.0))
        count = min(sum(logit >= floor for logit in logits), count)
    return count


def surprising(row: Row, sampling: Sampling, mu: float) -> tuple[Ids, Row]:
    """The tokens that mirostat 1 or 2 leaves, and their logits.

    Mirostat takes the place of all truncations; penalties still hold, unlike in llama-server.
    """
    peak = float(row.max())
    _check_peak(peak)
    if sampling.mirostat == 1:
        ids = largest(row, _mirostat_k(row, sampling.temperature, mu))
    else:
        weights = row - np.float32(peak)
        with np.errstate(over="ignore"):  # far below the peak is -inf
            weights /= np.float32(sampling.temperature)
        np.exp(weights, out=weights)
        log_total = math.log(float(weights.sum()))
        floor = peak + sampling.temperature * min(log_total - mu * math.log(2), 0.0)
        ids = np.flatnonzero(row >= np.float32(max(floor, -MAX_LOGIT)))
    return ids, row[ids]


def adapted(mu: float, logits: Row, own: float, sampling: Sampling) -> float:
    """Mirostat's mu after a token with the logit `own` was drawn from survivors with `logits`."""
    peak = float(logits.max())
    below = (logits.astype(np.float64) - peak) / sampling.temperature
    surprise = math.log(float(np.exp(below).sum())) - (own - peak) / sampling.temperature
    return mu - sampling.mirostat_eta * (surprise / math.log(2) - sampling.mirostat_tau)


def largest(row: Row, count: int) -> Ids:
    """The `count` largest logits above -inf, best first, of equal ones the smallest ids.

    As many blocks as `count` have a peak that is not below the floor, so no logit below it is
    among the `count` largest: only those blocks are looked into.
    """
    block = min(max(row.size // (4 * count), 1), BLOCK)
    peaks = np.maximum.reduceat(row, np.arange(0, row.size, block))
    _check_peak(float(peaks.max()))
    floor = np.float32(-np.inf)
    if count < peaks.size:
        floor = np.partition(peaks, -count)[-count]
    ids = _not_below(row, floor, np.flatnonzero(peaks >= floor), block)
    logits = row[ids]
    if floor == -np.inf:
        ids = ids[logits > floor]
        logits = row[ids]
    best_first = np.argsort(-logits, kind="stable")[:count]
    return np.asarray(ids[best_first])


def _not_below(row: Row, floor: np.float32, blocks: Ids, block: int) -> Ids:
    """Ids in these blocks whose logit is not below the floor; the last block may be a short one."""
    num_whole = row.size // block
    start = num_whole * block
    rest = np.flatnonzero(row[start:] >= floor) + start
    whole = blocks[:-1] if blocks.size and blocks[-1] == num_whole else blocks
    places = np.flatnonzero(row[:start].reshape(num_whole, block)[whole] >= floor)
    nth, offset = np.divmod(places, block)
    ids = whole[nth] * block + offset
    return np.concatenate((ids, rest)) if rest.size else ids


def penalise(row: Row, history: Sequence[int], sampling: Sampling) -> None:
    """Lower, in place, the logits of the tokens in the window that repeat_last_n names."""
    s = sampling
    window = np.array(history[-s.repeat_last_n :] if s.repeat_last_n > 0 else history, np.int64)
    ids, counts = np.unique(window[(window >= 0) & (window < row.size)], return_counts=True)
    logits = row[ids].astype(np.float64)
    logits = np.where(logits > 0, logits / s.repeat_penalty, logits * s.repeat_penalty)
    _store(row, ids, logits - (counts * s.frequency_penalty + s.presence_penalty))


def gumbel(seed: int, position: int, ids: Ids) -> NDArray[np.float64]:
    """Standard Gumbel noise, a pure function of seed, position and token id.

    The bits are output number `id` of a SplitMix64 generator (Steele, Lea and Flood 2014) that
    starts from output number `position` of the one that starts from `seed`.
    """
    start = _start(seed, position)
    uniform = ((_split(start, ids) >> np.uint64(12)) + 0.5) * 2.0**-52  # never 0 or 1
    return np.asarray(-np.log(-np.log(uniform)), np.float64)


def logprobs(logits: Row, token: int, count: int) -> tuple[float, tuple[Logprob, ...]]:
    """The token's logprob and the `count` best ones, best first, over the whole row."""
    peak = float(logits.max())
    log_total = peak + math.log(float(np.exp(logits - np.float32(peak)).sum()))
    ids = largest(logits, min(count, logits.size)) if count > 0 else np.empty(0, np.int64)
    top = (Logprob(int(i), float(logits[i]) - log_total) for i in ids)
    return float(logits[token]) - log_total, tuple(top)


def _noisiest(ids: Ids, logits: Row, s: Sampling, position: int) -> int:
    """The survivor whose noisy logit is the largest; of equal ones that of the smallest id."""
    if ids.size <= HANDFUL:
        start, temperature = _start(s.seed, position), s.temperature
        few = zip(ids.tolist(), logits.tolist(), strict=True)
        winner = max((own + temperature * _noise(start, id_), -id_) for id_, own in few)
        return -int(winner[1])
    noisy = _noisy(ids, logits, s, position)
    return int(ids[noisy == noisy.max()].min())


def _share(logits: Row, own: np.float32, temperature: float) -> float:
    """What part of these candidates' probability one of them has."""
    return 1.0 / float(np.exp((logits.astype(np.float64) - own) / temperature).sum())


def _noisy(ids: Ids, logits: Row, s: Sampling, position: int) -> NDArray[np.float64]:
    """T times logit/T + g, whose argmax is the draw: nothing overflows, and T = 0 is greedy."""
    noisy = np.empty(ids.size)
    for start in range(0, ids.size, CHUNK):
        part = slice(start, start + CHUNK)
        noisy[part] = logits[part] + s.temperature * gumbel(s.seed, position, ids[part])
    return noisy


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


def _check_peak(peak: float) -> None:
    if peak == -math.inf:
        raise ValueError("no token is possible: the masks and biases leave none")
    if not math.isfinite(peak):
        raise ValueError(f"the largest logit is {peak}: the model's output is broken")


def _typical(logits: Row, p: float) -> Ids:
    """Places of those closest to the expected logit, until their mass is above p."""
    peak = logits.max()
    # the rest has less than 1e-7 of the mass, and nothing to say about the entropy
    likely = np.flatnonzero(logits > peak - np.float32(17 + math.log(logits.size)))
    below = logits[likely] - peak
    weights = np.exp(below)
    total = weights.sum()
    # -log(p_i) - entropy, in which the logarithm of the total cancels out
    deviation = np.abs(below - weights @ below / total)
    return likely[_nucleus(-deviation, weights, p * float(total))]


def _top_p(logits: Row, p: float) -> Ids:
    """Places of the most likely, with the one whose mass reaches p."""
    weights = np.exp(logits - logits.max())
    mass = p * float(weights.sum())
    return _nucleus(weights, weights, math.nextafter(mass, -math.inf))  # to reach it is enough


def _min_p(logits: Row, p: float) -> Ids:
    """Places of those at least p times as likely as the most likely."""
    return np.flatnonzero(logits >= logits.max() + np.float32(math.log(min(p, 1.0))))


def _nucleus(keys: Row, weights: Row, mass: float) -> Ids:
    """Places of the largest keys, down to the one with which their weights exceed the mass.

    Of equal keys the first places count first. Splits at a pivot and goes on with the half in
    which that key is, until few are left to sort.
    """
    sure: list[Ids] = []
    left = _head(keys, weights, mass)
    while left.size > FEW:
        pivot = np.median(keys[left[:: left.size // FEW]])
        high = keys[left] > pivot
        inside = left[np.flatnonzero(high)]
        if not inside.size:
            break  # half of them are equal
        held = float(weights[inside].sum())
        if held > mass:
            left = inside
        else:
            sure.append(inside)
            left, mass = left[np.flatnonzero(~high)], mass - held
    left = left[np.argsort(-keys[left], kind="stable")]
    sums = np.cumsum(weights[left], dtype=np.float64)
    return np.concatenate((*sure, left[: np.searchsorted(sums, mass, "right") + 1]))


def _head(keys: Row, weights: Row, mass: float) -> Ids:
    """Places of a few of the largest keys if they hold the mass, as in most real rows; or all."""
    if keys.size > FEW:
        pivot = np.partition(keys[:: keys.size // FEW], -HEAD)[-HEAD]
        head = np.flatnonzero(keys > pivot)
        if weights[head].sum() > mass:
            return head
    return np.arange(keys.size)


def _mirostat_k(row: Row, temperature: float, mu: float) -> int:
    """How many tokens reach the surprise mu, if the row follows Zipf's law (mirostat 1).

    The exponent is a least-squares fit to the head. Taken in logarithms, so that no flat or
    steep row overflows.
    """
    head = row[largest(row, min(MIROSTAT_HEAD, row.size))].astype(np.float64)
    if head.size < 2:
        return 1
    ranks = np.arange(1, head.size)
    steps = np.log((ranks + 1) / ranks)
    exponent = float(steps @ -np.diff(head)) / float(steps @ steps) / temperature
    excess, log_size = exponent - 1, math.log(row.size)
    log_k = (mu * math.log(2) + _log_ratio(excess, log_size)) / max(exponent, 1e-9)
    return row.size if log_k >= log_size else max(int(math.exp(log_k)), 1)


def _log_ratio(excess: float, log_size: float) -> float:
    """log(e / (1 - n^-e)), which is smooth at e = 0 and nearly linear far below it."""
    if abs(excess) < 1e-9:
        return -math.log(log_size)
    return math.log(excess / -math.expm1(-excess * log_size))


def _start(seed: int, position: int) -> int:
    """Where the noise of a position starts."""
    return _mix(seed + (position + 1) * GOLDEN)


def _noise(start: int, token: int) -> float:
    """What `gumbel` gives for one token, in plain numbers."""
    bits = _mix(start + (token + 1) * GOLDEN) >> 12
    return -math.log(-math.log((bits + 0.5) * 2.0**-52))


def _mix(z: int) -> int:
    """The output of SplitMix64 in the state z, in plain numbers; `_split` does arrays."""
    z %= 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def _split(state: int, steps: Ids) -> NDArray[np.uint64]:
    """Outputs of SplitMix64 by their numbers; arithmetic is modulo 2^64."""
    z = steps.astype(np.uint64) * np.uint64(GOLDEN) + np.uint64((state + GOLDEN) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
