"""How tests judge decisions about drafting without a clock: a made-up machine, made-up texts.

Time is what the machine's curves say, with noise; a text is how hard each of its tokens is to
guess. So a whole table of machines, texts and streams takes seconds, and is the same every time.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from outrider.daemon.protocol import Limits, Sampling
from outrider.daemon.runner.drafters.drafter import NEWEST, Ask, Call, Draft, GoOn
from outrider.daemon.runner.holding import Holding
from outrider.daemon.runner.learned import Learned
from outrider.daemon.runner.sequence import Sequence as Tokens
from outrider.daemon.runner.speculation import Speculation
from outrider.daemon.runner.stream import Stream

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


@dataclass(eq=False)
class Text:
    """A stream whose future is known to the test: what engine and drafter ask of it."""

    number: int
    chances: Sequence[float]
    seed: int
    sequence: Tokens = field(init=False)
    sampler: None = None  # nothing is drawn

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.truth = [self.rng.randrange(1000, 30000) for _ in self.chances]
        prompt = array("i", [self.rng.randrange(1000) for _ in range(PROMPT)])
        limits = Limits(num_predict=len(self.truth))
        self.sequence = Tokens(self.number, prompt, Sampling(), limits, num_ctx=1 << 20)
        self.sequence.holding = Holding(self.number, prompt[:])
        self.sequence.append(self.truth[0])

    @property
    def is_over(self) -> bool:
        return len(self.sequence.drawn) >= len(self.truth)

    def num_possible(self, tokens: Sequence[int]) -> int:
        return len(tokens)

    def guess(self, place: int, *, is_lost: bool = False) -> Draft:
        """What a drafter says to the token at this place; `is_lost`: it was wrong before."""
        chance = self.chances[place] if place < len(self.chances) else 0.5
        is_right = self.rng.random() < chance and not is_lost and place < len(self.truth)
        confidence = 0.9 * chance + 0.05 + 0.12 * self.rng.gauss(0, 1)
        token = self.truth[place] if is_right else WRONG
        return Draft(token, min(max(confidence, 0.02), 0.99))

    def sureness(self) -> float:
        """Of the target, of its newest token."""
        chance = self.chances[min(len(self.sequence.drawn), len(self.chances)) - 1]
        return min(max(0.8 * chance + 0.15 + 0.1 * self.rng.gauss(0, 1), 0.1), 1.0)

    def take(self, drafts: Sequence[int]) -> int:
        """The step is over: as many drafts as are right, and one token more."""
        seq, place = self.sequence, len(self.sequence.drawn)
        future = self.truth[place : place + len(drafts)]
        accepted = 0
        while accepted < len(future) and future[accepted] == drafts[accepted]:
            accepted += 1
        assert seq.holding
        for token in self.truth[place : place + accepted + 1]:
            seq.holding.tokens.append(seq.tokens[-1])
            seq.append(token)
        return accepted


class LabDrafter:
    """A small model with a cache of its own, as far as costs go; its time is the only clock."""

    name = "model"
    max_length = 16
    is_free = False
    reviews = True

    def __init__(self, machine: Machine, texts: Mapping[int, Text], rng: random.Random) -> None:
        self._machine = machine
        self._texts = texts
        self._rng = rng
        self._read = dict.fromkeys(texts, PROMPT)  # tokens in its cache, by text
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
                place = len(ask.sequence.drawn) + len(ask.drafts)
                is_lost = any(draft.token == WRONG for draft in ask.drafts)
                self._read[text.number] = len(ask.sequence.tokens) + len(ask.drafts)
                ask.drafts.append(text.guess(place, is_lost=is_lost))
            asks = go_on(asks)
            rows = len(asks)
        return calls

    def review(self, ask: Ask) -> list[Call]:
        seq, count = ask.sequence, self.pending(ask.sequence) - 1
        text, end = self._texts[seq.id], len(seq.drawn)
        ask.drafts += [text.guess(place) for place in range(end - ask.length, end)]
        self._read[seq.id] = len(seq.tokens) - 1
        took_s = max(seconds(self._machine.draft, 1), self._machine.read_s * count)
        return [self._call(count, took_s, True)]

    def _call(self, rows: int, took_s: float, catches_up: bool) -> Call:
        took_s *= 1 + NOISE * self._rng.gauss(0, 1)
        self.clock_s += took_s
        return Call(rows, took_s, catches_up)

    def observe(self, sequence: Tokens, rows: range, *, is_tip: bool) -> None:
        """What was wrong is cut off."""
        self._read[sequence.id] = min(self._read[sequence.id], len(sequence.tokens) - 1)

    def forget(self, sequence: Tokens) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing was loaded."""


def first_measured(machine: Machine) -> Learned:
    """What a runner knows after its first calibration."""
    learned = Learned()
    for rows in (1, 2, 4, 8):
        learned.verify.observe(rows, seconds(machine.verify, rows))
        learned.draft.observe(rows, seconds(machine.draft, rows))
    return learned


def decode(
    machine: Machine,
    contents: Sequence[Content],
    learned: Learned,
    *,
    tokens: int,
    fixed: int | None = None,
    seed: int = 0,
    penalty_s: float = 0.0,
) -> float:
    """Tokens a second while one text of each content is under way; `fixed` 0 is plain decoding,
    None as many guesses as pay. `penalty_s`: what a step with guesses takes that nobody knows of.
    """
    rng = random.Random(seed)
    texts = {
        number: Text(number, content.chances(tokens, rng), rng.randrange(1 << 30))
        for number, content in enumerate(contents)
    }
    drafter = LabDrafter(machine, texts, rng)
    speculation = Speculation([drafter], learned, fixed=fixed, clock=lambda: drafter.clock_s)
    streams = cast("list[Stream]", list(texts.values()))
    decoded, took_s = 0, 0.0
    while not any(text.is_over for text in texts.values()):
        drafts = speculation.propose(streams, others=0, room=ROOM - len(texts))
        rows = len(texts) + sum(map(len, drafts.values()))
        step_s = seconds(machine.verify, rows) * (1 + NOISE * rng.gauss(0, 1))
        speculation.observe_step(rows=rows, prompt_rows=0, took_s=step_s)
        took_s += step_s + (penalty_s if drafts else 0.0)
        for text in texts.values():
            accepted = text.take(drafts.get(text.number, []))
            stream = cast("Stream", text)
            speculation.observe_stream(
                stream, accepted=accepted, rows=range(accepted + 1), sureness=text.sureness
            )
            decoded += accepted + 1
    for stream in streams:
        speculation.finish(stream, accepted=0)
    return decoded / (took_s + drafter.clock_s)
