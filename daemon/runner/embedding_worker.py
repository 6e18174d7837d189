"""How texts become vectors: tokenize, cut, evaluate several in one batch, read what is pooled.

Requests take turns, one text each: a request with a thousand texts does not delay one with a single
text.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import BadRequest, DecodeFailed, RunnerError
from ..protocol import Cancel, Embed, Embedded, Load, Stats, Step, Submit, ToFront, Working
from .batch import Batch
from .faults import failed
from .forecast import PREPARED_S, StepAnnouncer
from .llama.interface import ABORTED, CLS, DECODED, LAST, EncoderModel, PoolingDecoder
from .request_log import logged

# Rows of one batch of short texts. llama.cpp allocates the logits of every row of a batch, although
# they are not read: 1 MB each with a vocabulary of 250,000.
PACKED_ROWS = 512

# CONTRACT 1.10
TOO_LONG = "the input length exceeds the context length"
NO_ROOM = "input after truncation exceeds maximum context length"
CANNOT_CUT = "input exceeds maximum context length and cannot be truncated further"
NOT_FINITE = "the model computed a vector that is not finite for text {} of the request"

Vector = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class EmbeddingJob:
    """One request while it runs."""

    id: int
    texts: list[list[int]]  # tokens
    vectors: Vector  # a row for each text
    waiting: deque[int]  # texts without a vector, except those in the running batch


@dataclass(frozen=True, slots=True)
class EmbeddingText:
    """One text of a job."""

    job: EmbeddingJob
    index: int

    @property
    def tokens(self) -> list[int]:
        return self.job.texts[self.index]


class EmbeddingWorker:
    """Owns the context; only the thread of `turn` decodes."""

    def __init__(
        self,
        model: EncoderModel,
        context: PoolingDecoder,
        load: Load,
        send: Callable[[ToFront], None],
    ) -> None:
        self._model = model
        self._context = context
        self._load = load
        self._send = send
        self._before, self._after = special_tokens(model)
        self._batch = Batch(load.batch)
        self._packed_rows = min(PACKED_ROWS, load.batch)
        self._inbox: queue.SimpleQueue[EmbeddingJob | Cancel] = queue.SimpleQueue()
        self._jobs: deque[EmbeddingJob] = deque()
        self._evaluating: frozenset[int] = frozenset()
        self._stats = Stats()
        self._announcer = StepAnnouncer()

    def try_out(self) -> None:
        """Evaluate a short text: weights with which that fails, or ends the process, cost their
        load and no request. Raises DecodeFailed."""
        tokens = self._model.tokenize("a", add_bos=True)
        self._batch.clear()
        self._batch.add(0, 0, tokens[: self._batch.capacity], outputs=1)
        self._batch.output_all()
        self._context.decode(self._batch)
        self._context.clear_all()

    def submit(self, request: Submit | Embed) -> None:
        """Tokenize and queue a request; callable from any thread. Raises BadRequest."""
        if not isinstance(request, Embed):
            raise BadRequest("this model was loaded for embeddings")
        if not request.texts:
            raise BadRequest("there are no texts to embed")
        with logged(request):
            texts = [self._tokenize(i, request) for i in range(len(request.texts))]
        vectors = np.zeros((len(texts), self._context.width), np.float32)
        self._inbox.put(EmbeddingJob(request.id, texts, vectors, deque(range(len(texts)))))

    def cancel(self, cancel: Cancel) -> None:
        """Forget a request; callable from any thread.

        A batch with a text of it is cut short; the other texts in it are evaluated again.
        """
        self._inbox.put(cancel)
        if cancel.id in self._evaluating:
            self._context.abort()

    @property
    def is_idle(self) -> bool:
        """Whether `turn` would wait for a request."""
        return not self._jobs

    def turn(self) -> None:
        """Receive (wait if there is nothing to evaluate), then evaluate one batch."""
        self._receive()
        if not self._jobs:
            return
        picked = next_texts(self._jobs, rows=self._packed_rows, seqs=self._load.slots)
        self._evaluating = frozenset(item.job.id for item in picked)
        start_ns = time.perf_counter_ns()
        vectors = self._evaluate([item.tokens for item in picked])
        self._stats.step_ns += time.perf_counter_ns() - start_ns
        self._evaluating = frozenset()
        self._context.clear_all()
        if vectors is None:
            self._context.disarm()
            self._put_back(picked)
            return
        for item, vector in zip(picked, vectors, strict=True):
            item.job.vectors[item.index] = vector
        self._send(Step((), self._count(picked)))
        self._announcer.note_message(time.monotonic())
        for job in {item.job.id: item.job for item in picked}.values():
            if not job.waiting:
                self._finish(job)

    def _receive(self) -> None:
        """Receive requests and cancels; wait only when there is nothing to evaluate."""
        while True:
            try:
                message = self._inbox.get(block=not self._jobs)
            except queue.Empty:
                return
            if isinstance(message, Cancel):
                self._context.disarm()
                self._jobs = deque(job for job in self._jobs if job.id != message.id)
            else:
                self._send(Working(PREPARED_S, message.id))
                self._jobs.append(message)

    def _tokenize(self, index: int, request: Embed) -> list[int]:
        """The tokens of one of the texts, cut to what fits (CONTRACT 1.10). Raises BadRequest."""
        before, after = self._before, self._after
        tokens = self._model.tokenize(request.texts[index], add_bos=False)
        room = min(request.num_ctx or self._load.num_ctx, self._load.num_ctx, self._model.train_ctx)
        room -= len(before) + len(after)
        if len(tokens) > room:
            if not request.truncate:
                raise BadRequest(TOO_LONG)
            if room <= 0:
                raise BadRequest(NO_ROOM)
        whole = [*before, *tokens[:room], *after]
        if not whole:
            raise BadRequest(f"text {index} is empty: there is nothing to embed")
        if len(whole) > self._load.batch and not self._context.can_split:
            raise BadRequest(CANNOT_CUT)
        return whole

    def _evaluate(self, texts: Seq[list[int]]) -> list[Vector] | None:
        """The vector of each text; None if the batch was aborted.

        Several texts fit one batch. A single one that does not is evaluated in pieces, whose
        pooled vectors are combined.
        """
        vectors = [np.zeros(self._context.width, np.float32) for _ in texts]
        longest = max(map(len, texts))
        for start in range(0, longest, self._batch.capacity):
            pieces = [tokens[start : start + self._batch.capacity] for tokens in texts]
            if not self._decode(pieces, start):
                return None
            for seq, (piece, tokens) in enumerate(zip(pieces, texts, strict=True)):
                if share := pooling_weight(self._model.pooling, start, len(piece), len(tokens)):
                    vectors[seq] += np.float32(share) * self._context.vector(seq)
        return vectors

    def _decode(self, pieces: Seq[list[int]], start: int) -> bool:
        """Evaluate a piece of each sequence; False if that was aborted."""
        self._batch.clear()
        for seq, piece in enumerate(pieces):
            self._batch.add(seq, start, piece, outputs=1)
        self._batch.output_all()
        self._announce(self._batch.count)
        start_ns = time.perf_counter_ns()
        rc = self._context.decode(self._batch)
        took_ns = time.perf_counter_ns() - start_ns
        self._announcer.observe(self._batch.count, took_ns / 1e9)
        self._stats.decode_ns += took_ns
        self._stats.steps += 1
        if rc not in (DECODED, ABORTED):
            raise DecodeFailed(f"the context has no room for {self._batch.count} rows")
        return rc == DECODED

    def _announce(self, rows: int) -> None:
        """Tell the front of a batch that may take long."""
        now_s = time.monotonic()
        if self._announcer.is_due(rows, now_s):
            self._send(Working(self._announcer.expected_s(rows)))
            self._announcer.note_message(now_s)

    def _put_back(self, picked: Seq[EmbeddingText]) -> None:
        """After an abort: these texts come first again."""
        for item in reversed(picked):
            item.job.waiting.appendleft(item.index)
            if item.job not in self._jobs:
                self._jobs.appendleft(item.job)

    def _count(self, picked: Seq[EmbeddingText]) -> Stats:
        self._stats.prompt_tokens += sum(len(item.tokens) for item in picked)
        self._stats.slots_busy = len({item.job.id for item in picked if item.job.waiting})
        self._stats.waiting = sum(len(job.waiting) for job in self._jobs)
        return self._stats

    def _finish(self, job: EmbeddingJob) -> None:
        """Send the vectors of a request that has them all; a NaN fails this request alone."""
        is_finite = np.isfinite(job.vectors).all(axis=1)
        if not is_finite.all():
            fault = RunnerError(NOT_FINITE.format(int(is_finite.argmin())))
            self._send(failed(job.id, fault))
            return
        num_tokens = sum(map(len, job.texts))
        self._send(Embedded(job.id, job.vectors.tobytes(), self._context.width, num_tokens))


def special_tokens(model: EncoderModel) -> tuple[list[int], list[int]]:
    """What the tokenizer of this model puts before and after a text, found with a short one."""
    bare = model.tokenize("a", add_bos=False)
    whole = model.tokenize("a", add_bos=True)
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:at], whole[at + len(bare) :]


def next_texts(jobs: deque[EmbeddingJob], *, rows: int, seqs: int) -> list[EmbeddingText]:
    """Texts for the next batch, one of each job in turn, and at least one however long it is.

    Jobs without waiting texts leave the queue.
    """
    pack: list[EmbeddingText] = []
    num_rows = 0
    while jobs and len(pack) < seqs:
        job = jobs[0]
        num_rows += len(job.texts[job.waiting[0]])
        if pack and num_rows > rows:
            break
        pack.append(EmbeddingText(job, job.waiting.popleft()))
        jobs.popleft()
        if job.waiting:
            jobs.append(job)
    return pack


def pooling_weight(pooling: int, start: int, count: int, length: int) -> float:
    """The weight of the pooled vector of tokens `start` to `start + count` in that of a text of
    `length` tokens."""
    if pooling == LAST:
        return float(start + count == length)
    if pooling == CLS:
        return float(start == 0)
    return count / length
