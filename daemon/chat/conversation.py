"""What a conversation is made of: messages, tools, tool calls, and the wish for thinking."""

from __future__ import annotations

import msgspec

REQUIRED = "required"  # the tool choice that demands a call of any tool


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a tool, as a model has written it."""

    name: str
    arguments: dict[str, object]
    id: str = ""
    index: int = 0  # place among the calls of its turn, from 0


class Tool(msgspec.Struct, frozen=True):
    """A tool that the model may call."""

    definition: dict[str, object]  # the client's {"type": "function", "function": {...}}, unchanged


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat. Empty fields are left out when a template renders it."""

    role: str
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""  # of the tool whose result this is
    tool_call_id: str = ""  # of the call whose result this is


class Conversation(msgspec.Struct, frozen=True, tag=True):
    """A prompt that the model's template turns into text."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    think: bool | str | None = None  # or a level (CONTRACT 1.7); None: the template decides
    tool_choice: str = ""  # "": the model decides; REQUIRED: some call; else: a call of this tool


class Infill(msgspec.Struct, frozen=True, tag=True):
    """A gap between two texts, which the model fills (CONTRACT 8.2, `.Suffix`)."""

    prompt: str
    suffix: str
    think: bool | str | None = None


class RawPrompt(msgspec.Struct, frozen=True, tag=True):
    """A prompt that is tokenized as it is, without a template."""

    text: str


Prompt = Conversation | Infill | RawPrompt
