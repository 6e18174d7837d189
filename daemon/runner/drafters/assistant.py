"""Gemma 4's MTP drafter: reads the target's KV cache and last hidden row (guide section 2.1)."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from ...protocol import MAX_MODEL_DRAFTS
from ..llama.batch import Batch, Hidden
from ..llama.context import DECODED, TextContext
from ..llama.draft_contexts import AssistantContext
from ..sequence import Sequence
from .drafter import Ask, Call, GoOn


@dataclass(frozen=True, slots=True)
class Tip:
    """Where the guessing of one stream has come to: its newest token, and what led to that."""

    ask: Ask
    token: int
    hidden: Hidden


class AssistantDrafter:
    """One decode for each depth, all streams together.

    Drafting writes nothing into the cache, so there is nothing to catch up with or to cut back.
    """

    name = "assistant"
    max_length = MAX_MODEL_DRAFTS
    is_free = False
    reviews = False

    def __init__(self, target: TextContext, context: AssistantContext) -> None:
        self._target = target
        self._context = context
        self._batch = Batch(context.max_outputs, hidden_width=context.model.hidden_width)
        self._hidden: dict[int, Hidden] = {}  # by id: the row that the newest token was drawn from

    def pending(self, sequence: Sequence) -> int:
        return 1

    def draft(self, asks: Seq[Ask], go_on: GoOn) -> list[Call]:
        calls: list[Call] = []
        tips = [
            Tip(ask, ask.sequence.tokens[-1], self._hidden[ask.sequence.id])
            for ask in asks
            if ask.sequence.id in self._hidden
        ]
        while tips:
            self._lay(tips)
            start_s = time.perf_counter()
            if self._context.decode(self._batch) != DECODED:
                break  # no free cells: this step goes without
            for row, tip in enumerate(tips):
                tip.ask.guess(self._context.logits(row))
            calls.append(Call(self._batch.count, time.perf_counter() - start_s))
            tips = self._advance(tips, go_on)
        return calls

    def _lay(self, tips: Seq[Tip]) -> None:
        """Every depth stands at the same position, that of the token which is not evaluated."""
        self._batch.clear()
        for tip in tips:
            seq = tip.ask.sequence
            assert seq.kv_seq
            held = seq.kv_seq.seq
            self._batch.add_hidden(held, seq.cached, [tip.token], [tip.hidden], outputs=1)

    def _advance(self, tips: Seq[Tip], go_on: GoOn) -> list[Tip]:
        """One guess further, for those that go on."""
        wanted = go_on([tip.ask for tip in tips])
        return [
            Tip(tip.ask, tip.ask.tokens[-1], self._context.hidden(row))
            for row, tip in enumerate(tips)
            if tip.ask in wanted
        ]

    def review(self, ask: Ask) -> list[Call]:
        return []

    def observe(self, sequence: Sequence, rows: range, *, is_tip: bool) -> None:
        if is_tip:
            self._hidden[sequence.id] = self._target.hidden(rows[-1])

    def forget(self, sequence: Sequence) -> None:
        self._hidden.pop(sequence.id, None)

    def close(self) -> None:
        self._context.close()
        self._context.model.close()
