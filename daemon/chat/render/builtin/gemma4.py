"""How a conversation is worded for Gemma 4 (CONTRACT 8.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ....errors import BadRequest
from ...conversation import Conversation, Infill, Message
from .gemma_values import GemmaNotation, results_after, tool_of

GEMMA4 = GemmaNotation('<|"|>')
CHANNEL_CLOSE = "<channel|>"
THOUGHT = "<|channel>thought\n"
TURN_END = "<turn|>\n"
MODEL_TURN = "<|turn>model\n"
SYSTEM_ROLES = ("system", "developer")
# A block that is not closed reaches to the end of the text.
CHANNEL_BLOCK = re.compile(r"<\|channel>.*?(?:<channel\|>|\Z)|<channel\|>", re.DOTALL)


class Gemma4Renderer:
    """A Renderer of Gemma 4. It writes the BOS token itself."""

    def __init__(self, *, large: bool) -> None:
        """`large`: Gemma 4 of 12B and more, which needs an empty thought in order not to think."""
        self._no_thought = f"{THOUGHT}{CHANNEL_CLOSE}" if large else ""

    def render(self, conversation: Conversation) -> str:
        messages = conversation.messages
        system = messages[0] if messages and messages[0].role in SYSTEM_ROLES else None
        turns = _Gemma4Turns(messages[1:] if system else messages, thinks=bool(conversation.think))
        header = "" if turns.go_on() else MODEL_TURN
        if header and not conversation.think:
            header += self._no_thought
        return f"<bos>{_system_turn(system, conversation)}{''.join(turns.all())}{header}"

    def render_infill(self, infill: Infill) -> str:
        raise BadRequest("Gemma 4 does not support insert")


class _Gemma4Turns:
    """The turns after the system message."""

    def __init__(self, messages: Sequence[Message], *, thinks: bool) -> None:
        self._messages = messages
        self._thinks = thinks

    def all(self) -> Iterator[str]:
        previous = ""  # the role of the message before, tool messages aside
        for index, message in enumerate(self._messages):
            if message.role == "tool":
                continue
            if message.role != "assistant":
                yield f"<|turn>{message.role}\n{message.content.strip()}{TURN_END}"
            else:
                yield "" if previous == "assistant" else MODEL_TURN
                yield from self._model_parts(index)
                yield self._ending(index)
            previous = message.role

    def go_on(self) -> bool:
        """Whether the model continues the last turn instead of beginning one."""
        index = max((n for n, m in enumerate(self._messages) if m.role != "tool"), default=-1)
        return index >= 0 and self._goes_on(index)

    def _model_parts(self, index: int) -> Iterator[str]:
        message = self._messages[index]
        if message.thinking and not any(m.role == "user" for m in self._messages[index:]):
            yield f"{THOUGHT}{message.thinking}\n{CHANNEL_CLOSE}"
        for call in message.tool_calls:
            yield f"<|tool_call>{GEMMA4.call(call)}<tool_call|>"
        for result in results_after(self._messages, index):
            name = tool_of(result, message.tool_calls)
            value = GEMMA4.string(result.content)
            yield f"<|tool_response>response:{name}{{value:{value}}}<tool_response|>"
        content = CHANNEL_BLOCK.sub("", message.content).lstrip()
        yield content if self._is_prefill(index) else content.rstrip()

    def _ending(self, index: int) -> str:
        """What follows the content of an assistant's message."""
        results = results_after(self._messages, index)
        if self._messages[index].tool_calls and not results:
            return "<|tool_response>"
        if self._goes_on(index):
            return THOUGHT if results and self._thinks else ""
        return "" if self._next_role(index) == "assistant" else TURN_END

    def _goes_on(self, index: int) -> bool:
        """Whether the prompt ends inside the turn of this message."""
        message = self._messages[index]
        if message.role != "assistant" or self._next_role(index):
            return False
        if message.tool_calls:
            return not (results_after(self._messages, index) and message.content.strip())
        return self._is_prefill(index)

    def _is_prefill(self, index: int) -> bool:
        return index == len(self._messages) - 1 and not self._messages[index].tool_calls

    def _next_role(self, index: int) -> str:
        """The role of the next message, tool messages aside."""
        return next((m.role for m in self._messages[index + 1 :] if m.role != "tool"), "")


def _system_turn(system: Message | None, conversation: Conversation) -> str:
    if system is None and not conversation.tools and not conversation.think:
        return ""
    think = "<|think|>\n" if conversation.think else ""
    text = system.content.strip() if system else ""
    tools = "".join(f"<|tool>{GEMMA4.declaration(tool)}<tool|>" for tool in conversation.tools)
    return f"<|turn>system\n{think}{text}{tools}{TURN_END}"
