"""Which drafts are made and verified in one step, on a simulated machine?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import pytest
from lab import LabDrafter, Machine, MadeUp, SimulatedDecodes, Text, first_measured
from outrider.daemon.runner.speculation.budget import RegretBudget
from outrider.daemon.runner.speculation.controller import SpeculationController
from outrider.daemon.runner.speculation.drafters.drafter import (
    Draft,
    DraftForward,
    DraftRequest,
    SelectNext,
)
from outrider.daemon.runner.speculation.round import PROBE_LENGTH, DraftRound, StreamDraft
from outrider.daemon.runner.stream import Stream

pytestmark = pytest.mark.unit

CHEAP = Machine({1: 0.1, 2: 0.11, 8: 0.15}, {1: 0.02, 8: 0.05}, 0.01)
STEEP = Machine({1: 0.1, 2: 0.15, 8: 0.45, 16: 0.85}, {1: 0.05, 8: 0.3}, 0.01)
EXPENSIVE = Machine({1: 0.1, 2: 0.19, 8: 0.7}, {1: 0.05, 8: 0.3}, 0.01)  # drafts never save time


class Prober(LabDrafter):
    """Without teacher-forced evaluation, as the heads."""

    can_evaluate = False


class Copier(LabDrafter):
    """Drafts for every text without a decode, as the n-gram drafter."""

    name = "copier"
    is_free = True
    length = 4

    def draft(
        self, requests: Sequence[DraftRequest], select_next: SelectNext
    ) -> list[DraftForward]:
        for request in requests:
            request.drafts += [Draft(1, 0.5)] * self.length
        return []


class LongCopier(Copier):
    """Copies a long run."""

    length = 12


def drafts_of_two(machine: Machine, *, balance_s: float) -> list[StreamDraft]:
    """The drafts of two texts, after all drafts of both drafters were rejected."""
    rng, profile = random.Random(1), first_measured(machine)
    for drafter in (Copier.name, Prober.name) * 200:
        profile.acceptance.observe(drafter, 99, [0.5], 0)
    texts: dict[int, Text] = {n: MadeUp(n, [0.5] * 100, n) for n in range(2)}
    entries = [StreamDraft(cast("Stream", text), 8, 0) for text in texts.values()]
    round_ = DraftRound(entries, profile, streams=2, rows=2, equal_rows=False, spent_s=lambda: 0.0)
    round_.draft_with_ngrams([Copier(SimulatedDecodes(machine, rng), texts)])
    round_.draft_with_model(Prober(SimulatedDecodes(machine, rng), texts), RegretBudget(balance_s))
    round_.choose_lengths(64)
    return entries


def test_a_probe_drafts_with_the_model_for_one_stream() -> None:
    first, second = drafts_of_two(CHEAP, balance_s=10.0)
    assert (first.drafter, first.length, second.length) == (Prober.name, PROBE_LENGTH, 0)


@pytest.mark.parametrize(("machine", "balance_s"), [(CHEAP, 0.0), (EXPENSIVE, 10.0)])
def test_no_probe_without_budget_or_expected_gain(machine: Machine, balance_s: float) -> None:
    entries = drafts_of_two(machine, balance_s=balance_s)
    assert [(entry.drafter, entry.length) for entry in entries] == [(Copier.name, 0)] * 2


def ngram_length(*, has_accepted_run: bool) -> int:
    """Verified draft tokens, where rows are expensive and other texts accepted long runs."""
    rng, profile = random.Random(1), first_measured(STEEP)
    for stream in range(10, 30):
        profile.acceptance.observe(LongCopier.name, stream, [0.5] * 12, 12)
    text = MadeUp(0, [0.5] * 100, 0)
    if has_accepted_run:
        profile.acceptance.observe(LongCopier.name, text.number, [0.5] * 2, 2)
    entry = StreamDraft(cast("Stream", text), 32, 0)
    round_ = DraftRound([entry], profile, streams=1, rows=1, equal_rows=False, spent_s=lambda: 0.0)
    round_.draft_with_ngrams([LongCopier(SimulatedDecodes(STEEP, rng), {0: text})])
    round_.choose_lengths(64)
    return entry.length


def test_a_stream_without_an_accepted_run_gets_short_ngram_drafts() -> None:
    assert 0 < ngram_length(has_accepted_run=False) < ngram_length(has_accepted_run=True)


@pytest.mark.parametrize(("starting", "is_drafted"), [(0.0, True), (0.9, True), (1.0, False)])
def test_the_first_stream_waits_for_as_many_others(*, starting: float, is_drafted: bool) -> None:
    rng, profile = random.Random(1), first_measured(CHEAP)
    text = MadeUp(0, [1.0] * 100, 0)
    drafter = LabDrafter(SimulatedDecodes(CHEAP, rng), {0: text})
    profile.acceptance.observe(drafter.name, 1, [0.9] * 8, 8)
    speculation = SpeculationController([drafter], profile, clock=lambda: drafter.clock_s)
    drafts = speculation.propose([cast("Stream", text)], others=1, starting=starting, room=64)
    assert bool(drafts) is is_drafted
    assert bool(drafter.clock_s) is is_drafted  # otherwise without a draft forward


def test_drafts_that_were_not_verified_count_as_well() -> None:
    rng, profile = random.Random(1), first_measured(CHEAP)
    text = MadeUp(0, [0.5] * 100, 0)
    text.sequence.draft_fixed = 2  # so the model drafts
    decodes = SimulatedDecodes(CHEAP, rng)
    drafters = [Copier(decodes, {0: text}), Prober(decodes, {0: text})]
    speculation = SpeculationController(drafters, profile, clock=lambda: 0.0)
    stream, before = cast("Stream", text), profile.acceptance.rate_of(Copier.name, 1, 0.5)
    drafts = speculation.propose([stream], others=0, starting=0.0, room=64)[0]
    speculation.observe_step(rows=3, prompt_rows=0, took_s=0.12)
    accepted = text.accept(drafts)
    speculation.observe_stream(
        stream,
        accepted=accepted,
        rows=range(accepted + 1),
        target_confidence=text.target_confidence,
    )
    assert len(drafts) == 2  # of the model; those of the copier are all wrong
    assert profile.acceptance.rate_of(Copier.name, 1, 0.5) < before
