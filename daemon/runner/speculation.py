"""Who reads ahead, and what became of it: here drafters, what was learned, and engine meet."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq

from ..protocol import MAX_DRAFTS, SpeculationReport
from .drafters.drafter import Drafter
from .guesses import Guess, Guesses
from .learned import Learned
from .stream import Stream
from .tally import Forecasts, Tally
from .tune import Purse

EASE_EVERY = 4  # tokens, when it is asked how sure the target is, which takes a pass over a row


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
        self._guessing_s = 0.0  # for the step that is being made
        self._thinking_s = 0.0  # the part of that in which it was decided what to guess
        self._step_s = 0.0
        self._plain_s = 0.0

    def close(self) -> None:
        """Free what the drafters have loaded; before the target is freed."""
        for drafter in self._drafters:
            drafter.close()

    def propose(
        self, streams: Seq[Stream], *, others: int, starting: float, room: int
    ) -> dict[int, list[int]]:
        """Drafts by id, for streams that are about to decode; together at most `room`.

        `others`: rows of the step that are not theirs. `starting`: prompts that these bring to
        their first token; of a longer one, the part of what is left of it.
        """
        if not self._drafters:
            return {}
        start_s, self._thinking_s = self._clock(), 0.0
        self._guesses = {stream.sequence.id: self._begin(stream) for stream in streams}
        asking = [guess for guess in self._guesses.values() if guess.bound > 0]
        if self._may_guess(asking, others, starting):
            guesses = Guesses(
                asking,
                self.learned,
                streams=len(streams),
                starting=starting,
                rows=len(streams) + others,
                is_even=self._is_even,
                spent_s=lambda: self._clock() - start_s,
            )
            guesses.look_up(self._free)
            if self._model:
                guesses.read_ahead(self._model, self._purse)
            guesses.settle(room)
            self._thinking_s = self._clock() - start_s - guesses.drafting_s
        self._guessing_s = self._clock() - start_s
        return {id_: guess.tokens for id_, guess in self._guesses.items() if guess.length}

    def _may_guess(self, asking: Seq[Guess], others: int, starting: float) -> bool:
        """Whether it can be said what guesses cost, and thinking of them is not too much. Where
        many requests have come at once, whoever started first waits for the others: guesses for all
        together cost less each."""
        if not asking or not self.learned.verify.is_known:
            return False
        if self._is_even and (others or len(asking) < len(self._guesses)):
            return False
        if any(guess.least for guess in asking):
            return True
        return not self._purse.rests and starting < len(self._guesses)

    def drop(self) -> None:
        """The step has no room for drafts after all."""
        for guess in self._guesses.values():
            guess.length = 0

    def observe_step(self, *, rows: int, prompt_rows: int, took_s: float) -> None:
        """The target's decode is over."""
        if not self._drafters:
            return
        verify = self.learned.verify
        drafted = sum(guess.length for guess in self._guesses.values())
        settling_s = verify.settling_s(rows - drafted) if drafted else 0.0
        self._step_s, self._plain_s = took_s + self._guessing_s, took_s
        if prompt_rows:
            verify.disturb()
        else:
            self.forecasts.add(verify.observe(rows, took_s), took_s)
        if drafted:  # so it is known what rows cost
            steady_s = took_s if prompt_rows else verify.steadied_s(took_s)
            self._plain_s = steady_s * verify.steady_s(rows - drafted) / verify.steady_s(rows)
        if any(guess.is_free for guess in self._guesses.values()):
            extra_s = self._step_s - self._plain_s + settling_s
            idle_s = 0.0 if drafted else self._thinking_s
            self._purse.settle(self._plain_s, extra_s, idle_s=idle_s, streams=len(self._guesses))

    def observe_prompt(self, stream: Stream, rows: range) -> None:
        """These rows of the target's decode were a part of its prompt, not its end."""
        for drafter in self._drafters:
            drafter.observe(stream.sequence, rows, is_tip=False)

    def observe_stream(
        self, stream: Stream, *, accepted: int, rows: range, target_confidence: Callable[[], float]
    ) -> None:
        """So many of its drafts were right. These rows of the target's decode were its text, and
        its newest token was drawn from the last of them, of which the target is as sure as
        `target_confidence` says.

        All guesses are judged as far as these tokens say what they should have been, verified or
        not.
        """
        if not self._drafters:
            return
        seq = stream.sequence
        guess = self._guesses.get(seq.id)
        if guess is None:
            guess = self._guesses[seq.id] = self._begin(stream)
        truth = seq.tokens[len(seq.tokens) - accepted - 1 :]
        for name, ask in guess.asks.items():
            judged = [draft.confidence for draft in ask.drafts[: len(truth)]]
            self.learned.acceptance.observe(name, seq.id, judged, ask.num_right(truth))
        if self._model and (len(seq.output_tokens) + seq.id) % EASE_EVERY == 0:
            self.learned.acceptance.observe_target(seq.id, target_confidence())
        self._count(guess, accepted)
        for drafter in self._drafters:
            drafter.observe(seq, rows, is_tip=True)

    def finish(self, stream: Stream, *, accepted: int) -> SpeculationReport | None:
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

    def _count(self, guess: Guess, accepted: int) -> None:
        if guess.is_free and accepted:
            streams = len(self._guesses)
            self._purse.win(accepted * self.learned.verify.steady_s(streams) / streams)
        tally = self._tallies.setdefault(guess.stream.sequence.id, Tally())
        tally.drafter = guess.drafter or tally.drafter
        for each in (tally, self.total):
            each.add(
                drafted=guess.length,
                accepted=accepted,
                took_s=self._step_s,
                plain_s=self._plain_s * (accepted + 1),
            )
