"""How waiting sequences become text: schedule, decode, draw, emit, one batch at a time."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from ..errors import DecodeFailed
from ..protocol import Cancel, Delta, Load, Stats, Step, ToFront
from .llama import ABORTED, NO_CELLS, Context, Model, Rows, num_seqs
from .pace import Pace
from .prefix import PrefixCache, Recall
from .scheduler import Chunk, Scheduler
from .sequence import Sequence
from .stream import Stream


class Engine:
    """Owns the context; only the thread of `turn` decodes."""

    def __init__(
        self, model: Model, context: Context, load: Load, send: Callable[[ToFront], None]
    ) -> None:
        self._model = model
        self._context = context
        self._send = send
        self._rows = Rows(load.batch)
        self._cache = PrefixCache(
            context,
            seqs=num_seqs(model, load),
            cells=load.cells,
            recall=recall_of(model),
            window=model.window,
            shelf_bytes=0 if model.is_on_gpu else load.shelf_bytes,
        )
        self._scheduler = Scheduler(self._cache, slots=load.slots, rows=load.batch)
        self._pace = Pace()
        self._inbox: queue.SimpleQueue[Sequence | Cancel] = queue.SimpleQueue()
        self._streams: dict[int, Stream] = {}
        self._prefilling: frozenset[int] = frozenset()
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

    def turn(self) -> None:
        """Take in what has arrived (waiting for it if there is nothing else to do), then step."""
        self._receive()
        if self._scheduler and (deltas := self.step()):
            self._send(Step(tuple(deltas), self._count()))

    def step(self) -> list[Delta]:
        """One batch: what it added to each of its sequences."""
        start_ns = time.perf_counter_ns()
        streams = sum(seq.is_flowing for seq in self._scheduler.running)
        chunks = self._scheduler.next_batch(self._pace.prompt_rows(streams))
        if not chunks:
            return self._give_way()
        outputs = self._fill(chunks)
        decode_ns = time.perf_counter_ns()
        rc = self._context.decode(self._rows)
        took_ns = time.perf_counter_ns() - decode_ns
        self._prefilling = frozenset()
        if rc == ABORTED:
            return self._retry()
        if rc == NO_CELLS:
            return self._give_way()
        self._settle(chunks, took_ns)
        deltas = [delta for stream, row in outputs if (delta := self._advance(stream, row))]
        self._stats.step_ns += time.perf_counter_ns() - start_ns
        return deltas

    def _receive(self) -> None:
        """Take in what has arrived; wait only when there is nothing to decode."""
        while True:
            try:
                item = self._inbox.get(block=not self._scheduler)
            except queue.Empty:
                return
            if isinstance(item, Sequence):
                self._streams[item.id] = Stream(item, self._model)
                self._scheduler.add(item)
            elif stream := self._streams.get(item.id):
                self._context.disarm()
                self._send(Step((self._close(stream, "cancel"),), self._count()))

    def _fill(self, chunks: list[Chunk]) -> list[tuple[Stream, int]]:
        """Lay the chunks into rows; the streams that will draw, each with its row."""
        self._rows.clear()
        outputs = []
        for chunk in chunks:
            seq, stream = chunk.sequence, self._streams[chunk.sequence.id]
            stream.start()
            cached, is_last = seq.cached, chunk.is_last
            tokens = seq.tokens[cached : cached + chunk.count]
            assert seq.holding
            row = self._rows.add(seq.holding.seq, cached, tokens, output=is_last)
            if is_last:
                outputs.append((stream, row))
        self._prefilling = frozenset(c.sequence.id for c in chunks if c.count > 1)
        return outputs

    def _settle(self, chunks: list[Chunk], took_ns: int) -> None:
        """The decode is done: its tokens are in the cache, and we know what they cost."""
        prompt_rows = 0
        for chunk in chunks:
            seq, cached = chunk.sequence, chunk.sequence.cached
            assert seq.holding
            is_prompt = seq.pending > 1 or not seq.drawn
            prompt_rows += chunk.count if is_prompt else 0
            self._cache.extend(seq.holding, seq.tokens[cached : cached + chunk.count])
            if seq.cached in seq.marks:
                self._cache.checkpoint(seq.holding)
        streams = self._rows.count - prompt_rows
        self._pace.observe(streams=streams, prompt_rows=prompt_rows, took_s=took_ns / 1e9)
        self._stats.steps += 1
        self._stats.decode_ns += took_ns
        self._stats.prompt_tokens += prompt_rows

    def _advance(self, stream: Stream, row: int) -> Delta | None:
        """Draw the next token of a stream whose tokens are all evaluated."""
        seq = stream.sequence
        if seq.is_spent:
            return self._close(stream, "length")
        reason = stream.draw(self._context.logits(row))
        self._stats.decoded_tokens += 1
        if reason:
            return self._close(stream, reason)
        if seq.is_full:
            seq.shift()
            self._scheduler.preempt(seq)
        return stream.delta()

    def _close(self, stream: Stream, reason: str) -> Delta:
        """The last delta of a stream; its slot is free from here on."""
        del self._streams[stream.sequence.id]
        self._scheduler.remove(stream.sequence)
        self._stats.cached_tokens += stream.sequence.num_reused
        return stream.finish(reason)

    def _retry(self) -> list[Delta]:
        """After an abort: whoever's cells are not as before starts again (guide 10.2).

        Recurrent states move between cells while they are computed, so a step that was cut short
        may spoil any of them, also of those that were not in the batch.
        """
        self._context.disarm()
        is_recurrent = self._model.is_recurrent
        for seq in reversed(self._scheduler.running[:]):
            assert seq.holding
            if is_recurrent or self._context.num_cached(seq.holding.seq) != seq.cached:
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
        self._stats.cells_used = self._cache.num_cells_used
        return self._stats


def recall_of(model: Model) -> Recall:
    """How far back the memory of this model can be cut."""
    if model.is_recurrent:
        return Recall.END
    return Recall.WINDOW if model.window else Recall.ANYWHERE
