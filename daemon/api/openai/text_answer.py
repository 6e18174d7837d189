"""How are the answers of /v1/completions worded? (CONTRACT 2.3)"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from ...protocol import Logprob
from ..completion import Accepted, Answer, Event, Finished, Loaded, Output
from ..streaming import Line, Lines
from .choices import Choices
from .envelope import AnswerEnvelope, debug_info, finish_reason, usage

KIND = "text_completion"
NO_USAGE: Line = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextWording:
    """Words the choices of one request. Thinking is not shown."""

    envelope: AnswerEnvelope
    choices_per_prompt: int
    echoes: Sequence[str] = ()  # the prompt of each choice, if it is to be repeated
    shows_usage: bool = False  # in a stream; one object always has it
    _offsets: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def whole(self, answers: Sequence[Answer]) -> Line:
        ends = [answer.end for answer in answers]
        choices = [self._whole_choice(index, answer) for index, answer in enumerate(answers)]
        body = self.envelope.wrap(KIND, choices)
        return body | {"usage": usage(ends, self.choices_per_prompt)} | debug_info(ends)

    async def chunks(self, choices: Choices) -> Lines:
        ends: dict[int, Event] = {}
        async with aclosing(choices):
            async for index, event in choices:
                ends[index] = event
                for choice in self._choices(index, event):
                    yield self._chunk(choice)
        for index, end in ends.items():
            if isinstance(end, Loaded):  # an empty prompt: there was nothing to generate
                yield self._chunk(self._choice(index, "", end=end))
        if self.shows_usage:
            counts = usage([ends[index] for index in sorted(ends)], self.choices_per_prompt)
            yield self.envelope.wrap(KIND, ()) | {"usage": counts}

    def _whole_choice(self, index: int, answer: Answer) -> Line:
        text, logprobs = answer.output.text, answer.output.logprobs
        text = self.echoes[index] + text if self.echoes else text
        return self._choice(index, text, end=answer.end, logprobs=logprobs)

    def _choices(self, index: int, event: Event) -> Iterator[Line]:
        """The choice of a chunk for each event that shows something."""
        match event:
            case Accepted() if self.echoes:
                yield self._choice(index, self.echoes[index])
            case Output(text, logprobs=logprobs) if text or logprobs:
                yield self._choice(index, text, logprobs=logprobs)
            case Finished():
                yield self._choice(index, "", end=event)

    def _choice(
        self,
        index: int,
        text: str,
        *,
        end: Event | None = None,
        logprobs: tuple[Logprob, ...] = (),
    ) -> Line:
        reason = finish_reason(end) if end else None
        choice: Line = {"text": text, "index": index, "finish_reason": reason}
        return choice | self._logprobs(index, logprobs) if logprobs else choice

    def _logprobs(self, index: int, entries: tuple[Logprob, ...]) -> Line:
        """The logprobs of all generated tokens, as OpenAI's older route has them.

        An offset counts the characters of the tokens before it. The alternatives of a token
        include the token itself.
        """
        tokens = [_text(entry.piece) for entry in entries]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(token)
        top = [{_text(other.piece): other.logprob for other in entry.top} for entry in entries]
        return {
            "logprobs": {
                "tokens": tokens,
                "token_logprobs": [entry.logprob for entry in entries],
                "top_logprobs": [
                    {token: entry.logprob} | others
                    for token, entry, others in zip(tokens, entries, top, strict=True)
                ],
                "text_offset": offsets,
            }
        }

    def _chunk(self, choice: Line) -> Line:
        body = self.envelope.wrap(KIND, [choice])
        return body | {"usage": NO_USAGE} if self.shows_usage else body


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")
