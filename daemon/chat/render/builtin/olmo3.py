"""The prompts of OLMo 3: ChatML with calls in the syntax of Python (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...conversation import Conversation, Message, Tool, ToolCall
from ..renderer import ChatOnly
from .chatml import GENERATION, turn
from .history import ASSISTANT, TOOL, is_continued, to_json

SYSTEM = "system"
RESULT_ROLE = "environment"
_NO_TOOLS = " You do not currently have access to any functions. <functions></functions>"
_TOOLS = (
    " You are provided with function signatures within <functions></functions> XML tags. You may "
    "call one or more functions to assist with the user query. Output any function calls within "
    "<function_calls></function_calls> XML tags. Do not make assumptions about what values to plug "
    "into functions."
)


@dataclass(frozen=True, slots=True)
class Olmo3Variant:
    """What differs between the models."""

    identity: str  # the system prompt if the client sends none
    hints_at_tools: bool = True  # whether that prompt says which functions there are
    hints_in_system: bool = False  # whether a client's does, if there are none
    thinks: bool = False


OLMO3 = Olmo3Variant("You are a helpful function-calling AI assistant.")
OLMO31 = Olmo3Variant(
    "You are Olmo, a helpful function-calling AI assistant built by Ai2. Your date cutoff is "
    "December 2024, and your model weights are available at https://huggingface.co/allenai."
)
OLMO3_THINK = Olmo3Variant(
    "You are Olmo, a helpful AI assistant built by Ai2. Your date cutoff is December 2024, and "
    "your model weights are available at https://huggingface.co/allenai.",
    hints_at_tools=False,
    hints_in_system=True,
    thinks=True,
)
OLMO3_32B_THINK = Olmo3Variant(
    "You are a helpful AI assistant.", hints_at_tools=False, hints_in_system=True, thinks=True
)


class Olmo3Renderer(ChatOnly):
    """A Renderer of one of the models."""

    def __init__(self, variant: Olmo3Variant) -> None:
        self._variant = variant

    def render(self, conversation: Conversation) -> str:
        messages, tools = conversation.messages, conversation.tools
        parts = list(_turns(messages, tools, self._variant))
        if messages and is_continued(messages, len(messages) - 1):
            return "".join(parts)
        return "".join([*parts, GENERATION, "<think>" if self._variant.thinks else ""])


def _turns(
    messages: Sequence[Message], tools: Sequence[Tool], variant: Olmo3Variant
) -> Iterator[str]:
    declared = f"<functions>{to_json([tool.definition for tool in tools])}</functions>"
    if not any(message.role == SYSTEM for message in messages):
        hint = f"{_TOOLS}{declared}" if tools else _NO_TOOLS if variant.hints_at_tools else ""
        yield turn(SYSTEM, f"{variant.identity}{hint}")
    for index, message in enumerate(messages):
        if message.role == SYSTEM:
            hint = declared if tools else _NO_TOOLS if variant.hints_in_system else ""
            yield turn(SYSTEM, f"{message.content}{hint}")
        elif message.role == ASSISTANT:
            continued = is_continued(messages, index)
            thought = _thought(message) if continued and variant.thinks else ""
            content = f"{thought}{message.content}{_calls(message.tool_calls)}"
            yield turn(ASSISTANT, content, continued=continued)
        else:
            role = RESULT_ROLE if message.role == TOOL else message.role
            yield turn(role, message.content)


def _thought(message: Message) -> str:
    return f"<think>{message.thinking}</think>" if message.thinking else ""


def _calls(calls: Sequence[ToolCall]) -> str:
    if not calls:
        return ""
    return f"<function_calls>{chr(10).join(map(_call, calls))}</function_calls>"


def _call(call: ToolCall) -> str:
    """The order of the arguments is the model's own, so that its KV cache can be used again."""
    arguments = ", ".join(f"{name}={to_json(value)}" for name, value in call.arguments.items())
    return f"{call.name}({arguments})"
