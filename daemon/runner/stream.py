"""How the tokens of one sequence become the deltas that its client gets."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Seq

import numpy as np
from numpy.typing import NDArray

from ..chat.parse.parser import ContentParser, Parsed, Region
from ..errors import RunnerError
from ..protocol import Alternative, Delta, Done, Logprob, SpeculationReport, Started
from .llama.interface import LanguageModel
from .repetition import CHECK_EVERY, CallCounter, is_endless
from .sampling.detokenizer import Detokenizer
from .sampling.sampler import SampledToken, Sampler, score
from .sequence import Sequence

log = logging.getLogger("outrider.runner")


class Stream:
    """One request while it runs: samples its tokens, finds its end, makes its deltas."""

    def __init__(self, sequence: Sequence, model: LanguageModel) -> None:
        self.sequence = sequence
        self._model = model
        self.sampler = Sampler(
            sequence.sampling,
            num_tokens=model.num_tokens,
            suppressed=model.suppressed,
            num_logprobs=sequence.num_logprobs,
        )
        self._text = Detokenizer(sequence.limits.stop)
        self._parser = sequence.parser
        # Every token becomes text at once where the text may end the output (a stop string, calls
        # without end) or change the region; otherwise text is made at a flush.
        has_regions = not isinstance(self._parser, ContentParser)
        self._is_watched = bool(sequence.limits.stop or has_regions)
        self._num_parsed = 0  # of the output tokens
        self._calls = CallCounter()
        self._num_end_tokens = 0  # 1 after the model has ended its output
        self.has_output = False  # whether a delta was made
        self._pending = Parsed()  # not yet sent
        self._fault: BaseException | None = None  # of this request; raised by `finish`
        self._logprobs: list[Logprob] = []
        self._scores: tuple[float, ...] = ()  # of the scored words, at the first token
        self._queued_ns = time.monotonic_ns()
        self._started_ns = 0
        self._first_ns = 0

    def start(self) -> None:
        """Note that the sequence is in a batch; only the first time counts."""
        self._started_ns = self._started_ns or time.monotonic_ns()

    def sample(self, logits: NDArray[np.float32]) -> str:
        """Sample a token; the reason why it was the last one, or "".

        After a fault the reason is "error", and `finish` raises the fault: RunnerError if no token
        is possible, InvalidFormat if the grammar is stuck, or whatever a library raised.
        """
        try:
            return "error" if self._fault else self._sample(logits)
        except BaseException as fault:
            self._fault = fault
            return "error"

    def _sample(self, logits: NDArray[np.float32]) -> str:
        seq = self.sequence
        self._first_ns = self._first_ns or time.monotonic_ns()
        if seq.scored and not self._scores:
            self._scores = score(logits, seq.scored)
        constraint = seq.constraint
        region = self._parser.region if constraint else Region.CONTENT
        allowed = constraint.allowed(region) if constraint else None
        sampled = self._pick(logits, allowed)
        if constraint and region is Region.THINKING:  # the answer is still to come
            while self._model.is_end(sampled.token):
                allowed = np.ones(len(logits), np.bool_) if allowed is None else allowed
                allowed[sampled.token] = False
                sampled = self._pick(logits, allowed)
        if self._model.is_end(sampled.token):
            self._num_end_tokens = 1
            return "stop"
        if constraint:
            constraint.accept(sampled.token, region)
        seq.append(sampled.token)
        self._note(sampled)
        if self._is_watched:
            self._parse()
            if self._text.stopped:
                return "stop"
        if seq.reached_max_tokens or (seq.is_full and not seq.limits.shift) or self._is_endless():
            return "length"
        return ""

    def _pick(self, logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None) -> SampledToken:
        seq = self.sequence
        try:
            return self.sampler.sample(logits, seq.tokens, seq.position, allowed)
        except ValueError as error:  # no token is possible
            raise RunnerError(str(error)) from error

    def _is_endless(self) -> bool:
        """Whether the output repeats itself, so that more of it helps nobody."""
        seq = self.sequence
        num_tokens = len(seq.output_tokens)
        if not seq.stops_loops:
            return False
        loops = self._calls.is_endless or (
            num_tokens % CHECK_EVERY == 0 and is_endless(seq.output_tokens)
        )
        if loops:
            log.warning("request %d repeats itself: ended after %d tokens", seq.id, num_tokens)
        return loops

    def num_possible(self, tokens: Seq[int]) -> int:
        """How many of these tokens, from the first on, the constraint allows.

        None after a fault of the constraint, which ends this stream alone.
        """
        constraint = self.sequence.constraint
        try:
            if not constraint:
                return len(tokens)
            return constraint.num_possible(tokens, self._parser.region)
        except BaseException as fault:
            self._fault = fault
            return 0

    def delta(self) -> Delta | None:
        """What is certain since the last delta; None if that is nothing."""
        try:
            self._parse()
        except BaseException as fault:
            self._fault = fault
            return None
        return self._flush(None) if self._pending or self._logprobs else None

    def finish(self, reason: str, speculation_report: SpeculationReport | None) -> Delta:
        """The last delta, with all text that was held back. Raises the fault of this stream."""
        if self._fault:
            raise self._fault
        self._parse()
        self._pending += self._parser.push(self._text.finish()) + self._parser.finish()
        return self._flush(self._done(reason, speculation_report))

    def _parse(self) -> None:
        """Parse the text of the tokens that were sampled since the last call."""
        output_tokens = self.sequence.output_tokens
        markers = self.sequence.marker_tokens
        pieces = (
            self._model.piece(token, special=token in markers)
            for token in output_tokens[self._num_parsed :]
        )
        parsed = self._parser.push(self._text.push(b"".join(pieces)))
        self._calls.add(parsed.tool_calls)
        self._pending += parsed
        self._num_parsed = len(output_tokens)

    def _flush(self, done: Done | None) -> Delta:
        seq = self.sequence
        started = None if self.has_output else Started(seq.num_prompt, seq.num_dropped, seq.num_cut)
        self.has_output = True
        new, logprobs = self._pending, tuple(self._logprobs)
        self._pending, self._logprobs = Parsed(), []
        return Delta(
            id=seq.id,
            text=new.content,
            thinking=new.thinking,
            tool_calls=new.tool_calls,
            logprobs=logprobs,
            done=done,
            started=started,
        )

    def _note(self, sampled: SampledToken) -> None:
        if sampled.logprob is None:
            return
        top = tuple(Alternative(self._model.piece(t.token), t.logprob) for t in sampled.top)
        piece = self._model.piece(sampled.token)
        self._logprobs.append(Logprob(piece, sampled.logprob, top))

    def _done(self, reason: str, speculation_report: SpeculationReport | None) -> Done:
        seq, now_ns = self.sequence, time.monotonic_ns()
        started_ns = self._started_ns or now_ns
        first_ns = self._first_ns or now_ns
        return Done(
            reason=reason,
            prompt_tokens=seq.num_prompt,
            cached_tokens=seq.num_reused,
            queue_ns=started_ns - self._queued_ns,
            prompt_ns=first_ns - started_ns,
            eval_tokens=len(seq.output_tokens) + self._num_end_tokens,
            eval_ns=now_ns - first_ns,
            context=tuple(seq.tokens),
            stop=self._text.stop,
            scores=self._scores,
            speculation_report=speculation_report,
        )
