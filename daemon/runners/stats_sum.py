"""What do the counters of several runners add up to?"""

from __future__ import annotations

from itertools import zip_longest

import msgspec

from ..protocol import DrafterStats, Stats

LEVELS = ("slots_busy", "waiting", "cells_used")  # gauges: a runner that is gone has none


def add_stats(first: Stats | None, second: Stats) -> Stats:
    """The sums, also of the gauges; fields that are neither numbers nor sums of them stay empty."""
    first = first or Stats()
    sums = {
        name: value + getattr(second, name)
        for name, value in msgspec.structs.asdict(first).items()
        if isinstance(value, int)
    }
    pairs = zip_longest(first.gap_counts, second.gap_counts, fillvalue=0)
    gap_counts = tuple(a + b for a, b in pairs)
    return Stats(**sums, gap_counts=gap_counts, drafters=_add_drafters(first, second))


def without_levels(stats: Stats) -> Stats:
    """The counters alone."""
    return msgspec.structs.replace(stats, **dict.fromkeys(LEVELS, 0))


def _add_drafters(first: Stats, second: Stats) -> tuple[DrafterStats, ...]:
    sums: dict[str, DrafterStats] = {}
    for each in (*first.drafters, *second.drafters):
        have = sums.get(each.name) or DrafterStats(each.name, 0, 0, 0, 0, 0)
        sums[each.name] = DrafterStats(
            name=each.name,
            drafts=have.drafts + each.drafts,
            drafted=have.drafted + each.drafted,
            accepted=have.accepted + each.accepted,
            took_ns=have.took_ns + each.took_ns,
            plain_ns=have.plain_ns + each.plain_ns,
        )
    return tuple(sums.values())
