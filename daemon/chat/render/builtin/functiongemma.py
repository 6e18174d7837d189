"""How a conversation is worded for FunctionGemma (CONTRACT 8.8)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...conversation import Conversation, Message
from ..renderer import ChatOnly
from .gemma_turns import GemmaTurns
from .gemma_values import GemmaNotation, tool_of
from .history import split_system
from .nesting import refuses_deep_nesting

NOTATION = GemmaNotation("<escape>")
TURN_OPEN, TURN_END = "<start_of_turn>", "<end_of_turn>\n"
RESPONSE_OPEN = "<start_function_response>"
# The sentence that the model has been trained to see before declarations.
TRIGGER = "You are a model that can do function calling with the following functions"


class FunctionGemmaRenderer(ChatOnly):
    """A Renderer of FunctionGemma. It writes the BOS token itself."""

    @refuses_deep_nesting
    def render(self, conversation: Conversation) -> str:
        system, messages = split_system(conversation.messages)
        turns = GemmaTurns(messages, _FunctionGemmaWording())
        header = "" if turns.go_on() else f"{TURN_OPEN}model\n"
        developer = _developer_turn((system or "").strip(), conversation)
        return f"<bos>{developer}{turns.text()}{header}"


@dataclass(frozen=True, slots=True)
class _FunctionGemmaWording:
    turn_open: str = TURN_OPEN
    turn_end: str = TURN_END
    pending: str = RESPONSE_OPEN
    resumption: str = ""

    def model_parts(
        self, message: Message, results: Sequence[Message], content: str, *, is_current: bool
    ) -> Iterator[str]:
        yield content
        for call in message.tool_calls:
            yield f"<start_function_call>{NOTATION.call(call)}<end_function_call>"
        for result in results:
            name = tool_of(result, message.tool_calls)
            pairs = NOTATION.pairs(_fields(result.content))
            yield f"{RESPONSE_OPEN}response:{name}{{{pairs}}}<end_function_response>"


def _developer_turn(system: str, conversation: Conversation) -> str:
    if not system and not conversation.tools:
        return ""
    if conversation.tools and TRIGGER not in system:
        system = f"{system}\n{TRIGGER}" if system else TRIGGER
    tools = "".join(
        f"<start_function_declaration>{NOTATION.declaration(tool)}<end_function_declaration>"
        for tool in conversation.tools
    )
    return f"{TURN_OPEN}developer\n{system}{tools}{TURN_END}"


def _fields(content: str) -> dict[str, object]:
    """A tool's result; the model knows objects, so another text becomes the field `value`."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"value": content}
