"""How a conversation is worded for Gemma 4 (CONTRACT 8.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...conversation import Conversation, Message
from ..renderer import ChatOnly
from .gemma_turns import GemmaTurns
from .gemma_values import GemmaNotation, tool_of
from .history import split_system
from .nesting import refuses_deep_nesting

NOTATION = GemmaNotation('<|"|>')
CHANNEL_CLOSE = "<channel|>"
THOUGHT = "<|channel>thought\n"
TURN_OPEN, TURN_END = "<|turn>", "<turn|>\n"
# A block that is not closed reaches to the end of the text.
CHANNEL_BLOCK = re.compile(r"<\|channel>.*?(?:<channel\|>|\Z)|<channel\|>", re.DOTALL)


class Gemma4Renderer(ChatOnly):
    """A Renderer of Gemma 4. It writes the BOS token itself."""

    def __init__(self, *, large: bool) -> None:
        """`large`: Gemma 4 of 12B and more, which needs an empty thought in order not to think."""
        self._no_thought = f"{THOUGHT}{CHANNEL_CLOSE}" if large else ""

    @refuses_deep_nesting
    def render(self, conversation: Conversation) -> str:
        system, messages = split_system(conversation.messages)
        wording = _Gemma4Wording(resumption=THOUGHT if conversation.think else "")
        turns = GemmaTurns(messages, wording)
        header = "" if turns.go_on() else f"{TURN_OPEN}model\n"
        if header and not conversation.think:
            header += self._no_thought
        return f"<bos>{_system_turn(system, conversation)}{turns.text()}{header}"


@dataclass(frozen=True, slots=True)
class _Gemma4Wording:
    resumption: str
    turn_open: str = TURN_OPEN
    turn_end: str = TURN_END
    pending: str = "<|tool_response>"

    def model_parts(
        self, message: Message, results: Sequence[Message], content: str, *, is_current: bool
    ) -> Iterator[str]:
        if message.thinking and is_current:
            yield f"{THOUGHT}{message.thinking}\n{CHANNEL_CLOSE}"
        for call in message.tool_calls:
            yield f"<|tool_call>{NOTATION.call(call)}<tool_call|>"
        for result in results:
            name = tool_of(result, message.tool_calls)
            value = NOTATION.string(result.content)
            yield f"<|tool_response>response:{name}{{value:{value}}}<tool_response|>"
        yield _without_channels(content)


def _without_channels(content: str) -> str:
    """The content without thoughts that a client has left in it; blanks at its end stay."""
    kept = content.rstrip()
    return CHANNEL_BLOCK.sub("", kept).strip() + content[len(kept) :]


def _system_turn(system: str | None, conversation: Conversation) -> str:
    if system is None and not conversation.tools and not conversation.think:
        return ""
    think = "<|think|>\n" if conversation.think else ""
    text = (system or "").strip()
    tools = "".join(f"<|tool>{NOTATION.declaration(tool)}<tool|>" for tool in conversation.tools)
    return f"{TURN_OPEN}system\n{think}{text}{tools}{TURN_END}"
