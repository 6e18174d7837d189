"""How much faster than plain decoding could one stream be, by what guesses and steps cost here?

The bound is that of the best fixed length k, were every step to cost what the daemon has learned
and every guess to be right as often as those of the fixed lengths that were measured:

    (1 + s (c + c^2 + ... + c^k)) T(1) / (T(1) + s (T(1 + k) - T(1) + k D(1)))

with T and D the seconds of a decode of the model and of its drafter, by rows; c the chance that a
guess is right if those before it were; and s the share of the steps in which there was something
to guess, which is 1 but for lookup. Adaptive may be above it: it chooses step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outrider.daemon.runner.speculation.profile import SpeculationProfile
from outrider.daemon.runner.speculation.profile_store import load_profile

from .failure import BenchFailed
from .load import Guessed, Reply

LENGTHS = range(17)  # 0: plain
HALVINGS = 40  # of the interval in which the chance lies


def bound(fixed: Sequence[Reply], profile: SpeculationProfile) -> float:
    """Speed-up over plain decoding, by answers with fixed lengths."""
    guessed = [reply.guessed for reply in fixed if reply.guessed]
    steps = sum(r.tokens - (r.guessed.accepted if r.guessed else 0) for r in fixed)
    share = sum(each.times for each in guessed) / steps
    rate = _rate(guessed)
    plain_s = profile.verify.steady_s(1)
    draft_s = profile.draft.steady_s(1) if profile.draft.is_known else 0.0

    def speedup(length: int) -> float:
        tokens = 1 + share * _accepted(rate, length)
        more_s = profile.verify.steady_s(1 + length) - plain_s + length * draft_s
        return tokens * plain_s / (plain_s + share * more_s)

    return max(map(speedup, LENGTHS))


def learned_in(cache_home: Path) -> SpeculationProfile:
    """What a daemon that has loaded one model has kept there; at most as old as the last text.
    Raises BenchFailed."""
    profiles = list((cache_home / "outrider" / "profile").glob("*.json"))
    profile = load_profile(profiles[0]) if len(profiles) == 1 else None
    if profile is None or not profile.verify.is_known:
        raise BenchFailed(f"the daemon has not kept in {cache_home} what decoding costs here")
    return profile


def _rate(guessed: Sequence[Guessed]) -> float:
    """With which as many guesses are expected to be right as were."""
    right = sum(each.accepted for each in guessed)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = sum(each.times * _accepted(middle, each.mean_length) for each in guessed)
        low, high = (middle, high) if expected < right else (low, middle)
    return low


def _accepted(rate: float, length: float) -> float:
    """Expected of so many guesses; a fraction is that part of one more."""
    whole = int(length)
    sure = sum(rate**depth for depth in range(1, whole + 1))
    return sure + (length - whole) * rate ** (whole + 1)
