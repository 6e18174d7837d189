"""Which guesses go into a step, and what became of them: here drafters, tuner and engine meet."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ..protocol import MAX_DRAFTS, MAX_READ_AHEAD, Speculated
from .drafters.drafter import Ask, Drafter, GoOn, always
from .stream import Stream
from .tune import Acceptance, Costs, Curve, Option, Plan, Purse, Rate, better, choose

PROBE_LENGTH = 2
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
    fixed: bool  # as many as that, whether it pays or not
    drafter: str = ""
    ask: Ask | None = None
    option: Option = NO_OPTION  # how likely the guesses are right
    length: int = 0  # of those that are verified

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
        self.learned = learned
        self._purse = Purse()
        self._guesses: dict[int, Guess] = {}
        self._tallies: dict[int, Tally] = {}
        self._drafting_s = 0.0
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
        self._drafting_s = 0.0
        self._guesses = {stream.sequence.id: self._begin(stream) for stream in streams}
        if not self.learned.verify.is_known or (self._is_even and others):
            return {}
        learned, num = self.learned, len(streams)
        costs = Costs(
            learned.verify, learned.draft, streams=num, rows=num + others, is_even=self._is_even
        )
        asking = [guess for guess in self._guesses.values() if guess.bound > 0]
        if self._is_even and len(asking) < num:
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
        if any(guess.bound and not guess.fixed for guess in self._guesses.values()):
            self._purse.earn(took_s)
        self._step_s = took_s + self._drafting_s
        drafted = sum(guess.length for guess in self._guesses.values())
        self._plain_s = took_s
        if drafted and self.learned.verify.is_known:
            verify = self.learned.verify
            self._plain_s *= verify.seconds(rows - drafted) / verify.seconds(rows)

    def observe_prompt(self, stream: Stream, rows: range) -> None:
        """These rows of the target's decode were a part of its prompt, not its end."""
        for drafter in self._drafters:
            drafter.observe(stream.sequence, rows, is_tip=False)

    def observe_stream(self, stream: Stream, *, accepted: int, rows: range) -> None:
        """So many of its drafts were right. These rows of the target's decode were its text, and
        its newest token was drawn from the last of them.

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
        return Guess(stream, max(min(bounds), 0), fixed is not None)

    def _look_up(self, guess: Guess) -> None:
        """The guesses that cost nothing."""
        for drafter in self._free:
            ask = Ask(guess.stream.sequence, guess.stream.sampler, guess.bound)
            drafter.draft([ask], always)
            if ask.drafts:
                self._take(guess, drafter, ask)
                return

    def _take(self, guess: Guess, drafter: Drafter, ask: Ask) -> None:
        del ask.drafts[guess.stream.num_possible(ask.tokens) :]
        guess.drafter, guess.ask = drafter.name, ask
        acceptance = self.learned.acceptance
        guess.option = Option(acceptance.judged(drafter.name, ask.sequence.id, guess.confidences))

    def _read_ahead(self, model: Drafter, asking: Seq[Guess], costs: Costs) -> None:
        """Let the drafter with weights guess, where that is expected to pay."""
        plan = self._plan(model, asking, costs)
        asks = {
            id(guess): Ask(guess.stream.sequence, guess.stream.sampler, length)
            for guess, length in zip(asking, plan.lengths, strict=True)
            if length
        }
        if not asks:
            return
        for call in model.draft(list(asks.values()), self._pays(model, len(asks), plan, costs)):
            (self.learned.catch_up if call.catches_up else self.learned.draft).observe(
                call.rows, call.took_s
            )
            self._drafting_s += call.took_s
        for guess in asking:
            if (ask := asks.get(id(guess))) and ask.drafts:
                self._take(guess, model, ask)

    def _plan(self, model: Drafter, asking: Seq[Guess], costs: Costs) -> Plan:
        """How far to read ahead with weights: 0 where what was looked up is as good."""
        if not costs.draft.is_known:
            return Plan([min(guess.bound, PROBE_LENGTH) for guess in asking], costs.goodput)
        options = [self._option(model, guess, costs) for guess in asking]
        plan = choose(options, costs)
        for i, (guess, option) in enumerate(zip(asking, options, strict=True)):
            if guess.fixed:
                plan.lengths[i] = min(guess.bound, model.max_length)
            elif not option.rows:
                plan.lengths[i] = 0
        if not any(plan.lengths) and self._can_probe(model, asking[0], costs):
            plan.lengths[0] = min(asking[0].bound, PROBE_LENGTH)
        return plan

    def _option(self, model: Drafter, guess: Guess, costs: Costs) -> Option:
        """The better one: what this drafter is expected to guess, or what was looked up."""
        seq = guess.stream.sequence
        pending = model.pending(seq)
        rows = min(pending, 1 + MAX_READ_AHEAD)
        token_s = self._catch_up_s(pending - rows) / min(max(HORIZON, len(seq.drawn)), seq.num_left)
        length = min(guess.bound, model.max_length)
        chances = self.learned.acceptance.expected(model.name, seq.id, length)
        return better(guess.option, Option(chances, rows, token_s), costs)

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
        return self._purse.pay(loss_s)

    def _pays(self, model: Drafter, streams: int, plan: Plan, costs: Costs) -> GoOn:
        """Whether one more guess brings more tokens than its time is worth."""
        if not costs.draft.is_known:
            return always
        verify_s = costs.verify.table(costs.rows + sum(plan.lengths) + 1)
        price_s = verify_s[-1] - verify_s[-2] + costs.draft.seconds(streams) / streams
        floor = price_s * plan.goodput

        def pays(ask: Ask) -> bool:
            if self._guesses[ask.sequence.id].fixed:
                return True
            confidences = [draft.confidence for draft in ask.drafts]
            chances = self.learned.acceptance.judged(model.name, ask.sequence.id, confidences)
            return math.prod(chances) > floor

        return pays

    def _settle(self, asking: Seq[Guess], costs: Costs, room: int) -> None:
        """Which of the guesses are verified."""
        lengths = choose([guess.option for guess in asking], costs).lengths
        for i, guess in enumerate(asking):
            if guess.fixed:
                lengths[i] = len(guess.option.chances)
        if self._is_even and asking:
            lengths = [min(*lengths, room // len(asking))] * len(asking)
        for guess, length in zip(asking, lengths, strict=True):
            guess.length = min(length, room)
            room -= guess.length

    def _count(self, guess: Guess, accepted: int) -> None:
        tally = self._tallies.setdefault(guess.stream.sequence.id, Tally())
        tally.drafter = guess.drafter or tally.drafter
        for each in (tally, self.total):
            each.add(
                drafted=guess.length,
                accepted=accepted,
                took_s=self._step_s,
                plain_s=self._plain_s * (accepted + 1),
            )
