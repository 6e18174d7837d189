"""How tests judge decisions about drafting without a clock: a made-up machine and known texts.

Time is what the machine's curves say, with noise; a text is known to its end, and so is what would
be guessed. So a whole table of machines, texts and streams takes seconds, and is the same every
time.
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

SURE = 0.02**2  # doubt about the logarithm of a cost that is known
NOISE = 0.03  # by which calls of one size differ, relative
EASY = 0.97  # chance of guessing an easy token
PROMPT = 60  # tokens
ROOM = 64  # rows of a step
WRONG = -1


@dataclass(frozen=True)
class Machine:
    """Seconds of a decode by its rows, for a model and for its drafter."""

    verify: Mapping[int, float]
    draft: Mapping[int, float]
    read_s: float  # that the drafter needs for a token of a text it had not followed
    fresh: Sequence[float] = ()  # factors of the first decodes in a row that have as many rows
    slowest: float = 1.0  # how many times as long all may take while something else runs, ...
    spell: float = 40.0  # ... and for how many steps, on average


@dataclass(frozen=True)
class Content:
    """What a text is like: runs of easy tokens, and hard ones between them."""

    easy: float  # share of the tokens
    hard: float  # chance of guessing one that is not easy
    run: float = 4.0  # easy tokens in a row, on average

    def rates(self, count: int, rng: random.Random) -> list[float]:
        """Of guessing each token."""
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
    """On the line through the points, and on through the last two."""
    counts = sorted(points)
    high = next((i for i, count in enumerate(counts) if rows <= count), len(counts) - 1)
    if not high:
        return points[counts[0]]
    left, right = counts[high - 1], counts[high]
    slope = (points[right] - points[left]) / (right - left)
    return points[left] + slope * (rows - left)


class Text(ABC):
    """A stream whose future is known to the test: what engine and drafter ask of it."""

    sampler: None = None  # nothing is drawn

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
        """What a drafter says after the first `place` tokens and these guesses."""

    @abstractmethod
    def target_confidence(self) -> float:
        """Of the target, of its newest token."""

    @property
    def is_over(self) -> bool:
        return len(self.sequence.output_tokens) >= len(self.truth)

    def num_possible(self, tokens: Sequence[int]) -> int:
        return len(tokens)

    def take(self, drafts: Sequence[int]) -> int:
        """The step is over: as many drafts as are right, and one token more."""
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
    """So likely is each of its tokens guessed."""

    def __init__(self, number: int, rates: Sequence[float], seed: int) -> None:
        self._chances = rates
        self._rng = random.Random(seed)
        truth = [self._rng.randrange(1000, 30000) for _ in rates]
        super().__init__(number, [self._rng.randrange(1000) for _ in range(PROMPT)], truth)

    def draft_token(self, place: int, before: Sequence[Draft] = ()) -> Draft:
        place += len(before)
        rate = self._chances[place] if place < len(self.truth) else 0.5
        is_lost = any(draft.token == WRONG for draft in before)
        is_right = self._rng.random() < rate and not is_lost and place < len(self.truth)
        confidence = 0.9 * rate + 0.05 + 0.12 * self._rng.gauss(0, 1)
        token = self.truth[place] if is_right else WRONG
        return Draft(token, min(max(confidence, 0.02), 0.99))

    def target_confidence(self) -> float:
        rate = self._chances[len(self.sequence.output_tokens) - 1]
        return min(max(0.8 * rate + 0.15 + 0.1 * self._rng.gauss(0, 1), 0.1), 1.0)


class Work:
    """A machine while it decodes: how fast it is just now, and how many rows the target had.

    Decisions are judged by what they would have taken in quiet times, so that noise and slow spells
    mislead nobody but the one who decides.
    """

    def __init__(self, machine: Machine, rng: random.Random) -> None:
        self.machine = machine
        self._rng = rng
        self._speed = 1.0
        self._rows = self._alike = 0
        self.quiet_s = 0.0  # of all calls

    def step_s(self, rows: int) -> float:
        """Of a decode of the target."""
        machine = self.machine
        if machine.slowest > 1 and self._rng.random() < 1 / machine.spell:
            self._speed = self._rng.uniform(1.0, machine.slowest)
        self._alike = self._alike + 1 if rows == self._rows else 0
        self._rows = rows
        factor = machine.fresh[self._alike] if self._alike < len(machine.fresh) else 1.0
        return self.call_s(factor * seconds(machine.verify, rows))

    def call_s(self, usual_s: float) -> float:
        """What takes so long in quiet times."""
        self.quiet_s += usual_s
        return usual_s * self._speed * (1 + NOISE * self._rng.gauss(0, 1))


class LabDrafter:
    """A small model with a cache of its own, as far as costs go; its time is the only clock."""

    name = "model"
    max_length = 16
    is_free = False
    can_evaluate = True

    def __init__(self, work: Work, texts: Mapping[int, Text]) -> None:
        self._work = work
        self._machine = work.machine
        self._texts = texts
        self._read = {id_: text.sequence.num_prompt for id_, text in texts.items()}  # in its cache
        self.clock_s = 0.0

    def pending(self, sequence: Tokens) -> int:
        return len(sequence.tokens) - min(self._read[sequence.id], len(sequence.tokens) - 1)

    def draft(
        self, requests: Sequence[DraftRequest], select_next: SelectNext
    ) -> list[DraftForward]:
        calls, rows = [], 0
        for request in requests:
            pending = self.pending(request.sequence)
            if pending > 1 + self.max_length:
                calls.append(self._call(pending - 1, self._machine.read_s * (pending - 1), True))
                pending = 1
            rows += pending
        while requests:
            took_s = seconds(self._machine.draft, rows)
            calls.append(self._call(rows, took_s, rows > MAX_UNSEEN * len(requests)))
            for request in requests:
                text = self._texts[request.sequence.id]
                self._read[text.number] = len(request.sequence.tokens) + len(request.drafts)
                request.drafts.append(
                    text.draft_token(len(request.sequence.output_tokens), request.drafts)
                )
            requests = select_next(requests)
            rows = len(requests)
        return calls

    def evaluate(self, request: DraftRequest) -> list[DraftForward]:
        seq, count = request.sequence, self.pending(request.sequence) - 1
        text, end = self._texts[seq.id], len(seq.output_tokens)
        request.drafts += [text.draft_token(place) for place in range(end - request.length, end)]
        self._read[seq.id] = len(seq.tokens) - 1
        took_s = max(seconds(self._machine.draft, 1), self._machine.read_s * count)
        return [self._call(count, took_s, True)]

    def _call(self, rows: int, took_s: float, is_prefill: bool) -> DraftForward:
        took_s = self._work.call_s(took_s)
        self.clock_s += took_s
        return DraftForward(rows, took_s, is_prefill)

    def observe(self, sequence: Tokens, rows: range, *, is_tip: bool) -> None:
        """What was wrong is cut off."""
        self._read[sequence.id] = min(self._read[sequence.id], len(sequence.tokens) - 1)

    def forget(self, sequence: Tokens) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing was loaded."""


def known(costs: Mapping[int, float]) -> StepCost:
    """What somebody believes who has seen many calls with so many rows."""
    logs = {rows: math.log(cost) if cost else -math.inf for rows, cost in costs.items()}
    return StepCost({rows: Estimate(log, SURE) for rows, log in logs.items()})


def first_measured(machine: Machine) -> SpeculationProfile:
    """What a runner knows after its first calibration."""
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
    """Tokens a second of quiet time while all these texts are under way; `fixed` 0 is plain
    decoding, None as many guesses as pay. `free`: who guesses beside the small model, for nothing.
    """
    work = Work(machine, rng)
    drafter = LabDrafter(work, {text.number: text for text in texts})
    speculation = SpeculationController(
        [*free, drafter], profile, fixed=fixed, clock=lambda: drafter.clock_s
    )
    streams = cast("list[Stream]", list(texts))
    decoded = 0
    while not any(text.is_over for text in texts):
        drafts = speculation.propose(streams, others=0, starting=0.0, room=ROOM - len(texts))
        rows = len(texts) + sum(map(len, drafts.values()))
        step_s = work.step_s(rows)
        speculation.observe_step(rows=rows, prompt_rows=0, took_s=step_s)
        for text, stream in zip(texts, streams, strict=True):
            accepted = text.take(drafts.get(text.number, []))
            speculation.observe_stream(
                stream,
                accepted=accepted,
                rows=range(accepted + 1),
                target_confidence=text.target_confidence,
            )
            decoded += accepted + 1
    for stream in streams:
        speculation.finish(stream, accepted=0)
    return decoded / work.quiet_s
