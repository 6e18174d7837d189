"""What is drafted for the streams of one step, and which of these tokens are verified?"""

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
from .goodput import (
    DraftPlan,
    RoundCosts,
    StreamCandidate,
    better_candidate,
    choose_lengths,
    num_to_extend,
)
from .profile import SpeculationProfile

# The figures without another source were set by hand, checked by tests/sim.
PROBE_LENGTH = 2  # draft tokens of a probe: the second one tells whether runs are accepted
MIN_EVALUATED, MAX_EVALUATED = 8, 16  # tokens of one teacher-forced evaluation
HORIZON = 64  # tokens that a stream is expected to go on for, until it has as many itself
PROBE_GAIN_LENGTH = 4
"""Draft tokens at INITIAL_ACCEPTANCE that the value of a probe assumes if it succeeds."""
PROBE_SUCCESS_RATE = 0.25  # probability that a probe succeeds
NGRAM_TRIAL_STEPS = 1.5
"""Extra verification time allowed for n-gram drafts of a stream with no accepted 2-token run, in
plain steps."""
DRAFTING_RUN = 4
"""Steps in a row that are expected to have drafts, over which one transient is spread."""
NO_CANDIDATE = StreamCandidate(())


@dataclass(slots=True, eq=False)
class StreamDraft:
    """What is drafted for one stream in this step."""

    stream: Stream
    max_length: int  # draft tokens at most
    min_length: int  # draft tokens at least, whatever they cost
    drafter: str = ""
    requests: dict[str, DraftRequest] = field(default_factory=dict)  # by drafter
    candidate: StreamCandidate = NO_CANDIDATE  # the chosen drafter's tokens
    length: int = 0  # draft tokens that are verified

    @property
    def is_adaptive(self) -> bool:
        """Whether the draft length is chosen here, not by the client."""
        return self.max_length > self.min_length

    @property
    def drafts(self) -> Seq[Draft]:
        """The chosen drafter's tokens."""
        return self.requests[self.drafter].drafts if self.drafter else ()

    @property
    def tokens(self) -> list[int]:
        """The tokens that are verified."""
        return [draft.token for draft in self.drafts[: self.length]]


class DraftRound:
    """Drafting for those streams of a step that may have drafts."""

    def __init__(
        self,
        entries: Seq[StreamDraft],
        profile: SpeculationProfile,
        *,
        streams: int,
        rows: int,
        equal_rows: bool,
        spent_s: Callable[[], float],
        starting: float = 0.0,
    ) -> None:
        """`streams` get a token each from `rows` of the target, and `starting` others their first.

        `spent_s`: seconds of drafting so far.
        """
        self.drafting_s = 0.0  # in the drafter's decodes
        self._entries = entries
        self._profile = profile
        self._spent_s = spent_s
        self._expected: dict[int, tuple[float, ...]] = {}  # the model's rates by depth, by id
        self._rates: dict[DraftRequest, list[float]] = {}  # of the tokens that are made
        self._costs = RoundCosts(
            profile.verify,
            profile.draft,
            streams=streams,
            rows=rows,
            starting=starting,
            return_s=profile.verify.return_s(rows) / DRAFTING_RUN,
            equal_rows=equal_rows,
        )

    def draft_with_ngrams(self, drafters: Seq[Drafter]) -> None:
        """Take what the drafters without weights find; the first one that finds tokens is used."""
        unproven: list[StreamDraft] = []
        for entry in self._entries:
            stream = entry.stream
            for drafter in drafters:
                request = DraftRequest(stream.sequence, stream.sampler, entry.max_length)
                drafter.draft([request], select_unfinished)
                if not request.drafts:
                    continue
                self._use(entry, drafter, request)
                acceptance = self._profile.acceptance
                if not acceptance.has_accepted_run(drafter.name, stream.sequence.id):
                    unproven.append(entry)
                break
        if unproven:
            self._limit(unproven)

    def _limit(self, unproven: Seq[StreamDraft]) -> None:
        """Bound the rows that streams with no accepted 2-token run may cost together.

        The records of other streams do not tell where the runs of these end, and in all of them
        they may end at the same depth.
        """
        rows = self._costs.rows
        verify_s = self._profile.verify.table(rows + MAX_DRAFTS)[rows:]
        max_s = (1 + NGRAM_TRIAL_STEPS) * verify_s[0] - self._costs.return_s
        max_length = int((bisect_right(verify_s, max_s, lo=1) - 1) / math.sqrt(len(unproven)))
        for entry in unproven:
            rates = entry.candidate.rates[:max_length]
            entry.candidate = StreamCandidate(rates, drafted=len(rates))

    def draft_with_model(self, model: Drafter, budget: RegretBudget) -> None:
        """Draft with the drafter with weights, for streams where that raises the goodput."""
        if not self._profile.draft.is_known:
            for entry in self._entries:
                entry.min_length = max(entry.min_length, min(entry.max_length, PROBE_LENGTH))
        candidates = [self._candidate(model, entry) for entry in self._entries]
        plan = choose_lengths(candidates, self._costs)
        if not any(plan.lengths) and not any(entry.min_length for entry in self._entries):
            self._probe(model, budget, candidates)
        requests: dict[int, DraftRequest] = {}
        for i, entry in enumerate(self._entries):
            if (plan.lengths[i] or entry.min_length) and candidates[i] is not entry.candidate:
                stream, length = entry.stream, min(entry.max_length, model.max_length)
                requests[i] = DraftRequest(stream.sequence, stream.sampler, length)
        if requests:
            self._draft(model, plan, requests)

    def choose_lengths(self, room: int) -> None:
        """Choose the draft tokens that are verified, together at most `room`."""
        if not any(entry.requests for entry in self._entries):
            return
        candidates = [entry.candidate for entry in self._entries]
        plan = choose_lengths(candidates, replace(self._costs, spent_s=self._spent_s()))
        lengths = [max(n, e.min_length) for n, e in zip(plan.lengths, self._entries, strict=True)]
        if self._costs.equal_rows:
            lengths = [min(*lengths, room // len(lengths))] * len(lengths)
        for entry, length in zip(self._entries, lengths, strict=True):
            entry.length = min(length, len(entry.drafts), room)
            room -= entry.length

    def _draft(self, model: Drafter, plan: DraftPlan, requests: dict[int, DraftRequest]) -> None:
        """Carry out a plan, except that the stopping rule is applied after each draft forward, with
        the confidences that are known by then. `requests`: by index of their entry."""
        planned = sum(length for i, length in enumerate(plan.lengths) if i not in requests)
        min_length = {request: self._entries[i].min_length for i, request in requests.items()}

        def select_next(open_requests: Seq[DraftRequest]) -> Seq[DraftRequest]:
            unfinished = select_unfinished(open_requests)
            cumulative = {request: self._next_cumulative(model, request) for request in unfinished}
            unfinished.sort(key=lambda request: -cumulative[request])
            drafted = planned + sum(len(request.drafts) for request in requests.values())
            ordered = [cumulative[request] for request in unfinished]
            count = num_to_extend(ordered, drafted, plan, self._costs)
            required = [r for r in unfinished[count:] if len(r.drafts) < min_length[r]]
            return [*unfinished[:count], *required]

        for forward in model.draft(list(requests.values()), select_next):
            self._observe(forward)
        for i, request in requests.items():
            if request.drafts:
                self._use(self._entries[i], model, request)

    def _observe(self, forward: DraftForward) -> None:
        cost = self._profile.prefill if forward.is_prefill else self._profile.draft
        cost.observe(forward.rows, forward.took_s)
        self.drafting_s += forward.took_s

    def _next_cumulative(self, model: Drafter, request: DraftRequest) -> float:
        """Cumulative acceptance of the draft token after the newest one."""
        expected = self._expected[request.sequence.id]
        prior = expected[min(len(request.drafts), len(expected) - 1)]
        newest = request.drafts[-1].confidence
        rate = self._profile.acceptance.rate_after(model.name, request.sequence.id, newest, prior)
        return math.prod(self._acceptance_rates(model, request)) * rate

    def _acceptance_rates(self, drafter: Drafter, request: DraftRequest) -> list[float]:
        """The rate of each draft token, by the drafter's confidence."""
        rates = self._rates.setdefault(request, [])
        acceptance, id_ = self._profile.acceptance, request.sequence.id
        for draft in request.drafts[len(rates) :]:
            rates.append(acceptance.rate_of(drafter.name, id_, draft.confidence))
        return rates

    def _use(self, entry: StreamDraft, drafter: Drafter, request: DraftRequest) -> None:
        """Take these as the stream's draft tokens, up to the first that its grammar rejects."""
        possible = entry.stream.num_possible(request.tokens)
        del request.drafts[possible:]
        entry.drafter, entry.requests[drafter.name] = drafter.name, request
        rates = tuple(self._acceptance_rates(drafter, request)[:possible])
        entry.candidate = StreamCandidate(rates, drafted=len(rates))

    def _candidate(self, model: Drafter, entry: StreamDraft) -> StreamCandidate:
        """What the model is expected to draft, or the n-gram draft if that is better."""
        seq = entry.stream.sequence
        if not self._profile.draft.is_known:
            self._expected[seq.id] = (1.0,)
            return StreamCandidate(())
        pending = model.pending(seq)
        rows = min(pending, 1 + MAX_MODEL_DRAFTS)
        token_s = self._profile.prefill_s(pending - rows) / _expected_remaining_tokens(seq)
        length = min(entry.max_length, model.max_length)
        rates = self._profile.acceptance.expected_rates(model.name, seq.id, length)
        self._expected[seq.id] = rates
        candidate = StreamCandidate(rates, 0, rows, token_s)
        if entry.min_length or entry.candidate is NO_CANDIDATE:
            return candidate
        return better_candidate(candidate, entry.candidate, self._costs)

    def _probe(
        self, model: Drafter, budget: RegretBudget, candidates: Seq[StreamCandidate]
    ) -> None:
        """With no draft planned, measure acceptance of one stream, if the budget allows for it."""
        if model.can_evaluate:
            self._evaluate(model, budget, candidates)
            return
        pairs = zip(self._entries, candidates, strict=True)
        entry = next((e for e, candidate in pairs if candidate is not e.candidate), None)
        if entry and self._may_probe(self._probe_cost_s(model, entry), budget, candidates):
            entry.min_length = min(entry.max_length, PROBE_LENGTH)

    def _may_probe(
        self, probe_s: float, budget: RegretBudget, candidates: Seq[StreamCandidate]
    ) -> bool:
        """Whether the budget allows for a probe, and its expected value exceeds its cost."""
        if not budget.can_spend(probe_s):
            return False
        good = [
            replace(c, rates=(INITIAL_ACCEPTANCE,) * min(entry.max_length, PROBE_GAIN_LENGTH))
            for entry, c in zip(self._entries, candidates, strict=True)
        ]
        saved = 1 - self._costs.goodput / choose_lengths(good, self._costs).goodput
        steps = max(_expected_remaining_tokens(entry.stream.sequence) for entry in self._entries)
        plain_s = self._costs.verify.next_s(self._costs.rows)
        return probe_s < PROBE_SUCCESS_RATE * saved * steps * plain_s

    def _probe_cost_s(self, model: Drafter, entry: StreamDraft) -> float:
        """Seconds of a probe of which no token is accepted."""
        costs, pending = self._costs, model.pending(entry.stream.sequence)
        verify_s = costs.verify.table(costs.rows + PROBE_LENGTH)
        draft_s = PROBE_LENGTH * costs.draft.next_s(1) + self._profile.prefill_s(pending)
        return verify_s[-1] - verify_s[costs.rows] + draft_s

    def _evaluate(
        self, model: Drafter, budget: RegretBudget, candidates: Seq[StreamCandidate]
    ) -> None:
        """Teacher-forced evaluation of the stream with the longest drafter prefill: one decode of
        the drafter yields its draft for many known tokens, without a row of the target."""
        sequences = [entry.stream.sequence for entry in self._entries]
        i = max(range(len(sequences)), key=lambda i: model.pending(sequences[i]))
        seq, pending = sequences[i], model.pending(sequences[i])
        count = min(pending - 1, len(seq.output_tokens), MAX_EVALUATED)
        evaluate_s = self._profile.prefill_s(pending)
        if count < MIN_EVALUATED or not self._may_probe(evaluate_s, budget, candidates):
            return
        request = DraftRequest(seq, self._entries[i].stream.sampler, count)
        for forward in model.evaluate(request):
            self._observe(forward)
        self._observe_runs(model.name, request)

    def _observe_runs(self, drafter: str, request: DraftRequest) -> None:
        """Split teacher-forced draft tokens after each wrong one: every part is like a draft that
        was verified."""
        seq = request.sequence
        truth = seq.tokens[len(seq.tokens) - len(request.drafts) :]
        run: list[float] = []
        for draft, token in zip(request.drafts, truth, strict=True):
            run.append(draft.confidence)
            if draft.token != token:
                self._profile.acceptance.observe(drafter, seq.id, run, len(run) - 1)
                run = []
        self._profile.acceptance.observe(drafter, seq.id, run, len(run))


def _expected_remaining_tokens(seq: Sequence) -> int:
    """As many as the stream has so far, at least HORIZON, within its limit."""
    return min(max(HORIZON, len(seq.output_tokens)), seq.num_left)
