"""What turns the tokens of one sequence into what its client sees."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq

import numpy as np
from numpy.typing import NDArray

from ..parse.thinking import ThinkingParser
from ..protocol import Alternative, Delta, Done, Logprob, Speculated
from .grammar import Grammar
from .llama import Model
from .sampling import Drawn, Sampler
from .sequence import Sequence
from .text import TextStream


class Stream:
    """One request while it runs: draws its tokens, finds its end, words its deltas."""

    def __init__(self, sequence: Sequence, model: Model) -> None:
        self.sequence = sequence
        self._model = model
        self.sampler = Sampler(
            sequence.sampling,
            num_tokens=model.num_tokens,
            suppressed=model.suppressed,
            num_logprobs=sequence.num_logprobs,
        )
        self._text = TextStream(sequence.limits.stop)
        self._thinking = ThinkingParser(opened=sequence.opened) if sequence.thinks else None
        self.has_spoken = False  # some of its text was told
        self._new = ""
        self._logprobs: list[Logprob] = []
        self._queued_ns = time.monotonic_ns()
        self._started_ns = 0
        self._first_ns = 0

    def start(self) -> None:
        """The sequence is in a batch; only the first time counts."""
        self._started_ns = self._started_ns or time.monotonic_ns()

    def draw(self, logits: NDArray[np.float32]) -> str:
        """Draw a token; the reason why it was the last one, or ""."""
        seq = self.sequence
        self._first_ns = self._first_ns or time.monotonic_ns()
        grammar = self._grammar
        allowed = grammar.allowed() if grammar else None
        drawn = self.sampler.draw(logits, seq.tokens, seq.position, allowed)
        if self._model.is_end(drawn.token):
            return "stop"
        if grammar:
            grammar.accept(drawn.token)
        seq.append(drawn.token)
        self._note(drawn)
        self._new += self._text.push(self._model.piece(drawn.token))
        if self._text.stopped:
            return "stop"
        if seq.is_spent or (seq.is_full and not seq.limits.shift):
            return "length"
        return ""

    @property
    def _grammar(self) -> Grammar | None:
        """What binds the next token; a thinking block is free."""
        is_thinking = self._thinking is not None and self._thinking.is_thinking
        return None if is_thinking else self.sequence.grammar

    def num_possible(self, tokens: Seq[int]) -> int:
        """How many of these tokens, from the first on, the grammar lets through."""
        grammar = self._grammar
        return grammar.num_possible(tokens) if grammar else len(tokens)

    def delta(self) -> Delta | None:
        """What is certain since the last delta; None if that is nothing."""
        thinking, text = self._split(last=False)
        if not (text or thinking or self._logprobs):
            return None
        return self._word(text, thinking, None)

    def finish(self, reason: str, speculated: Speculated | None) -> Delta:
        """The last delta, with all that was held back."""
        self._new += self._text.finish()
        thinking, text = self._split(last=True)
        return self._word(text, thinking, self._done(reason, speculated))

    def _split(self, *, last: bool) -> tuple[str, str]:
        new, self._new = self._new, ""
        if self._thinking is None:
            return "", new
        thinking, text = self._thinking.push(new)
        if last:
            held_thinking, held_text = self._thinking.finish()
            thinking, text = thinking + held_thinking, text + held_text
        return thinking, text

    def _word(self, text: str, thinking: str, done: Done | None) -> Delta:
        self.has_spoken = True
        logprobs, self._logprobs = tuple(self._logprobs), []
        return Delta(self.sequence.id, text, thinking, logprobs, done)

    def _note(self, drawn: Drawn) -> None:
        if drawn.logprob is None:
            return
        top = tuple(Alternative(self._model.piece(t.token), t.logprob) for t in drawn.top)
        piece = self._model.piece(drawn.token)
        self._logprobs.append(Logprob(piece, drawn.logprob, top))

    def _done(self, reason: str, speculated: Speculated | None) -> Done:
        seq, now_ns = self.sequence, time.monotonic_ns()
        started_ns = self._started_ns or now_ns
        first_ns = self._first_ns or now_ns
        return Done(
            reason=reason,
            prompt_tokens=seq.num_prompt,
            cached_tokens=seq.num_reused,
            queue_ns=started_ns - self._queued_ns,
            prompt_ns=first_ns - started_ns,
            eval_tokens=len(seq.drawn),
            eval_ns=now_ns - first_ns,
            context=tuple(seq.tokens),
            speculated=speculated,
        )
