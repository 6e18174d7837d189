"""What became of the drafts, by drafter and depth?"""

from __future__ import annotations

import pytest
from outrider.daemon.protocol import DrafterCounts
from outrider.daemon.runner.speculation.stats import DraftOutcomes

pytestmark = pytest.mark.unit


def test_a_token_counts_if_all_before_it_were_accepted() -> None:
    outcomes = DraftOutcomes()
    outcomes.add("ngram", length=3, accepted=1)
    outcomes.add("ngram", length=3, accepted=3)
    outcomes.add("ngram", length=1, accepted=0)
    outcomes.add("mtp", length=2, accepted=2)
    assert outcomes.by_depth() == (
        DrafterCounts("mtp", (1, 1), (1, 1)),
        DrafterCounts("ngram", (3, 2, 1), (2, 1, 1)),
    )


def test_without_drafts_there_is_nothing() -> None:
    assert DraftOutcomes().by_depth() == ()
