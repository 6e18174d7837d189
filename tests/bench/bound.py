"""How much faster than plain decoding could one stream be, by the costs and acceptance rates here?

The bound is that of the best fixed draft length k, with the step costs in the daemon's profile and
the acceptance rate of the fixed lengths that were measured:

    (1 + s (c + c^2 + ... + c^k)) T(1) / (T(1) + s (T(1 + k) - T(1) + k D(1)))

with T and D the seconds of a decode of the model and of its drafter, by rows; c the probability
that a draft token is accepted if those before it were; and s the share of the steps with a draft,
which is 1 except for n-gram lookup. Adaptive may exceed the bound: it chooses for each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outrider.daemon.runner.speculation.profile import SpeculationProfile
from outrider.daemon.runner.speculation.profile_store import load_profile

from .failure import BenchFailed
from .load import DraftCounts, Reply

LENGTHS = range(17)  # 0: plain
HALVINGS = 40  # of the interval of the acceptance rate


def bound(fixed: Sequence[Reply], profile: SpeculationProfile) -> float:
    """Speed-up over plain decoding, by answers with fixed lengths."""
    drafts = [reply.drafts for reply in fixed if reply.drafts]
    steps = sum(r.tokens - (r.drafts.accepted if r.drafts else 0) for r in fixed)
    share = sum(each.times for each in drafts) / steps
    rate = _rate(drafts)
    plain_s = profile.verify.steady_s(1)
    draft_s = profile.draft.steady_s(1) if profile.draft.is_known else 0.0

    def speedup(length: int) -> float:
        tokens = 1 + share * _accepted(rate, length)
        more_s = profile.verify.steady_s(1 + length) - plain_s + length * draft_s
        return tokens * plain_s / (plain_s + share * more_s)

    return max(map(speedup, LENGTHS))


def saved_profile(cache_home: Path) -> SpeculationProfile:
    """The profile saved by a daemon that has loaded one model. Raises BenchFailed."""
    profiles = list((cache_home / "outrider" / "speculation").glob("*.json"))
    profile = load_profile(profiles[0]) if len(profiles) == 1 else None
    if profile is None or not profile.verify.is_known:
        raise BenchFailed(f"the daemon has not kept in {cache_home} what decoding costs here")
    return profile


def _rate(drafts: Sequence[DraftCounts]) -> float:
    """The acceptance rate per position that explains the number of accepted draft tokens."""
    accepted = sum(each.accepted for each in drafts)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = sum(each.times * _accepted(middle, each.mean_length) for each in drafts)
        low, high = (middle, high) if expected < accepted else (low, middle)
    return low


def _accepted(rate: float, length: float) -> float:
    """Expected accepted tokens of a draft; a fraction of `length` is that part of one more."""
    whole = int(length)
    of_whole = sum(rate**depth for depth in range(1, whole + 1))
    return of_whole + (length - whole) * rate ** (whole + 1)
