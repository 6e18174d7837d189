"""Who reads ahead, and what became of it: here drafters, what was learned, and engine meet."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq

from ...protocol import MAX_DRAFTS, SpeculationReport
from ..stream import Stream
from .budget import RegretBudget
from .drafters.drafter import Drafter
from .profile import SpeculationProfile
from .round import DraftRound, StreamDraft
from .stats import ForecastStats, SpeculationStats

CONFIDENCE_INTERVAL = (
    4  # tokens, when it is asked how sure the target is, which takes a pass over a row
)


class SpeculationController:
    """Decides, for all streams together, how far each is drafted ahead."""

    def __init__(
        self,
        drafters: Seq[Drafter],
        profile: SpeculationProfile,
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
        need as many rows (GUIDE 4.4)."""
        self.refusal = refusal
        self.total = SpeculationStats()  # of all streams
        self.forecasts = ForecastStats()
        self.names = tuple(drafter.name for drafter in drafters)  # as metrics and `ps` tell them
        self._drafters = drafters
        self._free = [drafter for drafter in drafters if drafter.is_free]
        self._model = next((drafter for drafter in drafters if not drafter.is_free), None)
        self._fixed = fixed
        self._max_drafts = max_drafts
        self._is_even = is_even
        self._clock = clock
        self.profile = profile
        self._budget = RegretBudget()
        self._entries: dict[int, StreamDraft] = {}
        self._tallies: dict[int, SpeculationStats] = {}
        self._drafting_s = 0.0  # for the step that is being made
        self._planning_s = 0.0  # the part of that in which it was decided what to guess
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
        start_s, self._planning_s = self._clock(), 0.0
        self._entries = {stream.sequence.id: self._begin(stream) for stream in streams}
        drafting = [entry for entry in self._entries.values() if entry.max_length > 0]
        if self._may_draft(drafting, others, starting):
            round_ = DraftRound(
                drafting,
                self.profile,
                streams=len(streams),
                starting=starting,
                rows=len(streams) + others,
                is_even=self._is_even,
                spent_s=lambda: self._clock() - start_s,
            )
            round_.look_up(self._free)
            if self._model:
                round_.draft_with_model(self._model, self._budget)
            round_.settle(room)
            self._planning_s = self._clock() - start_s - round_.drafting_s
        self._drafting_s = self._clock() - start_s
        return {id_: entry.tokens for id_, entry in self._entries.items() if entry.length}

    def _may_draft(self, drafting: Seq[StreamDraft], others: int, starting: float) -> bool:
        """Whether it can be said what guesses cost, and thinking of them is not too much. Where
        many requests have come at once, whoever started first waits for the others: guesses for all
        together cost less each."""
        if not drafting or not self.profile.verify.is_known:
            return False
        if self._is_even and (others or len(drafting) < len(self._entries)):
            return False
        if any(entry.min_length for entry in drafting):
            return True
        return not self._budget.is_paused and starting < len(self._entries)

    def drop(self) -> None:
        """The step has no room for drafts after all."""
        for entry in self._entries.values():
            entry.length = 0

    def observe_step(self, *, rows: int, prompt_rows: int, took_s: float) -> None:
        """The target's decode is over."""
        if not self._drafters:
            return
        verify = self.profile.verify
        drafted = sum(entry.length for entry in self._entries.values())
        settling_s = verify.settling_s(rows - drafted) if drafted else 0.0
        self._step_s, self._plain_s = took_s + self._drafting_s, took_s
        if prompt_rows:
            verify.disturb()
        else:
            self.forecasts.add(verify.observe(rows, took_s), took_s)
        if drafted:  # so it is known what rows cost
            steady_s = took_s if prompt_rows else verify.steadied_s(took_s)
            self._plain_s = steady_s * verify.steady_s(rows - drafted) / verify.steady_s(rows)
        if any(entry.is_adaptive for entry in self._entries.values()):
            extra_s = self._step_s - self._plain_s + settling_s
            idle_s = 0.0 if drafted else self._planning_s
            self._budget.settle(self._plain_s, extra_s, idle_s=idle_s, streams=len(self._entries))

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
        entry = self._entries.get(seq.id)
        if entry is None:
            entry = self._entries[seq.id] = self._begin(stream)
        truth = seq.tokens[len(seq.tokens) - accepted - 1 :]
        for name, request in entry.requests.items():
            judged = [draft.confidence for draft in request.drafts[: len(truth)]]
            self.profile.acceptance.observe(name, seq.id, judged, request.num_accepted(truth))
        if self._model and (len(seq.output_tokens) + seq.id) % CONFIDENCE_INTERVAL == 0:
            self.profile.acceptance.observe_target(seq.id, target_confidence())
        self._count(entry, accepted)
        for drafter in self._drafters:
            drafter.observe(seq, rows, is_tip=True)

    def finish(self, stream: Stream, *, accepted: int) -> SpeculationReport | None:
        """The stream is over; what speculation did for it, if it was asked to."""
        id_ = stream.sequence.id
        if entry := self._entries.get(id_):
            self._count(entry, accepted)
        self.forget(stream)
        tally = self._tallies.pop(id_, None)
        self.profile.acceptance.forget(id_)
        return tally.report() if tally and tally.drafter else None

    def forget(self, stream: Stream) -> None:
        """The stream is over, or is computed again."""
        self._entries.pop(stream.sequence.id, None)
        for drafter in self._drafters:
            drafter.forget(stream.sequence)

    def _begin(self, stream: Stream) -> StreamDraft:
        """With as many guesses as are of use: neither context nor num_predict ends before them."""
        seq = stream.sequence
        fixed = self._fixed if seq.draft_fixed is None else seq.draft_fixed
        limits = [self._max_drafts, seq.num_ctx - len(seq.tokens) - 1, seq.num_left - 1]
        limits += [max_length for max_length in (seq.draft_limit, fixed) if max_length is not None]
        max_length = max(min(limits), 0)
        return StreamDraft(stream, max_length, 0 if fixed is None else max_length)

    def _count(self, entry: StreamDraft, accepted: int) -> None:
        if entry.is_adaptive and accepted:
            streams = len(self._entries)
            self._budget.credit(accepted * self.profile.verify.steady_s(streams) / streams)
        tally = self._tallies.setdefault(entry.stream.sequence.id, SpeculationStats())
        tally.drafter = entry.drafter or tally.drafter
        for each in (tally, self.total):
            each.add(
                drafted=entry.length,
                accepted=accepted,
                took_s=self._step_s,
                plain_s=self._plain_s * (accepted + 1),
            )
