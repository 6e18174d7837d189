"""How waiting sequences become text: schedule, decode, draw, emit, one batch at a time."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import DecodeFailed
from ..parse.thinking import ThinkingParser
from ..protocol import Cancel, Delta, Done, Failed, Load, Step, ToFront
from .llama import ABORTED, NO_CELLS, Context, Model, Rows, Sampler
from .scheduler import Batch, Scheduler
from .sequence import Sequence
from .text import TextStream

PROMPT_ROWS = 128  # prompt tokens in a step beside decoding streams

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Stream:
    """What turns a sequence's tokens into deltas."""

    sequence: Sequence
    sampler: Sampler
    text: TextStream
    thinking: ThinkingParser | None
    started_ns: int
    first_ns: int = 0

    def delta(self, text: str, done: Done | None = None) -> Delta:
        """The next delta; what the parser holds back comes with the last one."""
        if self.thinking is None:
            return Delta(self.sequence.id, text, done=done)
        thinking, content = self.thinking.push(text)
        if done:
            more_thinking, more_content = self.thinking.finish()
            thinking, content = thinking + more_thinking, content + more_content
        return Delta(self.sequence.id, content, thinking, done)


class Engine:
    """Owns the context; `run` is the only thread that decodes."""

    def __init__(
        self, model: Model, context: Context, load: Load, send: Callable[[ToFront], None]
    ) -> None:
        self._model = model
        self._context = context
        self._send = send
        self._rows = Rows(load.batch)
        self._scheduler = Scheduler(
            slots=load.slots, cells=load.cells, rows=load.batch, prompt_rows=PROMPT_ROWS
        )
        self._inbox: queue.SimpleQueue[Sequence | Cancel] = queue.SimpleQueue()
        self._streams: dict[int, Stream] = {}
        self._prefilling: frozenset[int] = frozenset()

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

    def run(self) -> None:
        """The guard: a failed step fails every sequence, then the process ends."""
        try:
            while True:
                self.turn()
        except BrokenPipeError:
            log.info("the front is gone")
        except Exception as error:
            self._send(Failed(None, type(error).__name__, str(error)))
            raise

    def turn(self) -> None:
        """Take in what has arrived (waiting for it if there is nothing else to do), then step."""
        self._receive()
        if self._scheduler and (deltas := self.step()):
            self._send(Step(tuple(deltas)))

    def step(self) -> list[Delta]:
        """One batch: what it added to each of its sequences."""
        batch = self._scheduler.next_batch()
        for slot in batch.freed:
            self._context.clear(slot)
        outputs = self._fill(batch)
        rc = self._context.decode(self._rows)
        self._prefilling = frozenset()
        if rc == ABORTED:
            return self._retry(batch)
        if rc == NO_CELLS:
            return self._give_way()
        for chunk in batch.chunks:
            chunk.sequence.cached += chunk.count
        return [delta for stream, row in outputs if (delta := self._advance(stream, row))]

    def _receive(self) -> None:
        """Take in what has arrived; wait only when there is nothing to decode."""
        while True:
            try:
                item = self._inbox.get(block=not self._scheduler)
            except queue.Empty:
                return
            if isinstance(item, Sequence):
                self._open(item)
            elif stream := self._streams.get(item.id):
                self._context.disarm()
                self._send(Step((self._close(stream, "cancel"),)))

    def _fill(self, batch: Batch) -> list[tuple[Stream, int]]:
        """Lay the batch's chunks into rows; the streams that will draw, each with its row."""
        self._rows.clear()
        outputs = []
        for chunk in batch.chunks:
            seq, end = chunk.sequence, chunk.sequence.cached + chunk.count
            assert seq.slot is not None
            tokens, is_last = seq.tokens[seq.cached : end], chunk.is_last
            row = self._rows.add(seq.slot, seq.cached, tokens, output=is_last)
            if is_last:
                outputs.append((self._streams[seq.id], row))
        self._prefilling = frozenset(c.sequence.id for c in batch.chunks if c.count > 1)
        return outputs

    def _advance(self, stream: Stream, row: int) -> Delta | None:
        """Draw the next token of a stream whose tokens are all evaluated."""
        seq = stream.sequence
        stream.first_ns = stream.first_ns or time.monotonic_ns()
        if seq.is_spent:
            return self._close(stream, "length")
        token = stream.sampler.draw(self._context, row)
        if self._model.is_end(token):
            return self._close(stream, "stop")
        seq.append(token)
        text = stream.text.push(self._model.piece(token))
        if stream.text.stopped:
            return self._close(stream, "stop", text)
        if seq.is_spent or (seq.is_full and not seq.limits.shift):
            return self._close(stream, "length", text)
        if seq.is_full:
            assert seq.slot is not None
            self._context.clear(seq.slot)
            seq.shift()
        delta = stream.delta(text)
        return delta if delta.text or delta.thinking else None

    def _open(self, seq: Sequence) -> None:
        sampler = Sampler(self._model, seq.sampling, seq.tokens)
        thinking = ThinkingParser(opened=seq.opened) if seq.thinks else None
        text = TextStream(seq.limits.stop)
        self._streams[seq.id] = Stream(seq, sampler, text, thinking, time.monotonic_ns())
        self._scheduler.add(seq)

    def _close(self, stream: Stream, reason: str, text: str = "") -> Delta:
        """The last delta of a stream; its slot is free from here on."""
        seq = stream.sequence
        self._scheduler.remove(seq)
        del self._streams[seq.id]
        stream.sampler.close()
        now_ns = time.monotonic_ns()
        first_ns = stream.first_ns or now_ns
        done = Done(
            reason=reason,
            prompt_tokens=seq.num_prompt,
            prompt_ns=first_ns - stream.started_ns,
            eval_tokens=len(seq.drawn),
            eval_ns=now_ns - first_ns,
            context=tuple(seq.tokens),
        )
        return stream.delta(text + stream.text.finish(), done)

    def _retry(self, batch: Batch) -> list[Delta]:
        """After an abort: whoever's cells are not as before starts again (guide 10.2)."""
        self._context.disarm()
        for chunk in batch.chunks:
            seq = chunk.sequence
            assert seq.slot is not None
            if self._model.is_recurrent or self._context.num_cached(seq.slot) != seq.cached:
                self._scheduler.preempt(seq)
        return []

    def _give_way(self) -> list[Delta]:
        """After llama.cpp found no cells: the youngest starts again later, alone if need be."""
        if len(self._scheduler.running) == 1:
            raise DecodeFailed("the KV cache has no room for a single sequence")
        self._scheduler.preempt(self._scheduler.running[-1])
        return []
