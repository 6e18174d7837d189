"""How many prompt tokens may a step evaluate beside decoding streams? (Chunked prefill)"""

from __future__ import annotations

from .speculation.profile import SpeculationProfile

STRETCH = 2.4
"""Longest step with prompt rows, in steps without; `make bench` bounds the median stall by 3.0."""
SIZES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Prompt rows of a step; few values, so graph shapes recur (GUIDE 6.4)."""
MIN_ROWS, MAX_ROWS = SIZES[0], SIZES[-1]
INITIAL_ROWS = 16  # prompt rows of a step while costs are unknown


def max_prompt_rows(profile: SpeculationProfile, streams: int) -> int:
    """Prompt rows of the next step, beside so many streams that are past their first token.

    They may add STRETCH - 1 times the cost of a plain decode of these streams. Draft rows are not
    counted, since each step may or may not have some; a step with drafts is stretched less.
    """
    if streams == 0:
        return MAX_ROWS
    profile.learn_deferred()
    if not profile.verify.is_known or not profile.prompt.is_known:
        return INITIAL_ROWS
    rows = (STRETCH - 1) * profile.verify.measured_s(streams) / profile.prompt.token_s
    return max(size for size in SIZES if size <= max(rows, MIN_ROWS))
