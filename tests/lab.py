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
from outrider.daemon.runner.curve import Belief, Curve
from outrider.daemon.runner.drafters.drafter import NEWEST, Ask, Call, Draft, Drafter, GoOn
from outrider.daemon.runner.kv.cached_sequence import CachedSequence
from outrider.daemon.runner.learned import Learned
from outrider.daemon.runner.sequence import Sequence as Tokens
from outrider.daemon.runner.speculation import Speculation
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

    def chances(self, count: int, rng: random.Random) -> list[float]:
        """Of guessing each token."""
        chances: list[float] = []
        is_easy = rng.random() < self.easy
        while len(chances) < count:
            mean = self.run if is_easy else max(1.0, self.run * (1 - self.easy) / self.easy)
            length = 1
            while rng.random() > 1 / mean:
                length += 1
            chances += [EASY if is_easy else self.hard] * length
            is_easy = not is_easy
        return chances[:count]


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
    def guess(self, place: int, before: Sequence[Draft] = ()) -> Draft:
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

    def __init__(self, number: int, chances: Sequence[float], seed: int) -> None:
        self._chances = chances
        self._rng = random.Random(seed)
        truth = [self._rng.randrange(1000, 30000) for _ in chances]
        super().__init__(number, [self._rng.randrange(1000) for _ in range(PROMPT)], truth)

    def guess(self, place: int, before: Sequence[Draft] = ()) -> Draft:
        place += len(before)
        chance = self._chances[place] if place < len(self.truth) else 0.5
        is_lost = any(draft.token == WRONG for draft in before)
        is_right = self._rng.random() < chance and not is_lost and place < len(self.truth)
        confidence = 0.9 * chance + 0.05 + 0.12 * self._rng.gauss(0, 1)
        token = self.truth[place] if is_right else WRONG
        return Draft(token, min(max(confidence, 0.02), 0.99))

    def target_confidence(self) -> float:
        chance = self._chances[len(self.sequence.output_tokens) - 1]
        return min(max(0.8 * chance + 0.15 + 0.1 * self._rng.gauss(0, 1), 0.1), 1.0)


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
    reviews = True

    def __init__(self, work: Work, texts: Mapping[int, Text]) -> None:
        self._work = work
        self._machine = work.machine
        self._texts = texts
        self._read = {id_: text.sequence.num_prompt for id_, text in texts.items()}  # in its cache
        self.clock_s = 0.0

    def pending(self, sequence: Tokens) -> int:
        return len(sequence.tokens) - min(self._read[sequence.id], len(sequence.tokens) - 1)

    def draft(self, asks: Sequence[Ask], go_on: GoOn) -> list[Call]:
        calls, rows = [], 0
        for ask in asks:
            pending = self.pending(ask.sequence)
            if pending > 1 + self.max_length:
                calls.append(self._call(pending - 1, self._machine.read_s * (pending - 1), True))
                pending = 1
            rows += pending
        while asks:
            took_s = seconds(self._machine.draft, rows)
            calls.append(self._call(rows, took_s, rows > NEWEST * len(asks)))
            for ask in asks:
                text = self._texts[ask.sequence.id]
                self._read[text.number] = len(ask.sequence.tokens) + len(ask.drafts)
                ask.drafts.append(text.guess(len(ask.sequence.output_tokens), ask.drafts))
            asks = go_on(asks)
            rows = len(asks)
        return calls

    def review(self, ask: Ask) -> list[Call]:
        seq, count = ask.sequence, self.pending(ask.sequence) - 1
        text, end = self._texts[seq.id], len(seq.output_tokens)
        ask.drafts += [text.guess(place) for place in range(end - ask.length, end)]
        self._read[seq.id] = len(seq.tokens) - 1
        took_s = max(seconds(self._machine.draft, 1), self._machine.read_s * count)
        return [self._call(count, took_s, True)]

    def _call(self, rows: int, took_s: float, catches_up: bool) -> Call:
        took_s = self._work.call_s(took_s)
        self.clock_s += took_s
        return Call(rows, took_s, catches_up)

    def observe(self, sequence: Tokens, rows: range, *, is_tip: bool) -> None:
        """What was wrong is cut off."""
        self._read[sequence.id] = min(self._read[sequence.id], len(sequence.tokens) - 1)

    def forget(self, sequence: Tokens) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing was loaded."""


def known(costs: Mapping[int, float]) -> Curve:
    """What somebody believes who has seen many calls with so many rows."""
    logs = {rows: math.log(cost) if cost else -math.inf for rows, cost in costs.items()}
    return Curve({rows: Belief(log, SURE) for rows, log in logs.items()})


def first_measured(machine: Machine) -> Learned:
    """What a runner knows after its first calibration."""
    learned = Learned()
    for rows in (1, 2, 4, 8):
        learned.verify.observe(rows, seconds(machine.verify, rows))
        learned.draft.observe(rows, seconds(machine.draft, rows))
    return learned


def made_up(contents: Sequence[Content], tokens: int, rng: random.Random) -> list[Text]:
    """One text of each content."""
    return [
        MadeUp(number, content.chances(tokens, rng), rng.randrange(1 << 30))
        for number, content in enumerate(contents)
    ]


def decode(
    machine: Machine,
    texts: Sequence[Text],
    learned: Learned,
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
    speculation = Speculation([*free, drafter], learned, fixed=fixed, clock=lambda: drafter.clock_s)
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
