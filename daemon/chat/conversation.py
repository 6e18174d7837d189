"""What a conversation is made of: messages, tool calls, and how much the model may think."""

from __future__ import annotations

import msgspec


class ToolCall(msgspec.Struct, frozen=True):
    """A call that a model asked for."""

    name: str
    arguments: dict[str, object]
    id: str = ""


class Tool(msgspec.Struct, frozen=True):
    """A tool that the model may call, as the client described it."""

    definition: dict[str, object]  # {"type": "function", "function": {...}}, kept whole


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat, as a template sees it."""

    role: str
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


class Conversation(msgspec.Struct, frozen=True, tag=True):
    """A prompt that the model's template turns into text."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    think: bool | str | None = None


class RawPrompt(msgspec.Struct, frozen=True, tag=True):
    """A prompt that reaches the tokenizer as it is."""

    text: str
