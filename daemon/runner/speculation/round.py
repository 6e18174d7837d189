"""What is guessed for the streams of one step, and which of these guesses are verified."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

from ...protocol import MAX_DRAFTS, MAX_MODEL_DRAFTS
from ..sequence import Sequence
from ..stream import Stream
from .acceptance import INITIAL_ACCEPTANCE
from .budget import RegretBudget
from .drafters.drafter import Draft, Drafter, DraftForward, DraftRequest, select_unfinished
from .goodput import DraftPlan, RoundCosts, StreamCandidate, better, choose, num_worth
from .profile import SpeculationProfile

PROBE_LENGTH = 2
MIN_EVALUATED, MAX_EVALUATED = 8, 16  # tokens, when it is seen what would have been guessed
HORIZON = 64  # tokens that a text is expected to go on for; later, as many as it has so far
HOPED_LENGTH, HOPE_PROBABILITY = (
    4,
    0.25,
)  # guesses that may turn out to be good, and the chance of that
UNPROVEN_STEPS = 1.5  # without guesses, that those of a text may cost which were never right yet
RUN_STEPS = 4  # steps with guesses that are expected to follow each other
NO_CANDIDATE = StreamCandidate(())


@dataclass(slots=True, eq=False)
class StreamDraft:
    """What is drafted for one stream."""

    stream: Stream
    max_length: int  # guesses at most
    min_length: int  # as many as that, whether it pays or not
    drafter: str = ""
    requests: dict[str, DraftRequest] = field(default_factory=dict)  # what was guessed, by drafter
    candidate: StreamCandidate = NO_CANDIDATE  # how likely the guesses are right
    length: int = 0  # of those that are verified

    @property
    def is_adaptive(self) -> bool:
        """Whether it is for us to choose how much is guessed."""
        return self.max_length > self.min_length

    @property
    def drafts(self) -> Seq[Draft]:
        """Of the drafter that was chosen."""
        return self.requests[self.drafter].drafts if self.drafter else ()

    @property
    def tokens(self) -> list[int]:
        return [draft.token for draft in self.drafts[: self.length]]


class DraftRound:
    """Of those streams of a step for which anything may be guessed."""

    def __init__(
        self,
        entries: Seq[StreamDraft],
        profile: SpeculationProfile,
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
        self._entries = entries
        self._profile = profile
        self._spent_s = spent_s
        self._expected_rates: dict[
            int, tuple[float, ...]
        ] = {}  # of the drafter with weights, by id
        self._judged: dict[
            DraftRequest, list[float]
        ] = {}  # chance of each guess, if those before are right
        self._costs = RoundCosts(
            profile.verify,
            profile.draft,
            streams=streams,
            rows=rows,
            starting=starting,
            leave_s=profile.verify.settling_s(rows) / RUN_STEPS,
            is_even=is_even,
        )

    def look_up(self, drafters: Seq[Drafter]) -> None:
        """What is guessed for nothing; who is asked first has the first word."""
        unproven: list[StreamDraft] = []
        for entry in self._entries:
            for drafter in drafters:
                request = DraftRequest(
                    entry.stream.sequence, entry.stream.sampler, entry.max_length
                )
                drafter.draft([request], select_unfinished)
                if request.drafts:
                    self._take(entry, drafter, request)
                    if not self._profile.acceptance.is_proven(drafter.name, request.sequence.id):
                        unproven.append(entry)
                    break
        if unproven:
            self._limit(unproven)

    def _limit(self, unproven: Seq[StreamDraft]) -> None:
        """Of texts of which no two guesses in a row were right yet, few are verified: their runs
        may end sooner than those of others, and do so at the same place in all of them."""
        rows = self._costs.rows
        costs = self._profile.verify.table(rows + MAX_DRAFTS)[rows:]
        most_s = (1 + UNPROVEN_STEPS) * costs[0] - self._costs.leave_s
        most = int((bisect_right(costs, most_s, lo=1) - 1) / math.sqrt(len(unproven)))
        for entry in unproven:
            rates = entry.candidate.rates[:most]
            entry.candidate = StreamCandidate(rates, drafted=len(rates))

    def draft_with_model(self, model: Drafter, budget: RegretBudget) -> None:
        """Let the drafter with weights guess, where that is expected to pay."""
        if not self._profile.draft.is_known:
            for entry in self._entries:
                entry.min_length = max(entry.min_length, min(entry.max_length, PROBE_LENGTH))
        candidates = [self._candidate(model, entry) for entry in self._entries]
        plan = choose(candidates, self._costs)
        if not any(plan.lengths) and not any(entry.min_length for entry in self._entries):
            self._probe(model, budget, candidates)
        requests = {
            i: DraftRequest(
                entry.stream.sequence, entry.stream.sampler, min(entry.max_length, model.max_length)
            )
            for i, entry in enumerate(self._entries)
            if (plan.lengths[i] or entry.min_length) and candidates[i] is not entry.candidate
        }
        if requests:
            self._draft(model, plan, requests)

    def settle(self, room: int) -> None:
        """Which of the guesses are verified, together at most `room`."""
        if not any(entry.requests for entry in self._entries):
            return
        candidates = [entry.candidate for entry in self._entries]
        plan = choose(candidates, replace(self._costs, spent_s=self._spent_s()))
        lengths = [max(n, g.min_length) for n, g in zip(plan.lengths, self._entries, strict=True)]
        if self._costs.is_even:
            lengths = [min(*lengths, room // len(lengths))] * len(lengths)
        for entry, length in zip(self._entries, lengths, strict=True):
            entry.length = min(length, len(entry.drafts), room)
            room -= entry.length

    def _draft(self, model: Drafter, plan: DraftPlan, requests: dict[int, DraftRequest]) -> None:
        """The model guesses for those streams, by place; after each decode, now that it is known
        how sure it is, they are judged together: for whom is one more worth it?"""

        def select_next(open_requests: Seq[DraftRequest]) -> Seq[DraftRequest]:
            wanting = [request for request in open_requests if len(request.drafts) < request.length]
            cumulative = {request: self._next_cumulative(model, request) for request in wanting}
            wanting.sort(key=lambda request: -cumulative[request])
            drafted = looked_up + sum(len(request.drafts) for request in requests.values())
            count = num_worth(
                [cumulative[request] for request in wanting], drafted, plan, self._costs
            )
            owed = [
                request for request in wanting[count:] if len(request.drafts) < min_length[request]
            ]
            return [*wanting[:count], *owed]

        looked_up = sum(count for i, count in enumerate(plan.lengths) if i not in requests)
        min_length = {request: self._entries[i].min_length for i, request in requests.items()}
        for call in model.draft(list(requests.values()), select_next):
            self._observe(call)
        for i, request in requests.items():
            if request.drafts:
                self._take(self._entries[i], model, request)

    def _observe(self, call: DraftForward) -> None:
        known = self._profile.prefill if call.is_prefill else self._profile.draft
        known.observe(call.rows, call.took_s)
        self.drafting_s += call.took_s

    def _next_cumulative(self, model: Drafter, request: DraftRequest) -> float:
        """The chance that the guess after the newest one, and all before it, are right."""
        expected_rates = self._expected_rates[request.sequence.id]
        prior = expected_rates[min(len(request.drafts), len(expected_rates) - 1)]
        newest = request.drafts[-1].confidence
        rate = self._profile.acceptance.after(model.name, request.sequence.id, newest, prior)
        return math.prod(self._judge(model, request)) * rate

    def _judge(self, drafter: Drafter, request: DraftRequest) -> list[float]:
        """The chance of each of its guesses, now that it is known how sure the drafter is."""
        rates = self._judged.setdefault(request, [])
        acceptance, id_ = self._profile.acceptance, request.sequence.id
        for draft in request.drafts[len(rates) :]:
            rates.append(acceptance.judged(drafter.name, id_, draft.confidence))
        return rates

    def _take(self, entry: StreamDraft, drafter: Drafter, request: DraftRequest) -> None:
        """These are its guesses, as far as the grammar lets them through."""
        possible = entry.stream.num_possible(request.tokens)
        del request.drafts[possible:]
        entry.drafter, entry.requests[drafter.name] = drafter.name, request
        rates = tuple(self._judge(drafter, request)[:possible])
        entry.candidate = StreamCandidate(rates, drafted=len(rates))

    def _candidate(self, model: Drafter, entry: StreamDraft) -> StreamCandidate:
        """What this drafter is expected to guess, or what was looked up if that is better."""
        if not self._profile.draft.is_known:
            self._expected_rates[entry.stream.sequence.id] = (1.0,)
            return StreamCandidate(())
        seq = entry.stream.sequence
        pending = model.pending(seq)
        rows = min(pending, 1 + MAX_MODEL_DRAFTS)
        token_s = self._profile.prefill_s(pending - rows) / _expected_remaining_tokens(seq)
        length = min(entry.max_length, model.max_length)
        expected_rates = self._profile.acceptance.expected(model.name, seq.id, length)
        self._expected_rates[seq.id] = expected_rates
        candidate = StreamCandidate(expected_rates, 0, rows, token_s)
        if entry.min_length or entry.candidate is NO_CANDIDATE:
            return candidate
        return better(candidate, entry.candidate, self._costs)

    def _probe(
        self, model: Drafter, budget: RegretBudget, candidates: Seq[StreamCandidate]
    ) -> None:
        """Nothing seems to pay: find out more, if that can be afforded, of a stream for which
        nothing better was looked up."""
        if model.can_evaluate:
            self._evaluate(model, budget, candidates)
            return
        pairs = zip(self._entries, candidates, strict=True)
        entry = next(
            (entry for entry, candidate in pairs if candidate is not entry.candidate), None
        )
        if entry and self._is_worth(self._probe_s(model, entry), budget, candidates):
            entry.min_length = min(entry.max_length, PROBE_LENGTH)

    def _is_worth(
        self, probe_s: float, budget: RegretBudget, candidates: Seq[StreamCandidate]
    ) -> bool:
        """Whether a try can be afforded, and if guesses then turned out to be good, as they may,
        would save more while the texts go on."""
        if not budget.can_spend(probe_s):
            return False
        good = [
            replace(candidate, rates=(INITIAL_ACCEPTANCE,) * min(entry.max_length, HOPED_LENGTH))
            for entry, candidate in zip(self._entries, candidates, strict=True)
        ]
        saved = 1 - self._costs.goodput / choose(good, self._costs).goodput
        steps = max(_expected_remaining_tokens(entry.stream.sequence) for entry in self._entries)
        return probe_s < HOPE_PROBABILITY * saved * steps * self._costs.verify.seconds(
            self._costs.rows
        )

    def _probe_s(self, model: Drafter, entry: StreamDraft) -> float:
        """What a guess or two for this stream may cost in vain."""
        costs, pending = self._costs, model.pending(entry.stream.sequence)
        verify_s = costs.verify.table(costs.rows + PROBE_LENGTH)
        draft_s = PROBE_LENGTH * costs.draft.seconds(1) + self._profile.prefill_s(pending)
        return verify_s[-1] - verify_s[costs.rows] + draft_s

    def _evaluate(
        self, model: Drafter, budget: RegretBudget, candidates: Seq[StreamCandidate]
    ) -> None:
        """Learn from what would have been guessed: for many tokens with one decode, and no row of
        the target's."""
        sequences = [entry.stream.sequence for entry in self._entries]
        i = max(range(len(sequences)), key=lambda i: model.pending(sequences[i]))
        seq, pending = sequences[i], model.pending(sequences[i])
        count = min(pending - 1, len(seq.output_tokens), MAX_EVALUATED)
        evaluate_s = self._profile.prefill_s(pending)
        if count < MIN_EVALUATED or not self._is_worth(evaluate_s, budget, candidates):
            return
        request = DraftRequest(seq, self._entries[i].stream.sampler, count)
        for call in model.evaluate(request):
            self._observe(call)
        truth = seq.tokens[len(seq.tokens) - len(request.drafts) :]
        chain: list[float] = []
        for draft, token in zip(request.drafts, truth, strict=True):
            chain.append(draft.confidence)
            if draft.token != token:
                self._profile.acceptance.observe(model.name, seq.id, chain, len(chain) - 1)
                chain = []
        self._profile.acceptance.observe(model.name, seq.id, chain, len(chain))


def _expected_remaining_tokens(seq: Sequence) -> int:
    """Tokens that a text is expected to go on for."""
    return min(max(HORIZON, len(seq.output_tokens)), seq.num_left)
