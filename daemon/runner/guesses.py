"""What is guessed for the streams of one step, and which of these guesses are verified."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

from ..protocol import MAX_READ_AHEAD
from .drafters.drafter import Ask, Drafter, to_the_end
from .learned import Learned
from .stream import Stream
from .tune import Costs, Option, Purse, better, choose

PROBE_LENGTH = 2
MIN_REVIEWED, MAX_REVIEWED = 8, 16  # tokens, when it is seen what would have been guessed
HORIZON = 64  # tokens that a text is expected to go on for; later, as many as it has so far
NO_OPTION = Option(())


@dataclass(slots=True, eq=False)
class Guess:
    """What is drafted for one stream."""

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


class Guesses:
    """Of those streams of a step for which anything may be guessed."""

    def __init__(
        self,
        asking: Seq[Guess],
        learned: Learned,
        *,
        streams: int,
        rows: int,
        is_even: bool,
        spent_s: Callable[[], float],
    ) -> None:
        """`streams` get a token each in `rows` of the target. `spent_s`: on guessing so far."""
        self._asking = asking
        self._learned = learned
        self._spent_s = spent_s
        self._costs = Costs(
            learned.verify, learned.draft, streams=streams, rows=rows, is_even=is_even
        )

    def look_up(self, drafters: Seq[Drafter]) -> None:
        """What is guessed for nothing; who is asked first has the first word."""
        for guess in self._asking:
            for drafter in drafters:
                ask = Ask(guess.stream.sequence, guess.stream.sampler, guess.bound)
                drafter.draft([ask], to_the_end)
                if ask.drafts:
                    self._take(guess, drafter, ask)
                    break

    def read_ahead(self, model: Drafter, purse: Purse) -> None:
        """Let the drafter with weights guess, where that is expected to pay."""
        if not self._learned.draft.is_known:
            for guess in self._asking:
                guess.least = max(guess.least, min(guess.bound, PROBE_LENGTH))
        options = [self._option(model, guess) for guess in self._asking]
        lengths = self._lengths(options)
        if not any(lengths):
            lengths = self._try(model, purse)
        asks = {
            i: Ask(guess.stream.sequence, guess.stream.sampler, min(guess.bound, model.max_length))
            for i, guess in enumerate(self._asking)
            if lengths[i] and options[i] is not guess.option
        }
        if asks:
            self._draft(model, options, asks)

    def settle(self, room: int) -> None:
        """Which of the guesses are verified, together at most `room`."""
        lengths = self._lengths([guess.option for guess in self._asking])
        if self._costs.is_even:
            lengths = [min(*lengths, room // len(lengths))] * len(lengths)
        for guess, length in zip(self._asking, lengths, strict=True):
            guess.length = min(length, len(guess.confidences), room)
            room -= guess.length

    def _draft(self, model: Drafter, options: list[Option], asks: dict[int, Ask]) -> None:
        """`options` of all who ask, and the asks of those for whom the model guesses, by place.

        After each decode it is decided anew for all of them together whether one more pays.
        """

        def go_on(open_asks: Seq[Ask]) -> Seq[Ask]:
            for i, ask in asks.items():
                options[i] = self._so_far(model, ask, is_open=ask in open_asks)
            lengths = self._lengths(options)
            return [
                ask
                for i, ask in asks.items()
                if ask in open_asks and len(ask.drafts) < min(lengths[i], ask.length)
            ]

        for call in model.draft(list(asks.values()), go_on):
            known = self._learned.catch_up if call.catches_up else self._learned.draft
            known.observe(call.rows, call.took_s)
        for i, ask in asks.items():
            if ask.drafts:
                self._take(self._asking[i], model, ask)

    def _take(self, guess: Guess, drafter: Drafter, ask: Ask) -> None:
        """These are its guesses, as far as the grammar lets them through; now it is known how sure
        the drafter is."""
        del ask.drafts[guess.stream.num_possible(ask.tokens) :]
        guess.drafter, guess.ask = drafter.name, ask
        id_, acceptance = ask.sequence.id, self._learned.acceptance
        chances = acceptance.judged(drafter.name, id_, guess.confidences)
        guess.option = Option(chances, drafted=len(chances))

    def _option(self, model: Drafter, guess: Guess) -> Option:
        """The better one: what this drafter is expected to guess, or what was looked up."""
        if not self._learned.draft.is_known:
            return Option(())
        seq = guess.stream.sequence
        pending = model.pending(seq)
        rows = min(pending, 1 + MAX_READ_AHEAD)
        tokens = min(max(HORIZON, len(seq.drawn)), seq.num_left)
        token_s = self._learned.catch_up_s(pending - rows) / tokens
        length = min(guess.bound, model.max_length)
        chances = self._learned.acceptance.expected(model.name, seq.id, length)
        option = Option(chances, 0, rows, token_s)
        return option if guess.least else better(guess.option, option, self._costs)

    def _so_far(self, model: Drafter, ask: Ask, *, is_open: bool) -> Option:
        """What was guessed, and what is expected of the next guesses."""
        acceptance, id_ = self._learned.acceptance, ask.sequence.id
        sure = [draft.confidence for draft in ask.drafts]
        chances = acceptance.judged(model.name, id_, sure)
        left = ask.length - len(sure) if is_open else 0
        chances += acceptance.expected(model.name, id_, left, sure)
        return Option(chances, drafted=len(sure))

    def _lengths(self, options: Seq[Option]) -> list[int]:
        """How many guesses of each pay, or are to be made anyhow."""
        lengths = choose(options, replace(self._costs, spent_s=self._spent_s())).lengths
        return [
            max(length, guess.least) for guess, length in zip(self._asking, lengths, strict=True)
        ]

    def _try(self, model: Drafter, purse: Purse) -> list[int]:
        """Nothing seems to pay: find out more, if that can be afforded. Lengths by place."""
        if model.reviews:
            self._review(model, purse)
        elif purse.affords(self._probe_s(model)):
            self._asking[0].least = min(self._asking[0].bound, PROBE_LENGTH)
        return [guess.least for guess in self._asking]

    def _probe_s(self, model: Drafter) -> float:
        """What a guess or two for the first stream may cost in vain."""
        costs, pending = self._costs, model.pending(self._asking[0].stream.sequence)
        verify_s = costs.verify.table(costs.rows + PROBE_LENGTH)
        draft_s = PROBE_LENGTH * costs.draft.seconds(1) + self._learned.catch_up_s(pending)
        return verify_s[-1] - verify_s[costs.rows] + draft_s

    def _review(self, model: Drafter, purse: Purse) -> None:
        """Learn from what would have been guessed: for many tokens with one decode, and no row of
        the target's."""
        sequences = [guess.stream.sequence for guess in self._asking]
        i = max(range(len(sequences)), key=lambda i: model.pending(sequences[i]))
        seq, pending = sequences[i], model.pending(sequences[i])
        count = min(pending - 1, len(seq.drawn), MAX_REVIEWED)
        if count < MIN_REVIEWED or not purse.affords(self._learned.catch_up_s(pending)):
            return
        ask = Ask(seq, self._asking[i].stream.sampler, count)
        for call in model.review(ask):
            self._learned.catch_up.observe(call.rows, call.took_s)
        truth = seq.tokens[len(seq.tokens) - len(ask.drafts) :]
        chain: list[float] = []
        for draft, token in zip(ask.drafts, truth, strict=True):
            chain.append(draft.confidence)
            if draft.token != token:
                self._learned.acceptance.observe(model.name, seq.id, chain, len(chain) - 1)
                chain = []
        self._learned.acceptance.observe(model.name, seq.id, chain, len(chain))
