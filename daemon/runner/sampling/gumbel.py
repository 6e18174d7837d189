"""Which of the surviving tokens is sampled? The one with the largest logit plus Gumbel noise.

This is the Gumbel-max trick. The noise is a function of seed, position and token id, so a sample
does not depend on earlier samples, on the batch, or on how often a position is evaluated.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...protocol import Sampling
from .truncation import HANDFUL, Ids, Row

# Tokens whose noise is computed at once: larger arrays do not fit the CPU's cache.
CHUNK = 8192
# The increment of SplitMix64; the shifts and factors in `_mix` and `_split` are its own, too.
GOLDEN = 0x9E3779B97F4A7C15


def gumbel_argmax(ids: Ids, logits: Row, s: Sampling, position: int) -> int:
    """The token whose noisy logit is the largest; of equal ones that with the smallest id."""
    if ids.size <= HANDFUL:
        start, temperature = _start(s.seed, position), s.temperature
        few = zip(ids.tolist(), logits.tolist(), strict=True)
        winner = max((own + temperature * _noise(start, id_), -id_) for id_, own in few)
        return -int(winner[1])
    noisy = _noisy(ids, logits, s, position)
    return int(ids[noisy == noisy.max()].min())


def _noisy(ids: Ids, logits: Row, s: Sampling, position: int) -> NDArray[np.float64]:
    """logit + T * g: the argmax of logit / T + g, but without overflow, and greedy for T = 0."""
    noisy = np.empty(ids.size)
    for start in range(0, ids.size, CHUNK):
        part = slice(start, start + CHUNK)
        noisy[part] = logits[part] + s.temperature * gumbel(s.seed, position, ids[part])
    return noisy


def gumbel(seed: int, position: int, ids: Ids) -> NDArray[np.float64]:
    """Standard Gumbel noise, a pure function of seed, position and token id.

    The bits are output number `id` of a SplitMix64 generator (Steele, Lea and Flood 2014) that
    starts from output number `position` of the one that starts from `seed`.
    """
    start = _start(seed, position)
    uniform = ((_split(start, ids) >> np.uint64(12)) + 0.5) * 2.0**-52  # never 0 or 1
    return np.asarray(-np.log(-np.log(uniform)), np.float64)


def _start(seed: int, position: int) -> int:
    """The generator state from which the noise of a position starts."""
    return _mix(seed + (position + 1) * GOLDEN)


def _noise(start: int, token: int) -> float:
    """`gumbel` for one token, in Python's numbers."""
    bits = _mix(start + (token + 1) * GOLDEN) >> 12
    return -math.log(-math.log((bits + 0.5) * 2.0**-52))


def _mix(z: int) -> int:
    """The output of SplitMix64 in the state z, in Python's numbers; `_split` is for arrays."""
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
