"""Which tokens does truncation leave, and which of them are the likeliest?

The survivors are those of llama.cpp's sampler chain, in its order: top-k, typical, top-p, min-p
(GUIDE 3.5); or those of mirostat.

A row is never sorted: every step takes a few passes over it and then works on the rest.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ...protocol import Sampling

Row = NDArray[np.float32]  # one logit for each token id
Ids = NDArray[np.int64]  # token ids, or places in an array

# Tokens of a block whose peak is computed first in the search for the largest logits.
BLOCK = 256
# Survivors. Python's floats are faster for so few: a decode evicts numpy's code from the cache.
HANDFUL = 64
# Tokens that are sorted without a further split, and the size of a sample of a row.
FEW = 2048
# The largest of a sample whose smallest is the first threshold of a nucleus.
HEAD = 8
# Tokens from which mirostat 1 estimates the exponent of Zipf's law, as in llama-server.
MIROSTAT_HEAD = 100
# The largest logit that a bias or a penalty may make; float32 can still subtract two of them.
MAX_LOGIT = 1e30


def best(row: Row) -> int:
    """The most likely token; of equal ones that with the smallest id."""
    token = int(row.argmax())
    _check_peak(float(row[token]))
    return token


def survivors(row: Row, sampling: Sampling) -> tuple[Ids, Row]:
    """The tokens that may be sampled and their logits, in no order.

    Tokens at -inf are left out; llama.cpp keeps them with probability 0.
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
    """How many of these logits, best first, top_p and min_p leave."""
    count, peak = len(logits), logits[0]
    if s.top_p < 1:
        sums = list(accumulate(math.exp(logit - peak) for logit in logits))
        mass = math.nextafter(s.top_p * sums[-1], -math.inf)  # to reach it is enough
        count = min(bisect_right(sums, mass) + 1, count)
    if s.min_p > 0:
        floor = peak + math.log(min(s.min_p, 1.0))
        count = min(sum(logit >= floor for logit in logits), count)
    return count


def mirostat_survivors(row: Row, sampling: Sampling, mu: float) -> tuple[Ids, Row]:
    """The tokens that mirostat 1 or 2 leaves, and their logits.

    Mirostat replaces all truncations; penalties still apply, unlike in llama-server.
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


def next_mu(mu: float, logits: Row, own: float, sampling: Sampling) -> float:
    """Mirostat's mu after a token with the logit `own` was sampled from survivors with `logits`."""
    peak = float(logits.max())
    below = (logits.astype(np.float64) - peak) / sampling.temperature
    surprise = math.log(float(np.exp(below).sum())) - (own - peak) / sampling.temperature
    return mu - sampling.mirostat_eta * (surprise / math.log(2) - sampling.mirostat_tau)


def largest(row: Row, count: int) -> Ids:
    """The `count` largest logits above -inf, best first, of equal ones the smallest ids.

    As many blocks as `count` have a peak that is not below the floor, so no logit below it is
    among the `count` largest: only those blocks are searched.
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


def _check_peak(peak: float) -> None:
    if peak == -math.inf:
        raise ValueError("no token is possible: the masks and biases leave none")
    if not math.isfinite(peak):
        raise ValueError(f"the largest logit is {peak}: the model's output is broken")


def _typical(logits: Row, p: float) -> Ids:
    """Places of those closest to the expected logit, until their mass is above p."""
    peak = logits.max()
    # the rest has less than 1e-7 of the mass, which does not change the entropy
    likely = np.flatnonzero(logits > peak - np.float32(17 + math.log(logits.size)))
    below = logits[likely] - peak
    weights = np.exp(below)
    total = weights.sum()
    # -log(p_i) - entropy, in which the logarithm of the total cancels out
    deviation = np.abs(below - weights @ below / total)
    return likely[_nucleus(-deviation, weights, p * float(total))]


def _top_p(logits: Row, p: float) -> Ids:
    """Places of the most likely, up to and with the one at which their mass reaches p."""
    weights = np.exp(logits - logits.max())
    mass = p * float(weights.sum())
    return _nucleus(weights, weights, math.nextafter(mass, -math.inf))  # to reach it is enough


def _min_p(logits: Row, p: float) -> Ids:
    """Places of those at least p times as likely as the most likely."""
    return np.flatnonzero(logits >= logits.max() + np.float32(math.log(min(p, 1.0))))


def _nucleus(keys: Row, weights: Row, mass: float) -> Ids:
    """Places of the largest keys, down to the one with which their weights exceed the mass.

    Of equal keys the first places come first. Splits at a pivot and continues with the half that
    contains that key, until FEW are left to sort.
    """
    sure: list[Ids] = []
    left = _head(keys, weights, mass)
    while left.size > FEW:
        pivot = np.median(keys[left[:: left.size // FEW]])
        high = keys[left] > pivot
        inside = left[np.flatnonzero(high)]
        if not inside.size:
            break  # half of them are equal
        inside_mass = float(weights[inside].sum())
        if inside_mass > mass:
            left = inside
        else:
            sure.append(inside)
            left, mass = left[np.flatnonzero(~high)], mass - inside_mass
    left = left[np.argsort(-keys[left], kind="stable")]
    sums = np.cumsum(weights[left], dtype=np.float64)
    return np.concatenate((*sure, left[: np.searchsorted(sums, mass, "right") + 1]))


def _head(keys: Row, weights: Row, mass: float) -> Ids:
    """Places of a few of the largest keys if these have the mass, as in most real rows; or all."""
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
