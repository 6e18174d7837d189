"""What is tried where nothing seems to pay, in the lab."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import pytest
from lab import LabDrafter, Machine, MadeUp, Text, Work, first_measured
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

CHEAP = Machine({1: 0.1, 2: 0.11, 8: 0.15}, {1: 0.02, 8: 0.05}, 0.01)  # good guesses would pay
STEEP = Machine({1: 0.1, 2: 0.15, 8: 0.45, 16: 0.85}, {1: 0.05, 8: 0.3}, 0.01)  # long runs pay
DEAR = Machine({1: 0.1, 2: 0.19, 8: 0.7}, {1: 0.05, 8: 0.3}, 0.01)  # not even they would
LOOKED_UP = 4


class Prober(LabDrafter):
    """Has to guess to be known."""

    can_evaluate = False


class Copier(LabDrafter):
    """Looks something up for every text."""

    name = "copier"
    is_free = True
    found = LOOKED_UP

    def draft(self, asks: Sequence[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        for ask in asks:
            ask.drafts += [Draft(1, 0.5)] * self.found
        return []


class Finder(Copier):
    """Finds a long run."""

    found = 12


def settled(machine: Machine, *, balance_s: float) -> list[StreamDraft]:
    """Of two texts, when all guesses so far were wrong and both drafters had their say."""
    rng, profile = random.Random(1), first_measured(machine)
    for drafter in (Copier.name, Prober.name) * 200:
        profile.acceptance.observe(drafter, 99, [0.5], 0)
    texts: dict[int, Text] = {n: MadeUp(n, [0.5] * 100, n) for n in range(2)}
    asking = [StreamDraft(cast("Stream", text), 8, 0) for text in texts.values()]
    guesses = DraftRound(asking, profile, streams=2, rows=2, is_even=False, spent_s=lambda: 0.0)
    guesses.look_up([Copier(Work(machine, rng), texts)])
    guesses.draft_with_model(Prober(Work(machine, rng), texts), RegretBudget(balance_s))
    guesses.settle(64)
    return asking


def test_what_is_tried_is_what_the_drafter_with_weights_guesses() -> None:
    first, second = settled(CHEAP, balance_s=10.0)
    assert (first.drafter, first.length, second.length) == (Prober.name, PROBE_LENGTH, 0)


@pytest.mark.parametrize(("machine", "balance_s"), [(CHEAP, 0.0), (DEAR, 10.0)])
def test_nothing_is_tried_that_cannot_be_paid_or_promises_nothing(
    machine: Machine, balance_s: float
) -> None:
    guesses = settled(machine, balance_s=balance_s)
    assert [(guess.drafter, guess.length) for guess in guesses] == [(Copier.name, 0)] * 2


def looked_up(*, is_proven: bool) -> int:
    """Guesses that are verified of a text, where other texts have gone on for long and rows are
    dear."""
    rng, profile = random.Random(1), first_measured(STEEP)
    for stream in range(10, 30):
        profile.acceptance.observe(Finder.name, stream, [0.5] * 12, 12)
    text = MadeUp(0, [0.5] * 100, 0)
    if is_proven:
        profile.acceptance.observe(Finder.name, text.number, [0.5] * 2, 2)
    guess = StreamDraft(cast("Stream", text), 32, 0)
    guesses = DraftRound([guess], profile, streams=1, rows=1, is_even=False, spent_s=lambda: 0.0)
    guesses.look_up([Finder(Work(STEEP, rng), {0: text})])
    guesses.settle(64)
    return guess.length


def test_a_text_whose_guesses_were_never_right_is_given_few() -> None:
    assert 0 < looked_up(is_proven=False) < looked_up(is_proven=True)


@pytest.mark.parametrize(("starting", "guesses"), [(0.0, True), (0.9, True), (1.0, False)])
def test_who_started_first_waits_for_as_many_others(*, starting: float, guesses: bool) -> None:
    rng, profile = random.Random(1), first_measured(CHEAP)
    text = MadeUp(0, [1.0] * 100, 0)
    drafter = LabDrafter(Work(CHEAP, rng), {0: text})
    profile.acceptance.observe(drafter.name, 1, [0.9] * 8, 8)
    speculation = SpeculationController([drafter], profile, clock=lambda: drafter.clock_s)
    drafts = speculation.propose([cast("Stream", text)], others=1, starting=starting, room=64)
    assert bool(drafts) is guesses
    assert bool(drafter.clock_s) is guesses  # the drafter does not even think


def test_guesses_that_nobody_verified_are_judged_as_well() -> None:
    rng, profile = random.Random(1), first_measured(CHEAP)
    text = MadeUp(0, [0.5] * 100, 0)
    text.sequence.draft_fixed = 2  # for which the drafter with weights is asked
    work = Work(CHEAP, rng)
    drafters = [Copier(work, {0: text}), Prober(work, {0: text})]
    speculation = SpeculationController(drafters, profile, clock=lambda: 0.0)
    stream, before = cast("Stream", text), profile.acceptance.judged(Copier.name, 1, 0.5)
    drafts = speculation.propose([stream], others=0, starting=0.0, room=64)[0]
    speculation.observe_step(rows=3, prompt_rows=0, took_s=0.12)
    accepted = text.take(drafts)
    speculation.observe_stream(
        stream,
        accepted=accepted,
        rows=range(accepted + 1),
        target_confidence=text.target_confidence,
    )
    assert len(drafts) == 2  # not those that were looked up, which are all wrong
    assert profile.acceptance.judged(Copier.name, 1, 0.5) < before
