"""How do OpenAI's messages, tools and reasoning effort become those of a conversation?

See CONTRACT 2.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from ...chat.conversation import REQUIRED, Message, Tool, ToolCall
from ...errors import BadRequest
from ..request import read_tools
from .content import read_texts
from .wire import ChatMessage, ChatToolCall

TOOL = "tool"  # the role of a message with a tool's result
EFFORTS: Mapping[str, bool | str | None] = {
    "": None,
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}


def think_of(effort: str) -> bool | str | None:
    """The wish for thinking behind an effort. Raises BadRequest for an unknown one."""
    if effort not in EFFORTS:
        raise BadRequest(
            f'invalid reasoning value: "{effort}" (must be "minimal", "low", "medium", "high", '
            '"xhigh", "ultra", "max", or "none")'
        )
    return EFFORTS[effort]


def read_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """The messages of a conversation: one for each text, since parts become messages of their own.

    A template that wants neighbours of one role merged gets them merged (CONTRACT 8.2). Raises
    BadRequest with the texts of the contract, and Unsupported for images and audio.
    """
    names = {call.id: call.function.name for m in messages for call in m.tool_calls}
    return tuple(read for message in messages for read in _read(message, names))


def offered_tools(
    definitions: Sequence[Mapping[str, object]], choice: str | Mapping[str, object]
) -> tuple[tuple[Tool, ...], str]:
    """The tools that the model is shown, and Conversation.tool_choice.

    The choice "none" shows none. Raises BadRequest for a choice that cannot be followed.
    """
    tools, demanded = read_tools(definitions), _demanded(choice)
    if choice == "none":
        return (), ""
    if demanded and not tools:
        raise BadRequest("tool_choice demands a call, but the request has no tools")
    if demanded not in ("", REQUIRED) and demanded not in map(name_of, tools):
        raise BadRequest(f'tool_choice: no tool is named "{demanded}"')
    return tools, demanded


def name_of(tool: Tool) -> str:
    """The name of a tool that `read_tools` has checked."""
    function = tool.definition["function"]
    assert isinstance(function, Mapping)
    return str(function["name"])


def read_arguments(arguments: str | dict[str, object]) -> dict[str, object]:
    """The arguments of a call in the history; no text means none.

    Raises BadRequest for anything but a JSON object.
    """
    if isinstance(arguments, dict):
        return arguments
    try:
        value: object = json.loads(arguments or "{}")
    except ValueError:
        raise BadRequest("invalid tool call arguments") from None
    if not isinstance(value, dict | None):
        raise BadRequest("invalid tool call arguments")
    return value or {}


def _read(message: ChatMessage, names: Mapping[str, str]) -> Iterator[Message]:
    """The messages of one. What is not text belongs to the last of them.

    The texts of a tool's result stay one message, because each message is one result.
    """
    texts = read_texts(message.content, is_optional=bool(message.tool_calls))
    role = message.role.lower()
    if role == TOOL:
        texts = ("\n\n".join(texts),)
    for text in texts[:-1]:
        yield Message(role, text)
    tool_name = message.name or names.get(message.tool_call_id, "") if role == TOOL else ""
    yield Message(
        role,
        texts[-1],
        thinking=message.reasoning or message.reasoning_content,
        tool_calls=tuple(map(_read_call, message.tool_calls)),
        tool_name=tool_name,
        tool_call_id=message.tool_call_id,
    )


def _read_call(call: ChatToolCall) -> ToolCall:
    return ToolCall(call.function.name, read_arguments(call.function.arguments), call.id)


def _demanded(choice: str | Mapping[str, object]) -> str:
    """REQUIRED, the name of a function, or "" if the model decides."""
    if choice in ("", "none", "auto"):
        return ""
    if choice == REQUIRED:
        return REQUIRED
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if isinstance(name, str) and name:
        return name
    raise BadRequest(
        'invalid tool_choice: it must be "none", "auto", "required" or '
        '{"type":"function","function":{"name":...}}'
    )
