"""Which drafters run, and what was learned from each step? Joins engine, drafters and profile."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq

from ...protocol import MAX_DRAFTS, DrafterStats, SpeculationDetail, SpeculationReport
from ..stream import Stream
from .budget import RegretBudget
from .drafters.drafter import Drafter
from .profile import SpeculationProfile
from .round import DraftRound, StreamDraft
from .stats import DraftOutcomes, ForecastStats, SpeculationStats

CONFIDENCE_INTERVAL = 4
"""Tokens between two measurements of the target's confidence, each a pass over a vocabulary row."""


class SpeculationController:
    """Decides how many tokens are drafted for each stream, for all streams together."""

    def __init__(
        self,
        drafters: Seq[Drafter],
        profile: SpeculationProfile,
        *,
        fixed: int | None = None,
        refusal: str = "",
        max_drafts: int = MAX_DRAFTS,
        equal_rows: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """At most one drafter has weights.

        `fixed`: draft length, as far as the drafter yields as many; None: chosen by goodput.
        `refusal`: why the drafter that was asked for is not used. `max_drafts`: tokens that can be
        removed from the target's cache again. `equal_rows`: all sequences of a decode need equally
        many rows (GUIDE 4.4).
        """
        self.refusal = refusal
        self.total = SpeculationStats()  # of all streams
        self._by_drafter: dict[str, SpeculationStats] = {}  # steps with a draft of each
        self.forecasts = ForecastStats()
        self.outcomes = DraftOutcomes()
        self.names = tuple(drafter.name for drafter in drafters)  # for metrics and `ps`
        self.profile = profile
        self._drafters = drafters
        self._free = [drafter for drafter in drafters if drafter.is_free]
        self._model = next((drafter for drafter in drafters if not drafter.is_free), None)
        self._fixed = fixed
        self._max_drafts = max_drafts
        self._equal_rows = equal_rows
        self._clock = clock
        self._budget = RegretBudget()
        self._entries: dict[int, StreamDraft] = {}  # of the newest step, by id
        self._stats: dict[int, SpeculationStats] = {}  # by id
        self._drafting_s = 0.0  # of the step under way, planning included
        self._planning_s = 0.0  # the part of that outside of the drafter's decodes
        self._step_s = 0.0  # of the newest step, drafting included
        self._plain_s = 0.0  # expected of that step without drafts

    def set_threads(self, threads: int) -> None:
        """CPU threads of the drafters' next decodes."""
        for drafter in self._drafters:
            drafter.set_threads(threads)

    def close(self) -> None:
        """Free the drafters' contexts; must come before the target is freed."""
        for drafter in self._drafters:
            drafter.close()

    def propose(
        self, streams: Seq[Stream], *, others: int, starting: float, room: int
    ) -> dict[int, list[int]]:
        """Draft tokens by id, for streams that are about to decode; together at most `room`.

        `others`: rows of the step that belong to prompts. `starting`: prompts that get their first
        token in this step; of a longer one, the share of its pending tokens in this step.
        """
        if not self._drafters:
            return {}
        start_s, self._planning_s = self._clock(), 0.0
        self._entries = {stream.sequence.id: self._start_draft(stream) for stream in streams}
        entries = [entry for entry in self._entries.values() if entry.max_length > 0]
        if self._may_draft(entries, others, starting):
            round_ = DraftRound(
                entries,
                self.profile,
                streams=len(streams),
                starting=starting,
                rows=len(streams) + others,
                equal_rows=self._equal_rows,
                spent_s=lambda: self._clock() - start_s,
            )
            round_.draft_with_ngrams(self._free)
            if self._model:
                round_.draft_with_model(self._model, self._budget)
            round_.choose_lengths(room)
            self._planning_s = self._clock() - start_s - round_.drafting_s
        self._drafting_s = self._clock() - start_s
        return {id_: entry.tokens for id_, entry in self._entries.items() if entry.length}

    def _may_draft(self, entries: Seq[StreamDraft], others: int, starting: float) -> bool:
        """Whether costs are known, and the budget allows for planning.

        After a burst of requests, the first streams wait for the prompts of the others, since
        drafts for all streams together cost less per stream.
        """
        if not entries or not self.profile.verify.is_known:
            return False
        if self._equal_rows and (others or len(entries) < len(self._entries)):
            return False
        if any(entry.min_length for entry in entries):
            return True
        return not self._budget.is_paused and starting < len(self._entries)

    def drop(self) -> None:
        """The KV cache has no free cells for this step's drafts."""
        for entry in self._entries.values():
            entry.length = 0

    def observe_step(self, *, rows: int, prompt_rows: int, took_s: float) -> None:
        """The target's decode has ended. `rows`: all rows, prompts and draft tokens included.

        Without drafters only the prefill budget asks for costs, and only beside a prompt, so the
        measurement waits until then.
        """
        if not self._drafters:
            self.profile.defer_step(rows=rows, prompt_rows=prompt_rows, took_s=took_s)
            return
        verify = self.profile.verify
        drafted = sum(entry.length for entry in self._entries.values())
        return_s = verify.return_s(rows - drafted) if drafted else 0.0
        self._step_s, self._plain_s = took_s + self._drafting_s, took_s
        expected_s = self.profile.observe_step(rows=rows, prompt_rows=prompt_rows, took_s=took_s)
        if expected_s is not None:
            self.forecasts.add(expected_s, took_s)
        if drafted:  # so the costs are known
            steady_s = took_s if prompt_rows else verify.without_transient_s(took_s)
            self._plain_s = steady_s * verify.steady_s(rows - drafted) / verify.steady_s(rows)
        if any(entry.is_adaptive for entry in self._entries.values()):
            extra_s = self._step_s - self._plain_s + return_s
            idle_s = 0.0 if drafted else self._planning_s
            self._budget.charge(self._plain_s, extra_s, idle_s=idle_s, streams=len(self._entries))

    def observe_prompt(self, stream: Stream, rows: range) -> None:
        """These rows of the target's decode were a part of the stream's prompt, not its end."""
        for drafter in self._drafters:
            drafter.observe(stream.sequence, rows, is_newest=False)

    def observe_stream(
        self, stream: Stream, *, accepted: int, rows: range, target_confidence: Callable[[], float]
    ) -> None:
        """`accepted` draft tokens of the stream were right.

        `rows`: of the target's decode; the newest token was sampled from the last of them.
        `target_confidence`: probability of that token. The records take the draft tokens of all
        drafters, verified or not, as far as the accepted text tells whether they were right.
        """
        if not self._drafters:
            return
        seq = stream.sequence
        entry = self._entries.get(seq.id)
        if entry is None:
            entry = self._entries[seq.id] = self._start_draft(stream)
        truth = seq.tokens[len(seq.tokens) - accepted - 1 :]
        acceptance = self.profile.acceptance
        for name, request in entry.requests.items():
            confidences = [draft.confidence for draft in request.drafts[: len(truth)]]
            acceptance.observe(name, seq.id, confidences, request.num_accepted(truth))
        if self._model and (len(seq.output_tokens) + seq.id) % CONFIDENCE_INTERVAL == 0:
            acceptance.observe_target(seq.id, target_confidence())
        self._count(entry, accepted)
        for drafter in self._drafters:
            drafter.observe(seq, rows, is_newest=True)

    def finish(self, stream: Stream, *, accepted: int) -> SpeculationReport | None:
        """End a stream; its report, None if nothing was drafted for it."""
        id_ = stream.sequence.id
        if entry := self._entries.get(id_):
            self._count(entry, accepted)
        self._entries.pop(id_, None)
        for drafter in self._drafters:
            drafter.forget(stream.sequence)
        self.profile.acceptance.forget(id_)
        stats = self._stats.pop(id_, None)
        return stats.report() if stats and stats.drafter else None

    def drafter_stats(self) -> tuple[DrafterStats, ...]:
        """What the drafts of each drafter did so far."""
        return tuple(stats.of_drafter() for stats in self._by_drafter.values())

    def detail(self) -> SpeculationDetail:
        """What has been measured, and what became of the drafts."""
        verify, draft = self.profile.verify, self.profile.draft
        return SpeculationDetail(self.outcomes.by_depth(), verify.measured(), draft.measured())

    def _start_draft(self, stream: Stream) -> StreamDraft:
        """An empty draft; its length is limited by the context, num_predict and the options."""
        seq = stream.sequence
        fixed = self._fixed if seq.draft_fixed is None else seq.draft_fixed
        limits = [self._max_drafts, seq.num_ctx - len(seq.tokens) - 1, seq.num_left - 1]
        limits += [limit for limit in (seq.draft_limit, fixed) if limit is not None]
        max_length = max(min(limits), 0)
        return StreamDraft(stream, max_length, 0 if fixed is None else max_length)

    def _count(self, entry: StreamDraft, accepted: int) -> None:
        if entry.is_adaptive and accepted:
            streams = len(self._entries)
            self._budget.credit(accepted * self.profile.verify.steady_s(streams) / streams)
        stats = self._stats.setdefault(entry.stream.sequence.id, SpeculationStats())
        stats.drafter = entry.drafter or stats.drafter
        counted = [stats, self.total]
        if entry.length:
            self.outcomes.add(entry.drafter, length=entry.length, accepted=accepted)
            new = SpeculationStats(entry.drafter)
            counted.append(self._by_drafter.setdefault(entry.drafter, new))
        for each in counted:
            each.add(
                drafted=entry.length,
                accepted=accepted,
                took_s=self._step_s,
                plain_s=self._plain_s * (accepted + 1),
            )
