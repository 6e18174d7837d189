"""Which guesses go into a step, and what became of them: here drafters, tuner and engine meet."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

from ..protocol import MAX_DRAFTS, MAX_READ_AHEAD, Speculated
from .acceptance import Acceptance
from .curve import Curve, Rate
from .drafters.drafter import Ask, Drafter, to_the_end
from .stream import Stream
from .tune import Costs, Option, Purse, better, choose

PROBE_LENGTH = 2
EASE_EVERY = 4  # tokens, when it is asked how sure the target is, which takes a pass over a row
MIN_REVIEWED, MAX_REVIEWED = 8, 16  # tokens, when it is seen what would have been guessed
HORIZON = 64  # tokens that a text is expected to go on for; later, as many as it has so far
FIRST_CATCH_UP = 0.3  # of a draft step: a token of a text, while that is not measured
NO_OPTION = Option(())


@dataclass(slots=True)
class Learned:
    """What is known about this machine with these models; it outlives the process."""

    verify: Curve = field(default_factory=Curve)  # by rows of the target
    draft: Curve = field(default_factory=Curve)  # by rows of the drafter
    catch_up: Rate = field(default_factory=Rate)  # of the drafter with a text
    acceptance: Acceptance = field(default_factory=Acceptance)


@dataclass(slots=True)
class Tally:
    """What speculation did for one stream."""

    drafter: str = ""
    drafted: int = 0
    accepted: int = 0
    times: int = 0  # that something was drafted
    took_s: float = 0.0  # steps, with their drafting
    plain_s: float = 0.0  # what the same tokens would have taken without

    def add(self, *, drafted: int, accepted: int, took_s: float, plain_s: float) -> None:
        """A step of one stream."""
        self.drafted += drafted
        self.accepted += accepted
        self.times += drafted > 0
        self.took_s += took_s
        self.plain_s += plain_s

    def report(self) -> Speculated:
        return Speculated(
            drafter=self.drafter,
            drafted=self.drafted,
            accepted=self.accepted,
            mean_length=self.drafted / self.times if self.times else 0.0,
            speedup=self.plain_s / self.took_s if self.took_s else 1.0,
        )


@dataclass(slots=True)
class Forecasts:
    """How good the costs are: of steps without a prompt, in which nothing is new."""

    expected_s: float = 0.0
    misjudged_s: float = 0.0

    def add(self, expected_s: float, took_s: float) -> None:
        self.expected_s += expected_s
        self.misjudged_s += abs(took_s - expected_s)


@dataclass(slots=True, eq=False)
class Guess:
    """What is drafted for one stream in the step that is being made."""

    stream: Stream
    bound: int  # guesses at most
    least: int  # as many as that, whether it pays or not
    drafter: str = ""
    ask: Ask | None = None
    option: Option = NO_OPTION  # how likely the guesses are right
    length: int = 0  # of those that are verified

    @property
    def is_free(self) -> bool:
        """Whether it is for us to choose how much is guessed."""
        return self.bound > self.least

    @property
    def tokens(self) -> list[int]:
        return self.ask.tokens[: self.length] if self.ask else []

    @property
    def confidences(self) -> list[float]:
        return [draft.confidence for draft in self.ask.drafts] if self.ask else []


class Speculation:
    """Decides, for all streams together, how far each is drafted ahead."""

    def __init__(
        self,
        drafters: Seq[Drafter],
        learned: Learned,
        *,
        fixed: int | None = None,
        refusal: str = "",
        max_drafts: int = MAX_DRAFTS,
        is_even: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """At most one drafter is not free. `fixed`: so many guesses whenever they can be had;
        None: as many as pay. `refusal`: why the drafter that was asked for is not among them.
        `max_drafts`: that can be taken back from the target. `is_even`: all sequences of a decode
        need as many rows (guide 4.4)."""
        self.refusal = refusal
        self.total = Tally()  # of all streams
        self.forecasts = Forecasts()
        self.names = tuple(drafter.name for drafter in drafters)  # as metrics and `ps` tell them
        self._drafters = drafters
        self._free = [drafter for drafter in drafters if drafter.is_free]
        self._model = next((drafter for drafter in drafters if not drafter.is_free), None)
        self._fixed = fixed
        self._max_drafts = max_drafts
        self._is_even = is_even
        self._clock = clock
        self.learned = learned
        self._purse = Purse()
        self._guesses: dict[int, Guess] = {}
        self._tallies: dict[int, Tally] = {}
        self._start_s = 0.0  # of the guessing for the step that is being made
        self._guessing_s = 0.0  # with all that was thought
        self._step_s = 0.0
        self._plain_s = 0.0

    def close(self) -> None:
        """Free what the drafters have loaded; before the target is freed."""
        for drafter in self._drafters:
            drafter.close()

    def propose(self, streams: Seq[Stream], *, others: int, room: int) -> dict[int, list[int]]:
        """Drafts by id, for streams that are about to decode; together at most `room`.

        `others`: rows of the step that are not theirs.
        """
        if not self._drafters:
            return {}
        self._start_s = self._clock()
        self._guesses = {stream.sequence.id: self._begin(stream) for stream in streams}
        drafts = self._propose(streams, others, room)
        self._guessing_s = self._clock() - self._start_s
        return drafts

    def _propose(self, streams: Seq[Stream], others: int, room: int) -> dict[int, list[int]]:
        if not self.learned.verify.is_known or (self._is_even and others):
            return {}
        learned, num = self.learned, len(streams)
        costs = Costs(
            learned.verify, learned.draft, streams=num, rows=num + others, is_even=self._is_even
        )
        asking = [guess for guess in self._guesses.values() if guess.bound > 0]
        if self._is_even and len(asking) < num:
            return {}
        if self._purse.is_empty and not any(guess.least for guess in asking):
            return {}
        for guess in asking:
            self._look_up(guess)
        if self._model and asking:
            self._read_ahead(self._model, asking, costs)
        self._settle(asking, costs, room)
        return {id_: guess.tokens for id_, guess in self._guesses.items() if guess.length}

    def drop(self) -> None:
        """The step has no room for drafts after all."""
        for guess in self._guesses.values():
            guess.length = 0

    def observe_step(self, *, rows: int, prompt_rows: int, took_s: float) -> None:
        """The target's decode is over."""
        if not self._drafters:
            return
        if not prompt_rows:
            self.forecasts.add(self.learned.verify.observe(rows, took_s), took_s)
        self._step_s = took_s + self._guessing_s
        drafted = sum(guess.length for guess in self._guesses.values())
        self._plain_s = took_s
        if drafted and self.learned.verify.is_known:
            verify = self.learned.verify
            self._plain_s *= verify.seconds(rows - drafted) / verify.seconds(rows)
        if any(guess.is_free for guess in self._guesses.values()):
            self._purse.settle(self._step_s, self._step_s - self._plain_s)

    def observe_prompt(self, stream: Stream, rows: range) -> None:
        """These rows of the target's decode were a part of its prompt, not its end."""
        for drafter in self._drafters:
            drafter.observe(stream.sequence, rows, is_tip=False)

    def observe_stream(
        self, stream: Stream, *, accepted: int, rows: range, sureness: Callable[[], float]
    ) -> None:
        """So many of its drafts were right. These rows of the target's decode were its text, and
        its newest token was drawn from the last of them, of which the target is as sure as
        `sureness` says.

        The first guess that was not verified is judged as well: the newest token says what it
        should have been.
        """
        if not self._drafters:
            return
        seq = stream.sequence
        guess = self._guesses.get(seq.id)
        if guess is None:
            guess = self._guesses[seq.id] = self._begin(stream)
        right = accepted
        judged = guess.confidences[: guess.length + 1]
        if accepted == guess.length and accepted < len(judged):
            assert guess.ask
            right += guess.ask.drafts[accepted].token == seq.tokens[-1]
        self.learned.acceptance.observe(guess.drafter, seq.id, judged, right)
        if self._model and (len(seq.drawn) + seq.id) % EASE_EVERY == 0:
            self.learned.acceptance.observe_target(seq.id, sureness())
        self._count(guess, accepted)
        for drafter in self._drafters:
            drafter.observe(seq, rows, is_tip=True)

    def finish(self, stream: Stream, *, accepted: int) -> Speculated | None:
        """The stream is over; what speculation did for it, if it was asked to."""
        id_ = stream.sequence.id
        if guess := self._guesses.get(id_):
            self._count(guess, accepted)
        self.forget(stream)
        tally = self._tallies.pop(id_, None)
        self.learned.acceptance.forget(id_)
        return tally.report() if tally and tally.drafter else None

    def forget(self, stream: Stream) -> None:
        """The stream is over, or is computed again."""
        self._guesses.pop(stream.sequence.id, None)
        for drafter in self._drafters:
            drafter.forget(stream.sequence)

    def _begin(self, stream: Stream) -> Guess:
        """With as many guesses as are of use: neither context nor num_predict ends before them."""
        seq = stream.sequence
        fixed = self._fixed if seq.draft_fixed is None else seq.draft_fixed
        bounds = [self._max_drafts, seq.num_ctx - len(seq.tokens) - 1, seq.num_left - 1]
        bounds += [bound for bound in (seq.draft_limit, fixed) if bound is not None]
        bound = max(min(bounds), 0)
        return Guess(stream, bound, 0 if fixed is None else bound)

    def _look_up(self, guess: Guess) -> None:
        """The guesses that cost nothing."""
        for drafter in self._free:
            ask = Ask(guess.stream.sequence, guess.stream.sampler, guess.bound)
            drafter.draft([ask], to_the_end)
            if ask.drafts:
                self._take(guess, drafter, ask)
                return

    def _take(self, guess: Guess, drafter: Drafter, ask: Ask) -> None:
        del ask.drafts[guess.stream.num_possible(ask.tokens) :]
        guess.drafter, guess.ask = drafter.name, ask
        guess.option = self._judged(guess)

    def _judged(self, guess: Guess) -> Option:
        """What was guessed, now that it is known how sure the drafter is."""
        id_, confidences = guess.stream.sequence.id, guess.confidences
        chances = self.learned.acceptance.judged(guess.drafter, id_, confidences)
        return Option(chances, drafted=len(chances))

    def _read_ahead(self, model: Drafter, asking: Seq[Guess], costs: Costs) -> None:
        """Let the drafter with weights guess, where that is expected to pay."""
        if not costs.draft.is_known:
            for guess in asking:
                guess.least = max(guess.least, min(guess.bound, PROBE_LENGTH))
        options = [self._option(model, guess, costs) for guess in asking]
        lengths = _lengths(asking, options, costs)
        if not any(lengths):
            if model.reviews:
                self._review(model, asking)
            elif self._can_probe(model, asking[0], costs):
                lengths[0] = asking[0].least = min(asking[0].bound, PROBE_LENGTH)
        reading = {
            id(guess): Ask(
                guess.stream.sequence, guess.stream.sampler, min(guess.bound, model.max_length)
            )
            for guess, option, length in zip(asking, options, lengths, strict=True)
            if length and option is not guess.option
        }
        if not reading:
            return

        def go_on(asks: Seq[Ask]) -> Seq[Ask]:
            for i, guess in enumerate(asking):
                if ask := reading.get(id(guess)):
                    options[i] = self._so_far(model, guess, ask, is_open=ask in asks)
            lengths = _lengths(
                asking, options, replace(costs, spent_s=self._clock() - self._start_s)
            )
            wanted = dict(zip(map(id, asking), lengths, strict=True))
            return [
                ask
                for key, ask in reading.items()
                if ask in asks and len(ask.drafts) < min(wanted[key], ask.length)
            ]

        for call in model.draft(list(reading.values()), go_on):
            (self.learned.catch_up if call.catches_up else self.learned.draft).observe(
                call.rows, call.took_s
            )
        for guess in asking:
            if (ask := reading.get(id(guess))) and ask.drafts:
                self._take(guess, model, ask)

    def _so_far(self, model: Drafter, guess: Guess, ask: Ask, *, is_open: bool) -> Option:
        """What was guessed, and what is expected of the next guesses."""
        acceptance, id_ = self.learned.acceptance, ask.sequence.id
        sure = [draft.confidence for draft in ask.drafts]
        chances = acceptance.judged(model.name, id_, sure)
        left = ask.length - len(sure) if is_open else 0
        chances += acceptance.expected(model.name, id_, left, sure)
        return Option(chances, drafted=len(sure))

    def _option(self, model: Drafter, guess: Guess, costs: Costs) -> Option:
        """The better one: what this drafter is expected to guess, or what was looked up."""
        if not costs.draft.is_known:
            return Option(())
        seq = guess.stream.sequence
        pending = model.pending(seq)
        rows = min(pending, 1 + MAX_READ_AHEAD)
        token_s = self._catch_up_s(pending - rows) / min(max(HORIZON, len(seq.drawn)), seq.num_left)
        length = min(guess.bound, model.max_length)
        chances = self.learned.acceptance.expected(model.name, seq.id, length)
        option = Option(chances, 0, rows, token_s)
        return option if guess.least else better(guess.option, option, costs)

    def _catch_up_s(self, tokens: int) -> float:
        """What the drafter needs to take in so many tokens of a text."""
        rate = self.learned.catch_up
        known = rate.is_known
        return tokens * (rate.token_s if known else FIRST_CATCH_UP * self.learned.draft.seconds(1))

    def _can_probe(self, model: Drafter, guess: Guess, costs: Costs) -> bool:
        verify, draft = costs.verify, costs.draft
        loss_s = verify.seconds(costs.rows + PROBE_LENGTH) - verify.seconds(costs.rows)
        loss_s += PROBE_LENGTH * draft.seconds(1)
        loss_s += self._catch_up_s(model.pending(guess.stream.sequence))
        return self._purse.affords(loss_s)

    def _review(self, model: Drafter, asking: Seq[Guess]) -> None:
        """Learn from what would have been guessed: for many tokens with one decode, and no row of
        the target's."""
        guess = max(asking, key=lambda guess: model.pending(guess.stream.sequence))
        seq = guess.stream.sequence
        count = min(model.pending(seq) - 1, len(seq.drawn), MAX_REVIEWED)
        if count < MIN_REVIEWED or not self._purse.affords(self._catch_up_s(model.pending(seq))):
            return
        ask = Ask(seq, guess.stream.sampler, count)
        for call in model.review(ask):
            self.learned.catch_up.observe(call.rows, call.took_s)
        truth = seq.tokens[len(seq.tokens) - len(ask.drafts) :]
        chain: list[float] = []
        for draft, token in zip(ask.drafts, truth, strict=True):
            chain.append(draft.confidence)
            if draft.token != token:
                self.learned.acceptance.observe(model.name, seq.id, chain, len(chain) - 1)
                chain = []
        self.learned.acceptance.observe(model.name, seq.id, chain, len(chain))

    def _settle(self, asking: Seq[Guess], costs: Costs, room: int) -> None:
        """Which of the guesses are verified."""
        lengths = _lengths(asking, [guess.option for guess in asking], costs)
        if self._is_even and asking:
            lengths = [min(*lengths, room // len(asking))] * len(asking)
        for guess, length in zip(asking, lengths, strict=True):
            guess.length = min(length, len(guess.confidences), room)
            room -= guess.length

    def _count(self, guess: Guess, accepted: int) -> None:
        if guess.is_free and accepted:
            streams = len(self._guesses)
            self._purse.win(accepted * self.learned.verify.seconds(streams) / streams)
        tally = self._tallies.setdefault(guess.stream.sequence.id, Tally())
        tally.drafter = guess.drafter or tally.drafter
        for each in (tally, self.total):
            each.add(
                drafted=guess.length,
                accepted=accepted,
                took_s=self._step_s,
                plain_s=self._plain_s * (accepted + 1),
            )


def _lengths(asking: Seq[Guess], options: Seq[Option], costs: Costs) -> list[int]:
    """How many guesses of each pay, or are to be made anyhow."""
    lengths = choose(options, costs).lengths
    return [max(length, guess.least) for guess, length in zip(asking, lengths, strict=True)]
