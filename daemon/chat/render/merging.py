"""How do neighbouring messages of one role become one (CONTRACT 8.2)?"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from ..conversation import Message


def merge(messages: Iterable[Message], *, after_calls: bool = False) -> tuple[Message, ...]:
    """The messages with neighbours of one role joined by a blank line.

    Results of tools stay apart. `after_calls`: whether a text that follows tool calls may stand in
    one message with them, where a template writes it before them; other calls always may.
    """
    merged: list[Message] = []
    for message in messages:
        if merged and _can_merge(merged[-1], message, after_calls=after_calls):
            merged[-1] = _joined(merged[-1], message)
        else:
            merged.append(message)
    return tuple(merged)


def paragraphs(*texts: str) -> str:
    """The texts that are not empty, with blank lines between them."""
    return "\n\n".join(text for text in texts if text)


def _can_merge(first: Message, second: Message, *, after_calls: bool) -> bool:
    if first.role != second.role or first.role == "tool":
        return False
    only_calls = bool(second.tool_calls and not second.content)
    return after_calls or not first.tool_calls or only_calls


def _joined(first: Message, second: Message) -> Message:
    return replace(
        first,
        content=paragraphs(first.content, second.content),
        thinking=paragraphs(first.thinking, second.thinking),
        tool_calls=first.tool_calls + second.tool_calls,
    )
