"""Gemma 4's MTP drafter: reads the target's KV cache and last hidden row (GUIDE 2.1)."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from ....protocol import MAX_MODEL_DRAFTS
from ...batch import Batch, Hidden
from ...llama.interface import DECODED, LogitsDecoder
from ...sequence import Sequence
from .drafter import Drafter, DraftForward, DraftRequest, SelectNext


@dataclass(frozen=True, slots=True)
class AssistantInput:
    """One stream's row of the next draft forward: its newest token, and the hidden row before."""

    request: DraftRequest
    token: int
    hidden: Hidden


class AssistantDrafter(Drafter):
    """One decode per depth, all streams together.

    Drafting writes nothing into the target's cache, so there is no prefill and no rollback.
    """

    name = "assistant"
    max_length = MAX_MODEL_DRAFTS

    def __init__(self, target: LogitsDecoder, context: LogitsDecoder) -> None:
        self._target = target
        self._context = context
        self._batch = Batch(context.max_outputs, hidden_width=context.model.hidden_width)
        self._hidden: dict[int, Hidden] = {}  # row that the newest token was sampled from, by id

    def pending(self, sequence: Sequence) -> int:
        return 1

    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        forwards: list[DraftForward] = []
        inputs = [
            AssistantInput(request, request.sequence.tokens[-1], self._hidden[request.sequence.id])
            for request in requests
            if request.sequence.id in self._hidden
        ]
        while inputs:
            self._fill(inputs)
            start_s = time.perf_counter()
            if self._context.decode(self._batch) != DECODED:
                break  # without free cells this step has no drafts
            for row, each in enumerate(inputs):
                each.request.append(self._context.logits(row))
            forwards.append(DraftForward(self._batch.count, time.perf_counter() - start_s))
            inputs = self._next_inputs(inputs, select_next)
        return forwards

    def _fill(self, inputs: Seq[AssistantInput]) -> None:
        """Fill the batch. Every depth has the same position, that of the pending token."""
        self._batch.clear()
        for each in inputs:
            seq = each.request.sequence
            assert seq.kv_seq
            self._batch.add_hidden(
                seq.kv_seq.seq, seq.cached, [each.token], [each.hidden], outputs=1
            )

    def _next_inputs(
        self, inputs: Seq[AssistantInput], select_next: SelectNext
    ) -> list[AssistantInput]:
        selected = select_next([each.request for each in inputs])
        return [
            AssistantInput(each.request, each.request.tokens[-1], self._context.hidden(row))
            for row, each in enumerate(inputs)
            if each.request in selected
        ]

    def observe(self, sequence: Sequence, rows: range, *, is_newest: bool) -> None:
        if is_newest:
            self._hidden[sequence.id] = self._target.hidden(rows[-1])

    def forget(self, sequence: Sequence) -> None:
        self._hidden.pop(sequence.id, None)

    def set_threads(self, threads: int) -> None:
        self._context.set_threads(threads)

    def close(self) -> None:
        self._context.close()
        self._context.model.close()
