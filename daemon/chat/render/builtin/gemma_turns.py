"""How the messages of a conversation become the turns of a Gemma model (CONTRACT 8.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ...conversation import Message
from ...history import last_user
from .history import is_continued, results_of


class GemmaWording(Protocol):
    """What differs between the models that call tools in the middle of a turn."""

    @property
    def turn_open(self) -> str:
        """What stands before the role of a turn."""
        ...

    @property
    def turn_end(self) -> str: ...

    @property
    def pending(self) -> str:
        """What follows calls that have no results."""
        ...

    @property
    def resumption(self) -> str:
        """What follows results after which the model goes on."""
        ...

    def model_parts(
        self, message: Message, results: Sequence[Message], content: str, *, is_current: bool
    ) -> Iterator[str]:
        """An assistant's message with the results of its calls and its trimmed content.

        `is_current`: no message of the user follows, so its thought is still of use.
        """
        ...


class GemmaTurns:
    """The turns after the system message.

    Assistant's messages in a row are one turn, whatever tool messages stand between them.
    """

    def __init__(self, messages: Sequence[Message], wording: GemmaWording) -> None:
        self._messages = messages
        self._wording = wording
        self._last_user = last_user(messages)

    def text(self) -> str:
        return "".join(self._turns())

    def go_on(self) -> bool:
        """Whether the model continues the last turn instead of beginning one."""
        index = max((n for n, m in enumerate(self._messages) if m.role != "tool"), default=-1)
        return index >= 0 and self._goes_on(index)

    def _turns(self) -> Iterator[str]:
        wording = self._wording
        previous = ""  # the role of the message before, tool messages aside
        for index, message in enumerate(self._messages):
            if message.role == "tool":
                continue
            if message.role != "assistant":
                content = message.content.strip()
                yield f"{wording.turn_open}{message.role}\n{content}{wording.turn_end}"
            else:
                yield "" if previous == "assistant" else f"{wording.turn_open}model\n"
                yield from self._model_turn(index)
            previous = message.role

    def _model_turn(self, index: int) -> Iterator[str]:
        message = self._messages[index]
        results = results_of(self._messages, index)
        content = (
            message.content.lstrip()
            if is_continued(self._messages, index)
            else message.content.strip()
        )
        is_current = index > self._last_user
        yield from self._wording.model_parts(message, results, content, is_current=is_current)
        if message.tool_calls and not results:
            yield self._wording.pending
        elif self._goes_on(index):
            yield self._wording.resumption if results else ""
        elif self._next_role(index) != "assistant":
            yield self._wording.turn_end

    def _goes_on(self, index: int) -> bool:
        """Whether the prompt ends inside the turn of this message."""
        message = self._messages[index]
        if message.role != "assistant" or self._next_role(index):
            return False
        if message.tool_calls:
            return not (results_of(self._messages, index) and message.content.strip())
        return is_continued(self._messages, index)

    def _next_role(self, index: int) -> str:
        """The role of the next message, tool messages aside."""
        return next((m.role for m in self._messages[index + 1 :] if m.role != "tool"), "")
