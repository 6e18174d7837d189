"""Gemma 4's MTP drafter: reads the target's KV cache and last hidden row (GUIDE 2.1)."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from ....protocol import MAX_MODEL_DRAFTS
from ...batch import Batch, Hidden
from ...llama.interface import DECODED, LogitsDecoder
from ...sequence import Sequence
from .drafter import DraftForward, DraftRequest, SelectNext


@dataclass(frozen=True, slots=True)
class AssistantTip:
    """Where the guessing of one stream has come to: its newest token, and what led to that."""

    request: DraftRequest
    token: int
    hidden: Hidden


class AssistantDrafter:
    """One decode for each depth, all streams together.

    Drafting writes nothing into the cache, so there is nothing to catch up with or to cut back.
    """

    name = "assistant"
    max_length = MAX_MODEL_DRAFTS
    is_free = False
    can_evaluate = False

    def __init__(self, target: LogitsDecoder, context: LogitsDecoder) -> None:
        self._target = target
        self._context = context
        self._batch = Batch(context.max_outputs, hidden_width=context.model.hidden_width)
        self._hidden: dict[int, Hidden] = {}  # by id: the row that the newest token was drawn from

    def pending(self, sequence: Sequence) -> int:
        return 1

    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        calls: list[DraftForward] = []
        tips = [
            AssistantTip(request, request.sequence.tokens[-1], self._hidden[request.sequence.id])
            for request in requests
            if request.sequence.id in self._hidden
        ]
        while tips:
            self._lay(tips)
            start_s = time.perf_counter()
            if self._context.decode(self._batch) != DECODED:
                break  # no free cells: this step goes without
            for row, tip in enumerate(tips):
                tip.request.append(self._context.logits(row))
            calls.append(DraftForward(self._batch.count, time.perf_counter() - start_s))
            tips = self._advance(tips, select_next)
        return calls

    def _lay(self, tips: Seq[AssistantTip]) -> None:
        """Every depth stands at the same position, that of the token which is not evaluated."""
        self._batch.clear()
        for tip in tips:
            seq = tip.request.sequence
            assert seq.kv_seq
            held = seq.kv_seq.seq
            self._batch.add_hidden(held, seq.cached, [tip.token], [tip.hidden], outputs=1)

    def _advance(self, tips: Seq[AssistantTip], select_next: SelectNext) -> list[AssistantTip]:
        """One guess further, for those that go on."""
        wanted = select_next([tip.request for tip in tips])
        return [
            AssistantTip(tip.request, tip.request.tokens[-1], self._context.hidden(row))
            for row, tip in enumerate(tips)
            if tip.request in wanted
        ]

    def evaluate(self, request: DraftRequest) -> list[DraftForward]:
        return []

    def observe(self, sequence: Sequence, rows: range, *, is_tip: bool) -> None:
        if is_tip:
            self._hidden[sequence.id] = self._target.hidden(rows[-1])

    def forget(self, sequence: Sequence) -> None:
        self._hidden.pop(sequence.id, None)

    def close(self) -> None:
        self._context.close()
        self._context.model.close()
