"""What does one text cost? Times and tokens, for the metrics and the log line of its request."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

from ..errors import RenderingKilled
from ..metrics.request_metrics import CANCEL, ERROR, RequestMetrics
from ..protocol import Done
from ..request_note import Ending, current_note
from .recent import current_record

NS = 1e-9  # seconds


class CompletionMeter:
    """Measures while its block lasts; however that ends, the text is counted once."""

    def __init__(
        self, metrics: RequestMetrics, model: str, start_ns: int, *, makes_text: bool
    ) -> None:
        """`start_ns`: of `time.monotonic_ns`, when the request arrived. What makes no text, such as
        a mere load, is counted only where its template had to be stopped."""
        self._requests = metrics.of(model)
        self._note, self._record = current_note(), current_record()
        self._record.model, self._record.expects_text = model, makes_text
        self._start_ns = start_ns
        self._loaded_ns = start_ns
        self._makes_text = makes_text
        self._has_output = False
        if self._note:
            self._note.model = model

    def __enter__(self) -> Self:
        return self

    def note_loaded(self) -> int:
        """The model is ready; nanoseconds since the request arrived."""
        self._loaded_ns = time.monotonic_ns()
        return self._loaded_ns - self._start_ns

    def note_output(self) -> None:
        """There is output; only the first time counts."""
        if self._has_output:
            return
        self._record.note_text()
        self._has_output = True
        first_s = (time.monotonic_ns() - self._start_ns) * NS
        self._requests.first_s.observe(first_s)
        if self._note and self._note.first_output_s is None:
            self._note.first_output_s = first_s

    def finish(self, done: Done) -> int:
        """The text is complete; nanoseconds since the request arrived."""
        end_ns = time.monotonic_ns()
        took_ns = end_ns - self._start_ns
        self._record.done = done
        self._makes_text = False  # so it is counted
        self._requests.finish(done, took_ns * NS)
        if self._note:
            self._note.add_tokens(done.prompt_tokens, done.cached_tokens, done.eval_tokens)
            times = (done.queue_ns, done.prompt_ns, done.eval_ns)
            self._note.add_ending(
                Ending(done.reason, self._start_ns, self._loaded_ns, end_ns, *times)
            )
        return took_ns

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if isinstance(error, RenderingKilled):
            self._requests.killed += 1
        if error is None or not self._makes_text:
            return
        has_left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        self._requests.endings[CANCEL if has_left else ERROR] += 1
        if self._note:
            reason = CANCEL if has_left else ERROR
            now_ns = time.monotonic_ns()
            self._note.add_ending(Ending(reason, self._start_ns, self._loaded_ns, now_ns))
