"""How waiting sequences become text: schedule, draft, decode, accept, emit, one batch at a time."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..errors import DecodeFailed
from ..protocol import Cancel, Delta, Hold, Load, SpeculationDetail, Stats, Step, ToFront, Working
from .batch import Batch
from .faults import failed
from .forecast import PREPARED_S, StepAnnouncer
from .kv.prefix_cache import PrefixCache, TrimMode
from .llama.interface import ABORTED, NO_CELLS, LanguageModel, TargetDecoder
from .prefill_budget import max_prompt_rows
from .sampling.sampler import target_confidence
from .scheduler import Chunk, Scheduler
from .sequence import Sequence
from .speculation.accept import accept
from .speculation.controller import SpeculationController
from .stream import Stream
from .threads.control import FixedThreads, StepThreads
from .token_gaps import TokenGaps

# Nanoseconds between two flushes of text: a message for each token costs the front and the steps.
FLUSH_NS = 25_000_000
DETAIL_NS = 1_000_000_000
"""Nanoseconds between two details of speculation while there is work; each takes up to 0.3 ms."""


@dataclass(frozen=True, slots=True)
class BatchSlice:
    """The rows of one stream in a batch: a chunk of its tokens, then its draft tokens."""

    stream: Stream
    first: int  # row
    count: int  # rows of the chunk
    samples: bool  # the next token is sampled: the rows from the chunk's last on are outputs
    drafts: list[int]


class Engine:
    """Owns the context; only the thread of `turn` decodes."""

    def __init__(
        self,
        model: LanguageModel,
        context: TargetDecoder,
        load: Load,
        send: Callable[[ToFront], None],
        speculation: SpeculationController,
        threads: StepThreads | None = None,
    ) -> None:
        self._model = model
        self._context = context
        self._send = send
        self._batch = Batch(load.batch)
        self._cache = PrefixCache(
            context,
            seqs=context.num_seqs,
            cells=load.cells,
            trim_mode=trim_mode_of(model),
            window=model.window,
            host_cache_bytes=0 if model.is_on_gpu else load.host_cache_bytes,
        )
        self._scheduler = Scheduler(self._cache, slots=load.slots, rows=load.batch)
        self._speculation = speculation
        self._threads = threads or FixedThreads()
        self._inbox: queue.SimpleQueue[Sequence | Cancel | Hold] = queue.SimpleQueue()
        self._streams: dict[int, Stream] = {}
        self._prefilling: frozenset[int] = frozenset()
        self._flush_due_ns = 0
        self._detail_due_ns = 0
        self._stats = Stats()
        self._announcer = StepAnnouncer()
        self._gaps = TokenGaps()

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence; callable from any thread."""
        self._inbox.put(sequence)

    def cancel(self, cancel: Cancel) -> None:
        """Free a sequence's slot; callable from any thread.

        A long prompt chunk of that sequence is aborted. The others in the batch lose this step,
        not their text: it is decoded again.
        """
        self._inbox.put(cancel)
        if cancel.id in self._prefilling:
            self._context.abort()

    def hold(self, hold: Hold) -> None:
        """Let a stream pause or go on; callable from any thread."""
        self._inbox.put(hold)

    @property
    def is_idle(self) -> bool:
        """Whether `turn` would wait for a request."""
        return not self._scheduler

    def turn(self) -> None:
        """Receive (wait if there is nothing to decode), then make one step."""
        self._receive()
        if self._scheduler and (deltas := self.step()):
            self._send(Step(tuple(deltas), self._count()))
            self._announcer.note_message(time.monotonic())

    def step(self) -> list[Delta]:
        """Decode one batch; what it added to its sequences."""
        start_ns = time.perf_counter_ns()
        chunks = self._scheduler.next_batch(partial(max_prompt_rows, self._speculation.profile))
        if not chunks:
            return self._make_room()
        rows = sum(chunk.count for chunk in chunks)
        self._announce(rows)
        self._threads.prepare(rows=rows)
        slices = self._fill(chunks, self._draft(chunks))
        decode_ns = time.perf_counter_ns()
        rc = self._context.decode(self._batch)
        took_ns = time.perf_counter_ns() - decode_ns
        self._prefilling = frozenset()
        if rc == ABORTED:
            return self._retry()
        if rc == NO_CELLS:
            return self._make_room()
        self._record(slices, took_ns)
        is_flush = start_ns >= self._flush_due_ns
        if is_flush:
            self._flush_due_ns = start_ns + FLUSH_NS
        sampled = [each for each in slices if each.samples]
        deltas = [delta for each in sampled if (delta := self._advance(each, is_flush))]
        step_ns = time.perf_counter_ns() - start_ns
        self._stats.step_ns += step_ns
        self._announcer.observe(rows, step_ns / 1e9)
        return deltas

    def _announce(self, rows: int) -> None:
        """Tell the front of a step with so many rows, beside drafts, if it may take long."""
        now_s = time.monotonic()
        if self._announcer.is_due(rows, now_s):
            self._send(Working(self._announcer.expected_s(rows)))
            self._announcer.note_message(now_s)

    def _receive(self) -> None:
        """Receive sequences and cancels; wait only when there is nothing to decode."""
        while not (self._scheduler and self._inbox.empty()):
            item = self._inbox.get()
            if isinstance(item, Sequence):
                self._admit(item)
            elif not (stream := self._streams.get(item.id)):
                continue
            elif isinstance(item, Hold):
                self._scheduler.hold(stream.sequence, is_held=item.is_held)
            else:
                self._context.disarm()
                if delta := self._close(stream, "cancel"):
                    self._send(Step((delta,), self._count()))

    def _admit(self, sequence: Sequence) -> None:
        try:
            stream = Stream(sequence, self._model)
        except BaseException as fault:
            self._send(failed(sequence.id, fault))
            return
        self._send(Working(PREPARED_S, sequence.id))
        self._streams[sequence.id] = stream
        self._scheduler.add(sequence)

    def _draft(self, chunks: list[Chunk]) -> dict[int, list[int]]:
        """Draft tokens of the decoding streams, by id, as far as rows, outputs and cells allow."""
        if not self._speculation.names:
            return {}
        streams = [self._streams[c.sequence.id] for c in chunks if c.sequence.is_decoding]
        rows = sum(chunk.count for chunk in chunks)
        outputs = sum(chunk.is_last for chunk in chunks)
        room = min(self._batch.capacity - rows, self._context.max_outputs - outputs)
        starting = sum(c.count / c.sequence.pending for c in chunks if not c.sequence.is_decoding)
        others = rows - len(streams)
        drafts = self._speculation.propose(streams, others=others, starting=starting, room=room)
        if drafts and not self._cache.reserve(rows + sum(map(len, drafts.values()))):
            self._speculation.drop()
            return {}
        return drafts

    def _fill(self, chunks: list[Chunk], drafts: dict[int, list[int]]) -> list[BatchSlice]:
        """Fill the batch with the chunks, each followed by its draft tokens."""
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

    def _record(self, slices: list[BatchSlice], took_ns: int) -> None:
        """Record a decode: its tokens are in the KV cache, and its time is known."""
        prompt_rows = 0
        for each in slices:
            seq, cached = each.stream.sequence, each.stream.sequence.cached
            assert seq.kv_seq
            is_prompt = seq.pending > 1 or not seq.output_tokens
            prompt_rows += each.count if is_prompt else 0
            self._cache.extend(seq.kv_seq, seq.tokens[cached : cached + each.count])
            if seq.cached in seq.checkpoint_at:
                self._cache.checkpoint(seq.kv_seq)
            if not each.samples:
                rows = range(each.first, each.first + each.count)
                self._speculation.observe_prompt(each.stream, rows)
        count, took_s = self._batch.count, took_ns / 1e9
        self._speculation.observe_step(rows=count, prompt_rows=prompt_rows, took_s=took_s)
        self._threads.observe(rows=count, prompt_rows=prompt_rows, took_s=took_s)
        self._stats.steps += 1
        self._stats.decode_ns += took_ns
        self._stats.prompt_tokens += prompt_rows

    def _advance(self, item: BatchSlice, is_flush: bool) -> Delta | None:
        """Sample the next tokens of a stream whose tokens are all evaluated.

        Returns its first text and its end at once, other text at a flush.
        """
        stream, drafts, last = item.stream, item.drafts, item.first + item.count - 1
        seq = stream.sequence
        if seq.reached_max_tokens:
            return self._close(stream, "length")
        result = accept(stream, drafts, lambda i: self._context.logits(last + i))
        accepted = result.accepted
        self._stats.decoded_tokens += accepted + 1
        self._gaps.add(seq.id, accepted + 1, time.monotonic_ns())
        if drafts:
            assert seq.kv_seq
            self._cache.extend(seq.kv_seq, drafts[:accepted])
            self._cache.roll_back(seq.kv_seq)
        if result.reason:
            return self._close(stream, result.reason, accepted)
        self._speculation.observe_stream(
            stream,
            accepted=accepted,
            rows=range(item.first, last + accepted + 1),
            target_confidence=lambda: target_confidence(self._context.logits(last + accepted)),
        )
        if seq.is_full:
            seq.shift()
            self._scheduler.preempt(seq)
        return stream.delta() if is_flush or not stream.has_output else None

    def _close(self, stream: Stream, reason: str, accepted: int = 0) -> Delta | None:
        """Free the slot of a stream; its last delta, or None if it ends with a fault of its own.

        Such a fault ends this stream alone, but a failed decode is raised.
        """
        seq = stream.sequence
        report = self._speculation.finish(stream, accepted=accepted)
        del self._streams[seq.id]
        self._gaps.forget(seq.id)
        self._scheduler.remove(seq)
        self._stats.cached_tokens += seq.num_reused
        try:
            return stream.finish(reason, report)
        except BaseException as fault:
            self._send(failed(seq.id, fault))
            return None

    def _retry(self) -> list[Delta]:
        """After an abort, restart the sequences whose cells have changed (GUIDE 10.2).

        Recurrent states move between cells while they are computed, so an aborted step may corrupt
        any of them, also of sequences that were not in the batch.
        """
        self._context.disarm()
        is_recurrent = self._model.is_recurrent
        for seq in reversed(self._scheduler.running[:]):
            assert seq.kv_seq
            if is_recurrent or self._context.num_cached(seq.kv_seq.seq) != seq.cached:
                self._scheduler.restart(seq)
        if is_recurrent:
            self._cache.drop_released()
        return []

    def _make_room(self) -> list[Delta]:
        """Without free cells, evict a cached prefix, or preempt the youngest sequence."""
        if not self._cache.evict():
            if len(self._scheduler.running) < 2:
                raise DecodeFailed("the KV cache has no room for a single sequence")
            self._scheduler.preempt(self._scheduler.running[-1])
        return []

    def _count(self) -> Stats:
        stats, total, forecasts = self._stats, self._speculation.total, self._speculation.forecasts
        scheduler = self._scheduler
        stats.slots_busy, stats.waiting = len(scheduler.running), len(scheduler.waiting)
        stats.preempted, stats.cells_used = scheduler.num_preempted, self._cache.num_cells_used
        stats.drafts, stats.drafted_tokens = total.num_drafts, total.drafted
        stats.accepted_tokens = total.accepted
        stats.speculated_ns, stats.plain_ns = int(total.took_s * 1e9), int(total.plain_s * 1e9)
        stats.expected_ns = int(forecasts.expected_s * 1e9)
        stats.misjudged_ns = int(forecasts.error_s * 1e9)
        stats.gap_counts, stats.gap_ns = tuple(self._gaps.counts), self._gaps.total_ns
        stats.drafters = self._speculation.drafter_stats()
        stats.detail = self._detail()
        return stats

    def _detail(self) -> SpeculationDetail | None:
        """What the page shows of speculation, if it is due."""
        now_ns = time.perf_counter_ns()
        if not self._speculation.names or (self._scheduler and now_ns < self._detail_due_ns):
            return None
        self._detail_due_ns = now_ns + DETAIL_NS
        return self._speculation.detail()


def trim_mode_of(model: LanguageModel) -> TrimMode:
    """How the KV cache of this model can be trimmed."""
    if model.is_recurrent:
        return TrimMode.END
    return TrimMode.WINDOW if model.window else TrimMode.ANYWHERE
