"""What is guessed for the streams of one step, and which of these guesses are verified."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

from ..protocol import MAX_DRAFTS, MAX_MODEL_DRAFTS
from .acceptance import FIRST_CHANCE
from .drafters.drafter import Ask, Call, Draft, Drafter, to_the_end
from .learned import Learned
from .sequence import Sequence
from .stream import Stream
from .tune import Costs, Option, Plan, Purse, better, choose, num_worth

PROBE_LENGTH = 2
MIN_REVIEWED, MAX_REVIEWED = 8, 16  # tokens, when it is seen what would have been guessed
HORIZON = 64  # tokens that a text is expected to go on for; later, as many as it has so far
NUM_HOPED, HOPE = 4, 0.25  # guesses that may turn out to be good, and the chance of that
UNPROVEN_STEPS = 1.5  # without guesses, that those of a text may cost which were never right yet
RUN = 4  # steps with guesses that are expected to follow each other
NO_OPTION = Option(())


@dataclass(slots=True, eq=False)
class Guess:
    """What is drafted for one stream."""

    stream: Stream
    bound: int  # guesses at most
    least: int  # as many as that, whether it pays or not
    drafter: str = ""
    asks: dict[str, Ask] = field(default_factory=dict)  # what was guessed, by drafter
    option: Option = NO_OPTION  # how likely the guesses are right
    length: int = 0  # of those that are verified

    @property
    def is_free(self) -> bool:
        """Whether it is for us to choose how much is guessed."""
        return self.bound > self.least

    @property
    def drafts(self) -> Seq[Draft]:
        """Of the drafter that was chosen."""
        return self.asks[self.drafter].drafts if self.drafter else ()

    @property
    def tokens(self) -> list[int]:
        return [draft.token for draft in self.drafts[: self.length]]


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
        starting: float = 0.0,
    ) -> None:
        """`streams` get a token each in `rows` of the target, and so many others their first.
        `spent_s`: on guessing so far."""
        self.drafting_s = 0.0  # in the drafter's decodes
        self._asking = asking
        self._learned = learned
        self._spent_s = spent_s
        self._outlooks: dict[int, tuple[float, ...]] = {}  # of the drafter with weights, by id
        self._judged: dict[Ask, list[float]] = {}  # chance of each guess, if those before are right
        self._costs = Costs(
            learned.verify,
            learned.draft,
            streams=streams,
            rows=rows,
            starting=starting,
            leave_s=learned.verify.settling_s(rows) / RUN,
            is_even=is_even,
        )

    def look_up(self, drafters: Seq[Drafter]) -> None:
        """What is guessed for nothing; who is asked first has the first word."""
        unproven: list[Guess] = []
        for guess in self._asking:
            for drafter in drafters:
                ask = Ask(guess.stream.sequence, guess.stream.sampler, guess.bound)
                drafter.draft([ask], to_the_end)
                if ask.drafts:
                    self._take(guess, drafter, ask)
                    if not self._learned.acceptance.is_proven(drafter.name, ask.sequence.id):
                        unproven.append(guess)
                    break
        if unproven:
            self._limit(unproven)

    def _limit(self, unproven: Seq[Guess]) -> None:
        """Of texts of which no two guesses in a row were right yet, few are verified: their runs
        may end sooner than those of others, and do so at the same place in all of them."""
        rows = self._costs.rows
        costs = self._learned.verify.table(rows + MAX_DRAFTS)[rows:]
        most_s = (1 + UNPROVEN_STEPS) * costs[0] - self._costs.leave_s
        most = int((bisect_right(costs, most_s, lo=1) - 1) / math.sqrt(len(unproven)))
        for guess in unproven:
            chances = guess.option.chances[:most]
            guess.option = Option(chances, drafted=len(chances))

    def read_ahead(self, model: Drafter, purse: Purse) -> None:
        """Let the drafter with weights guess, where that is expected to pay."""
        if not self._learned.draft.is_known:
            for guess in self._asking:
                guess.least = max(guess.least, min(guess.bound, PROBE_LENGTH))
        options = [self._option(model, guess) for guess in self._asking]
        plan = choose(options, self._costs)
        if not any(plan.lengths) and not any(guess.least for guess in self._asking):
            self._try(model, purse, options)
        asks = {
            i: Ask(guess.stream.sequence, guess.stream.sampler, min(guess.bound, model.max_length))
            for i, guess in enumerate(self._asking)
            if (plan.lengths[i] or guess.least) and options[i] is not guess.option
        }
        if asks:
            self._draft(model, plan, asks)

    def settle(self, room: int) -> None:
        """Which of the guesses are verified, together at most `room`."""
        if not any(guess.asks for guess in self._asking):
            return
        options = [guess.option for guess in self._asking]
        plan = choose(options, replace(self._costs, spent_s=self._spent_s()))
        lengths = [max(n, g.least) for n, g in zip(plan.lengths, self._asking, strict=True)]
        if self._costs.is_even:
            lengths = [min(*lengths, room // len(lengths))] * len(lengths)
        for guess, length in zip(self._asking, lengths, strict=True):
            guess.length = min(length, len(guess.drafts), room)
            room -= guess.length

    def _draft(self, model: Drafter, plan: Plan, asks: dict[int, Ask]) -> None:
        """The model guesses for those streams, by place; after each decode, now that it is known
        how sure it is, they are judged together: for whom is one more worth it?"""

        def go_on(open_asks: Seq[Ask]) -> Seq[Ask]:
            wanting = [ask for ask in open_asks if len(ask.drafts) < ask.length]
            reach = {ask: self._next_reach(model, ask) for ask in wanting}
            wanting.sort(key=lambda ask: -reach[ask])
            drafted = looked_up + sum(len(ask.drafts) for ask in asks.values())
            count = num_worth([reach[ask] for ask in wanting], drafted, plan, self._costs)
            owed = [ask for ask in wanting[count:] if len(ask.drafts) < least[ask]]
            return [*wanting[:count], *owed]

        looked_up = sum(count for i, count in enumerate(plan.lengths) if i not in asks)
        least = {ask: self._asking[i].least for i, ask in asks.items()}
        for call in model.draft(list(asks.values()), go_on):
            self._observe(call)
        for i, ask in asks.items():
            if ask.drafts:
                self._take(self._asking[i], model, ask)

    def _observe(self, call: Call) -> None:
        known = self._learned.catch_up if call.catches_up else self._learned.draft
        known.observe(call.rows, call.took_s)
        self.drafting_s += call.took_s

    def _next_reach(self, model: Drafter, ask: Ask) -> float:
        """The chance that the guess after the newest one, and all before it, are right."""
        outlook = self._outlooks[ask.sequence.id]
        prior = outlook[min(len(ask.drafts), len(outlook) - 1)]
        newest = ask.drafts[-1].confidence
        chance = self._learned.acceptance.after(model.name, ask.sequence.id, newest, prior)
        return math.prod(self._judge(model, ask)) * chance

    def _judge(self, drafter: Drafter, ask: Ask) -> list[float]:
        """The chance of each of its guesses, now that it is known how sure the drafter is."""
        chances = self._judged.setdefault(ask, [])
        acceptance, id_ = self._learned.acceptance, ask.sequence.id
        for draft in ask.drafts[len(chances) :]:
            chances.append(acceptance.judged(drafter.name, id_, draft.confidence))
        return chances

    def _take(self, guess: Guess, drafter: Drafter, ask: Ask) -> None:
        """These are its guesses, as far as the grammar lets them through."""
        possible = guess.stream.num_possible(ask.tokens)
        del ask.drafts[possible:]
        guess.drafter, guess.asks[drafter.name] = drafter.name, ask
        chances = tuple(self._judge(drafter, ask)[:possible])
        guess.option = Option(chances, drafted=len(chances))

    def _option(self, model: Drafter, guess: Guess) -> Option:
        """What this drafter is expected to guess, or what was looked up if that is better."""
        if not self._learned.draft.is_known:
            self._outlooks[guess.stream.sequence.id] = (1.0,)
            return Option(())
        seq = guess.stream.sequence
        pending = model.pending(seq)
        rows = min(pending, 1 + MAX_MODEL_DRAFTS)
        token_s = self._learned.catch_up_s(pending - rows) / _num_coming(seq)
        length = min(guess.bound, model.max_length)
        outlook = self._learned.acceptance.expected(model.name, seq.id, length)
        self._outlooks[seq.id] = outlook
        option = Option(outlook, 0, rows, token_s)
        if guess.least or guess.option is NO_OPTION:
            return option
        return better(option, guess.option, self._costs)

    def _try(self, model: Drafter, purse: Purse, options: Seq[Option]) -> None:
        """Nothing seems to pay: find out more, if that can be afforded, of a stream for which
        nothing better was looked up."""
        if model.reviews:
            self._review(model, purse, options)
            return
        pairs = zip(self._asking, options, strict=True)
        guess = next((guess for guess, option in pairs if option is not guess.option), None)
        if guess and self._is_worth(self._probe_s(model, guess), purse, options):
            guess.least = min(guess.bound, PROBE_LENGTH)

    def _is_worth(self, try_s: float, purse: Purse, options: Seq[Option]) -> bool:
        """Whether a try can be afforded, and if guesses then turned out to be good, as they may,
        would save more while the texts go on."""
        if not purse.affords(try_s):
            return False
        good = [
            replace(option, chances=(FIRST_CHANCE,) * min(guess.bound, NUM_HOPED))
            for guess, option in zip(self._asking, options, strict=True)
        ]
        saved = 1 - self._costs.goodput / choose(good, self._costs).goodput
        steps = max(_num_coming(guess.stream.sequence) for guess in self._asking)
        return try_s < HOPE * saved * steps * self._costs.verify.seconds(self._costs.rows)

    def _probe_s(self, model: Drafter, guess: Guess) -> float:
        """What a guess or two for this stream may cost in vain."""
        costs, pending = self._costs, model.pending(guess.stream.sequence)
        verify_s = costs.verify.table(costs.rows + PROBE_LENGTH)
        draft_s = PROBE_LENGTH * costs.draft.seconds(1) + self._learned.catch_up_s(pending)
        return verify_s[-1] - verify_s[costs.rows] + draft_s

    def _review(self, model: Drafter, purse: Purse, options: Seq[Option]) -> None:
        """Learn from what would have been guessed: for many tokens with one decode, and no row of
        the target's."""
        sequences = [guess.stream.sequence for guess in self._asking]
        i = max(range(len(sequences)), key=lambda i: model.pending(sequences[i]))
        seq, pending = sequences[i], model.pending(sequences[i])
        count = min(pending - 1, len(seq.output_tokens), MAX_REVIEWED)
        review_s = self._learned.catch_up_s(pending)
        if count < MIN_REVIEWED or not self._is_worth(review_s, purse, options):
            return
        ask = Ask(seq, self._asking[i].stream.sampler, count)
        for call in model.review(ask):
            self._observe(call)
        truth = seq.tokens[len(seq.tokens) - len(ask.drafts) :]
        chain: list[float] = []
        for draft, token in zip(ask.drafts, truth, strict=True):
            chain.append(draft.confidence)
            if draft.token != token:
                self._learned.acceptance.observe(model.name, seq.id, chain, len(chain) - 1)
                chain = []
        self._learned.acceptance.observe(model.name, seq.id, chain, len(chain))


def _num_coming(seq: Sequence) -> int:
    """Tokens that a text is expected to go on for."""
    return min(max(HORIZON, len(seq.output_tokens)), seq.num_left)
