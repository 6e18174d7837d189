"""How waiting sequences become text: schedule, decode, draw, emit, one batch at a time."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..errors import DecodeFailed
from ..protocol import Cancel, Delta, Load, Stats, Step, ToFront
from .kv.prefix_cache import PrefixCache, TrimMode
from .llama.batch import Batch
from .llama.context import ABORTED, NO_CELLS, TextContext, num_seqs
from .llama.model import LlamaModel
from .prefill_budget import max_prompt_rows
from .sampling.sampler import target_confidence
from .scheduler import Chunk, Scheduler
from .sequence import Sequence
from .speculation.accept import accept
from .speculation.controller import SpeculationController
from .stream import Stream

FLUSH_NS = 25_000_000  # text is sent on so often at most: reading each token on its own costs steps


@dataclass(frozen=True, slots=True)
class BatchSlice:
    """A chunk in the rows of a decode: from which row on, and the guesses in the rows after it."""

    stream: Stream
    first: int
    count: int
    draws: (
        bool  # whether the token after it is drawn, so that all rows from its last on are outputs
    )
    drafts: list[int]


class Engine:
    """Owns the context; only the thread of `turn` decodes."""

    def __init__(
        self,
        model: LlamaModel,
        context: TextContext,
        load: Load,
        send: Callable[[ToFront], None],
        speculation: SpeculationController,
    ) -> None:
        self._model = model
        self._context = context
        self._send = send
        self._batch = Batch(load.batch)
        self._cache = PrefixCache(
            context,
            seqs=num_seqs(model, load),
            cells=load.cells,
            trim_mode=trim_mode_of(model),
            window=model.window,
            host_cache_bytes=0 if model.is_on_gpu else load.host_cache_bytes,
        )
        self._scheduler = Scheduler(self._cache, slots=load.slots, rows=load.batch)
        self._speculation = speculation
        self._inbox: queue.SimpleQueue[Sequence | Cancel] = queue.SimpleQueue()
        self._streams: dict[int, Stream] = {}
        self._prefilling: frozenset[int] = frozenset()
        self._flush_due_ns = 0  # when the next text is due
        self._stats = Stats()

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence; callable from any thread."""
        self._inbox.put(sequence)

    def cancel(self, cancel: Cancel) -> None:
        """Free a sequence's slot; callable from any thread.

        A long prompt chunk of that sequence is cut short. The others in the batch lose this step,
        not their text: they are decoded again.
        """
        self._inbox.put(cancel)
        if cancel.id in self._prefilling:
            self._context.abort()

    @property
    def is_idle(self) -> bool:
        """Whether `turn` would wait for a request."""
        return not self._scheduler

    def turn(self) -> None:
        """Take in what has arrived (waiting for it if there is nothing else to do), then step."""
        self._receive()
        if self._scheduler and (deltas := self.step()):
            self._send(Step(tuple(deltas), self._count()))

    def step(self) -> list[Delta]:
        """One batch: what it added to each of its sequences."""
        start_ns = time.perf_counter_ns()
        chunks = self._scheduler.next_batch(partial(max_prompt_rows, self._speculation.profile))
        if not chunks:
            return self._give_way()
        slices = self._fill(chunks, self._draft(chunks))
        decode_ns = time.perf_counter_ns()
        rc = self._context.decode(self._batch)
        took_ns = time.perf_counter_ns() - decode_ns
        self._prefilling = frozenset()
        if rc == ABORTED:
            return self._retry()
        if rc == NO_CELLS:
            return self._give_way()
        self._settle(slices, took_ns)
        is_flush = start_ns >= self._flush_due_ns
        if is_flush:
            self._flush_due_ns = start_ns + FLUSH_NS
        sampled = [each for each in slices if each.draws]
        deltas = [delta for each in sampled if (delta := self._advance(each, is_flush))]
        self._stats.step_ns += time.perf_counter_ns() - start_ns
        return deltas

    def _receive(self) -> None:
        """Take in what has arrived; wait only when there is nothing to decode."""
        while not (self._scheduler and self._inbox.empty()):
            item = self._inbox.get()
            if isinstance(item, Sequence):
                self._streams[item.id] = Stream(item, self._model)
                self._scheduler.add(item)
            elif stream := self._streams.get(item.id):
                self._context.disarm()
                self._send(Step((self._close(stream, "cancel"),), self._count()))

    def _draft(self, chunks: list[Chunk]) -> dict[int, list[int]]:
        """Guesses for those who decode, by id, as far as rows, outputs and cells allow."""
        if not self._speculation.names:
            return {}
        streams = [self._streams[c.sequence.id] for c in chunks if c.sequence.is_decoding]
        rows = sum(chunk.count for chunk in chunks)
        outputs = sum(chunk.is_last for chunk in chunks)
        room = min(self._batch.capacity - rows, self._context.max_outputs - outputs)
        starting = sum(c.count / c.sequence.pending for c in chunks if not c.sequence.is_decoding)
        drafts = self._speculation.propose(
            streams, others=rows - len(streams), starting=starting, room=room
        )
        if drafts and not self._cache.reserve(rows + sum(map(len, drafts.values()))):
            self._speculation.drop()
            return {}
        return drafts

    def _fill(self, chunks: list[Chunk], drafts: dict[int, list[int]]) -> list[BatchSlice]:
        """Lay the chunks into rows, each with the guesses after it."""
        self._batch.clear()
        slices = []
        for chunk in chunks:
            seq, stream = chunk.sequence, self._streams[chunk.sequence.id]
            stream.start()
            cached, draft = seq.cached, drafts.get(seq.id, [])
            tokens = seq.tokens[cached : cached + chunk.count]
            tokens.extend(draft)
            assert seq.kv_seq
            num_outputs = chunk.is_last + len(draft)
            slices.append(BatchSlice(stream, self._batch.count, chunk.count, chunk.is_last, draft))
            self._batch.add(seq.kv_seq.seq, cached, tokens, outputs=num_outputs)
        self._prefilling = frozenset(c.sequence.id for c in chunks if c.count > 1)
        return slices

    def _settle(self, slices: list[BatchSlice], took_ns: int) -> None:
        """The decode is done: its tokens are in the cache, and we know what they cost."""
        prompt_rows = 0
        for each in slices:
            seq, cached = each.stream.sequence, each.stream.sequence.cached
            assert seq.kv_seq
            is_prompt = seq.pending > 1 or not seq.output_tokens
            prompt_rows += each.count if is_prompt else 0
            self._cache.extend(seq.kv_seq, seq.tokens[cached : cached + each.count])
            if seq.cached in seq.marks:
                self._cache.checkpoint(seq.kv_seq)
            if not each.draws:
                self._speculation.observe_prompt(
                    each.stream, range(each.first, each.first + each.count)
                )
        self._speculation.observe_step(
            rows=self._batch.count, prompt_rows=prompt_rows, took_s=took_ns / 1e9
        )
        self._stats.steps += 1
        self._stats.decode_ns += took_ns
        self._stats.prompt_tokens += prompt_rows

    def _advance(self, part: BatchSlice, is_flush: bool) -> Delta | None:
        """Draw the next tokens of a stream whose tokens are all evaluated; its first text and its
        end are told at once, the rest frame by frame."""
        stream, drafts, last = part.stream, part.drafts, part.first + part.count - 1
        seq = stream.sequence
        if seq.reached_max_tokens:
            return self._close(stream, "length")
        verdict = accept(stream, drafts, lambda i: self._context.logits(last + i))
        self._stats.decoded_tokens += verdict.accepted + 1
        if drafts:
            assert seq.kv_seq
            self._cache.extend(seq.kv_seq, drafts[: verdict.accepted])
            self._cache.retract(seq.kv_seq)
        if verdict.reason:
            return self._close(stream, verdict.reason, verdict.accepted)
        self._speculation.observe_stream(
            stream,
            accepted=verdict.accepted,
            rows=range(part.first, last + verdict.accepted + 1),
            target_confidence=lambda: target_confidence(
                self._context.logits(last + verdict.accepted)
            ),
        )
        if seq.is_full:
            seq.shift()
            self._scheduler.preempt(seq)
        return stream.delta() if is_flush or not stream.has_spoken else None

    def _close(self, stream: Stream, reason: str, accepted: int = 0) -> Delta:
        """The last delta of a stream; its slot is free from here on."""
        speculation_report = self._speculation.finish(stream, accepted=accepted)
        del self._streams[stream.sequence.id]
        self._scheduler.remove(stream.sequence)
        self._stats.cached_tokens += stream.sequence.num_reused
        return stream.finish(reason, speculation_report)

    def _retry(self) -> list[Delta]:
        """After an abort: whoever's cells are not as before starts again (GUIDE 10.2).

        Recurrent states move between cells while they are computed, so a step that was cut short
        may spoil any of them, also of those that were not in the batch.
        """
        self._context.disarm()
        is_recurrent = self._model.is_recurrent
        for seq in reversed(self._scheduler.running[:]):
            assert seq.kv_seq
            if is_recurrent or self._context.num_cached(seq.kv_seq.seq) != seq.cached:
                self._scheduler.restart(seq)
        if is_recurrent:
            self._cache.forget()
        return []

    def _give_way(self) -> list[Delta]:
        """No cells: old prefixes are forgotten, then the youngest starts again later."""
        if not self._cache.evict():
            if len(self._scheduler.running) < 2:
                raise DecodeFailed("the KV cache has no room for a single sequence")
            self._scheduler.preempt(self._scheduler.running[-1])
        return []

    def _count(self) -> Stats:
        self._stats.slots_busy = len(self._scheduler.running)
        self._stats.waiting = len(self._scheduler.waiting)
        self._stats.preempted = self._scheduler.num_preempted
        total = self._speculation.total
        self._stats.drafts = total.num_drafts
        self._stats.drafted_tokens, self._stats.accepted_tokens = total.drafted, total.accepted
        self._stats.speculated_ns = int(total.took_s * 1e9)
        self._stats.plain_ns = int(total.plain_s * 1e9)
        forecasts = self._speculation.forecasts
        self._stats.expected_ns = int(forecasts.expected_s * 1e9)
        self._stats.misjudged_ns = int(forecasts.error_s * 1e9)
        self._stats.cells_used = self._cache.num_cells_used
        return self._stats


def trim_mode_of(model: LlamaModel) -> TrimMode:
    """How far back the memory of this model can be cut."""
    if model.is_recurrent:
        return TrimMode.END
    return TrimMode.WINDOW if model.window else TrimMode.ANYWHERE
