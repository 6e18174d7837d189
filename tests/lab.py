"""How is drafting tested without a clock? On a simulated machine, with known texts.

Time follows the machine's cost tables, with noise; a text and its drafts are known to the end. So
a whole table of machines, texts and streams takes seconds and is reproducible.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from outrider.daemon.protocol import Limits, Sampling
from outrider.daemon.runner.kv.cached_sequence import CachedSequence
from outrider.daemon.runner.sequence import Sequence as Tokens
from outrider.daemon.runner.speculation.controller import SpeculationController
from outrider.daemon.runner.speculation.drafters.drafter import (
    MAX_UNSEEN,
    Draft,
    Drafter,
    DraftForward,
    DraftRequest,
    SelectNext,
)
from outrider.daemon.runner.speculation.profile import SpeculationProfile
from outrider.daemon.runner.speculation.step_cost import Estimate, StepCost
from outrider.daemon.runner.stream import Stream

KNOWN_VARIANCE = 0.02**2  # of the logarithm of a cost that was measured many times
NOISE = 0.03  # relative deviation of the time of a call
EASY = 0.97  # acceptance rate of an easy token
PROMPT = 60  # tokens
ROOM = 64  # rows of a step
WRONG = -1  # a draft token that is never accepted


@dataclass(frozen=True)
class Machine:
    """Seconds of a decode by its rows, for a model and for its drafter."""

    verify: Mapping[int, float]
    draft: Mapping[int, float]
    prefill_s: float  # of the drafter, per token
    transient: Sequence[float] = ()  # factors of the first decodes with an unchanged row count
    slowest: float = 1.0  # largest factor of all times while another program runs
    spell: float = 40.0  # mean number of steps between two changes of that factor


@dataclass(frozen=True)
class Content:
    """The predictability of a text: runs of easy tokens, and hard ones between them."""

    easy: float  # share of the tokens
    hard: float  # acceptance rate of a token that is not easy
    run: float = 4.0  # easy tokens in a row, on average

    def rates(self, count: int, rng: random.Random) -> list[float]:
        """The acceptance rate of each token."""
        rates: list[float] = []
        is_easy = rng.random() < self.easy
        while len(rates) < count:
            mean = self.run if is_easy else max(1.0, self.run * (1 - self.easy) / self.easy)
            length = 1
            while rng.random() > 1 / mean:
                length += 1
            rates += [EASY if is_easy else self.hard] * length
            is_easy = not is_easy
        return rates[:count]


def seconds(points: Mapping[int, float], rows: int) -> float:
    """Linear interpolation between the points; extrapolation along the last two."""
    counts = sorted(points)
    high = next((i for i, count in enumerate(counts) if rows <= count), len(counts) - 1)
    if not high:
        return points[counts[0]]
    left, right = counts[high - 1], counts[high]
    slope = (points[right] - points[left]) / (right - left)
    return points[left] + slope * (rows - left)


class Text(ABC):
    """A stream with a known future, as far as engine and drafter use it."""

    sampler: None = None  # nothing is sampled

    def __init__(self, number: int, prompt: Sequence[int], truth: Sequence[int]) -> None:
        self.number = number
        self.truth = truth
        limits = Limits(num_predict=len(truth))
        tokens = array("i", prompt)
        self.sequence = Tokens(number, tokens, Sampling(), limits, num_ctx=1 << 20)
        self.sequence.kv_seq = CachedSequence(number, tokens[:])
        self.sequence.append(truth[0])

    @abstractmethod
    def draft_token(self, place: int, before: Sequence[Draft] = ()) -> Draft:
        """The drafter's token after the first `place` tokens and the draft tokens `before`."""

    @abstractmethod
    def target_confidence(self) -> float:
        """The target's confidence in the newest token."""

    @property
    def is_over(self) -> bool:
        return len(self.sequence.output_tokens) >= len(self.truth)

    def num_possible(self, tokens: Sequence[int]) -> int:
        return len(tokens)

    def accept(self, drafts: Sequence[int]) -> int:
        """End a step: append the accepted draft tokens and one more; how many were accepted."""
        seq, place = self.sequence, len(self.sequence.output_tokens)
        future = self.truth[place : place + len(drafts)]
        accepted = 0
        while accepted < len(future) and future[accepted] == drafts[accepted]:
            accepted += 1
        assert seq.kv_seq
        for token in self.truth[place : place + accepted + 1]:
            seq.kv_seq.tokens.append(seq.tokens[-1])
            seq.append(token)
        return accepted


class MadeUp(Text):
    """A random text, each token of which has a given acceptance rate."""

    def __init__(self, number: int, rates: Sequence[float], seed: int) -> None:
        self._rates = rates
        self._rng = random.Random(seed)
        truth = [self._rng.randrange(1000, 30000) for _ in rates]
        super().__init__(number, [self._rng.randrange(1000) for _ in range(PROMPT)], truth)

    def draft_token(self, place: int, before: Sequence[Draft] = ()) -> Draft:
        place += len(before)
        rate = self._rates[place] if place < len(self.truth) else 0.5
        is_lost = any(draft.token == WRONG for draft in before)
        is_right = self._rng.random() < rate and not is_lost and place < len(self.truth)
        confidence = 0.9 * rate + 0.05 + 0.12 * self._rng.gauss(0, 1)
        token = self.truth[place] if is_right else WRONG
        return Draft(token, min(max(confidence, 0.02), 0.99))

    def target_confidence(self) -> float:
        rate = self._rates[len(self.sequence.output_tokens) - 1]
        return min(max(0.8 * rate + 0.15 + 0.1 * self._rng.gauss(0, 1), 0.1), 1.0)


class SimulatedDecodes:
    """The decodes of a machine: their measured time, and the sum of their time without disturbance.

    Rates are computed from the latter, so that noise and slow spells disturb only the decisions.
    """

    def __init__(self, machine: Machine, rng: random.Random) -> None:
        self.machine = machine
        self._rng = rng
        self._speed = 1.0
        self._rows = self._repeats = 0  # of the target
        self.quiet_s = 0.0  # of all calls

    def step_s(self, rows: int) -> float:
        """Measured time of a decode of the target."""
        machine = self.machine
        if machine.slowest > 1 and self._rng.random() < 1 / machine.spell:
            self._speed = self._rng.uniform(1.0, machine.slowest)
        self._repeats = self._repeats + 1 if rows == self._rows else 0
        self._rows = rows
        transient = machine.transient
        factor = transient[self._repeats] if self._repeats < len(transient) else 1.0
        return self.call_s(factor * seconds(machine.verify, rows))

    def call_s(self, quiet_s: float) -> float:
        """Measured time of a call that takes `quiet_s` without disturbance."""
        self.quiet_s += quiet_s
        return quiet_s * self._speed * (1 + NOISE * self._rng.gauss(0, 1))


class LabDrafter(Drafter):
    """A small model with a cache of its own, as far as costs go; its time is the only clock."""

    name = "model"
    max_length = 16
    can_evaluate = True

    def __init__(self, decodes: SimulatedDecodes, texts: Mapping[int, Text]) -> None:
        self._decodes = decodes
        self._machine = decodes.machine
        self._texts = texts
        self._cached = {id_: text.sequence.num_prompt for id_, text in texts.items()}
        self.clock_s = 0.0

    def pending(self, sequence: Tokens) -> int:
        return len(sequence.tokens) - min(self._cached[sequence.id], len(sequence.tokens) - 1)

    def draft(
        self, requests: Sequence[DraftRequest], select_next: SelectNext
    ) -> list[DraftForward]:
        forwards, rows = [], 0
        for request in requests:
            pending = self.pending(request.sequence)
            if pending > 1 + self.max_length:
                prefill_s = self._machine.prefill_s * (pending - 1)
                forwards.append(self._forward(pending - 1, prefill_s, True))
                pending = 1
            rows += pending
        while requests:
            took_s = seconds(self._machine.draft, rows)
            forwards.append(self._forward(rows, took_s, rows > MAX_UNSEEN * len(requests)))
            for request in requests:
                seq = request.sequence
                self._cached[seq.id] = len(seq.tokens) + len(request.drafts)
                text, place = self._texts[seq.id], len(seq.output_tokens)
                request.drafts.append(text.draft_token(place, request.drafts))
            requests = select_next(requests)
            rows = len(requests)
        return forwards

    def evaluate(self, request: DraftRequest) -> list[DraftForward]:
        seq, count = request.sequence, self.pending(request.sequence) - 1
        text, end = self._texts[seq.id], len(seq.output_tokens)
        request.drafts += [text.draft_token(place) for place in range(end - request.length, end)]
        self._cached[seq.id] = len(seq.tokens) - 1
        took_s = max(seconds(self._machine.draft, 1), self._machine.prefill_s * count)
        return [self._forward(count, took_s, True)]

    def _forward(self, rows: int, took_s: float, is_prefill: bool) -> DraftForward:
        took_s = self._decodes.call_s(took_s)
        self.clock_s += took_s
        return DraftForward(rows, took_s, is_prefill)

    def observe(self, sequence: Tokens, rows: range, *, is_newest: bool) -> None:
        """Remove rejected draft tokens from the cache."""
        self._cached[sequence.id] = min(self._cached[sequence.id], len(sequence.tokens) - 1)

    def forget(self, sequence: Tokens) -> None:
        """Nothing to free."""


def known(costs: Mapping[int, float]) -> StepCost:
    """The cost model after many decodes with each of these row counts."""
    logs = {rows: math.log(cost) if cost else -math.inf for rows, cost in costs.items()}
    return StepCost({rows: Estimate(log, KNOWN_VARIANCE) for rows, log in logs.items()})


def first_measured(machine: Machine) -> SpeculationProfile:
    """The profile of a runner after its first calibration."""
    profile = SpeculationProfile()
    for rows in (1, 2, 4, 8):
        profile.verify.observe(rows, seconds(machine.verify, rows))
        profile.draft.observe(rows, seconds(machine.draft, rows))
    return profile


def made_up(contents: Sequence[Content], tokens: int, rng: random.Random) -> list[Text]:
    """One text of each content."""
    return [
        MadeUp(number, content.rates(tokens, rng), rng.randrange(1 << 30))
        for number, content in enumerate(contents)
    ]


def decode(
    machine: Machine,
    texts: Sequence[Text],
    profile: SpeculationProfile,
    rng: random.Random,
    *,
    fixed: int | None = None,
    free: Sequence[Drafter] = (),
) -> float:
    """Tokens per second without disturbance, until the first of these texts ends.

    `fixed`: draft length; 0 is plain decoding, None adaptive. `free`: drafters without weights.
    """
    decodes = SimulatedDecodes(machine, rng)
    drafter = LabDrafter(decodes, {text.number: text for text in texts})
    speculation = SpeculationController(
        [*free, drafter], profile, fixed=fixed, clock=lambda: drafter.clock_s
    )
    streams = cast("list[Stream]", list(texts))
    decoded = 0
    while not any(text.is_over for text in texts):
        drafts = speculation.propose(streams, others=0, starting=0.0, room=ROOM - len(texts))
        rows = len(texts) + sum(map(len, drafts.values()))
        step_s = decodes.step_s(rows)
        speculation.observe_step(rows=rows, prompt_rows=0, took_s=step_s)
        for text, stream in zip(texts, streams, strict=True):
            accepted = text.accept(drafts.get(text.number, []))
            speculation.observe_stream(
                stream,
                accepted=accepted,
                rows=range(accepted + 1),
                target_confidence=text.target_confidence,
            )
            decoded += accepted + 1
    for stream in streams:
        speculation.finish(stream, accepted=0)
    return decoded / decodes.quiet_s
