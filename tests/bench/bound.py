"""How much faster than plain decoding could one stream be, by measured costs and acceptance?

The bound is that of the best fixed draft length k, if every step cost what the profile says, and
all draft tokens had the acceptance rate of the fixed lengths that were measured:

    (1 + s (a + a^2 + ... + a^k)) T(1) / (T(1) + s (T(1 + k) - T(1) + k D(1)))

with T and D the seconds of a decode of the model and of its drafter, by rows; a the acceptance
rate of a draft token, given that those before it were accepted; and s the share of steps with
a draft, which is 1 but for n-gram lookup. Adaptive may exceed the bound: it chooses step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outrider.daemon.runner.speculation.profile import SpeculationProfile
from outrider.daemon.runner.speculation.profile_store import load_profile

from .failure import BenchFailed
from .load import Guessed, Reply

LENGTHS = range(17)  # draft lengths; 0 is plain decoding
HALVINGS = 40  # bisections of the interval from 0 to 1 that holds the acceptance rate


def bound(fixed: Sequence[Reply], profile: SpeculationProfile) -> float:
    """Speed-up over plain decoding, by answers with fixed draft lengths."""
    reports = [reply.guessed for reply in fixed if reply.guessed]
    steps = sum(r.tokens - (r.guessed.accepted if r.guessed else 0) for r in fixed)
    share = sum(each.times for each in reports) / steps
    rate = _rate(reports)
    plain_s = profile.verify.steady_s(1)
    draft_s = profile.draft.steady_s(1) if profile.draft.is_known else 0.0

    def speedup(length: int) -> float:
        tokens = 1 + share * _accepted(rate, length)
        more_s = profile.verify.steady_s(1 + length) - plain_s + length * draft_s
        return tokens * plain_s / (plain_s + share * more_s)

    return max(map(speedup, LENGTHS))


def learned_in(cache_home: Path) -> SpeculationProfile:
    """The profile that a daemon with one model has stored there. Raises BenchFailed."""
    profiles = list((cache_home / "outrider" / "profile").glob("*.json"))
    profile = load_profile(profiles[0]) if len(profiles) == 1 else None
    if profile is None or not profile.verify.is_known:
        raise BenchFailed(f"the daemon has stored no profile in {cache_home}")
    return profile


def _rate(reports: Sequence[Guessed]) -> float:
    """The acceptance rate with which the expected number of accepted tokens is the counted one."""
    accepted = sum(each.accepted for each in reports)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = sum(each.times * _accepted(middle, each.mean_length) for each in reports)
        low, high = (middle, high) if expected < accepted else (low, middle)
    return low


def _accepted(rate: float, length: float) -> float:
    """Expected accepted tokens of a draft; a fractional length interpolates."""
    whole = int(length)
    tokens = sum(rate**depth for depth in range(1, whole + 1))
    return tokens + (length - whole) * rate ** (whole + 1)
