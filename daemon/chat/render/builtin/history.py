"""What a prompt repeats of a conversation: questions that built-in renderers ask of messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import takewhile

from ...conversation import Message

ASSISTANT, TOOL, USER = "assistant", "tool", "user"
SYSTEM_ROLES = ("system", "developer")
UNKNOWN_TOOL = "unknown"  # the tool of a result that does not say whose it is
_OPEN, _CLOSE = "<think>", "</think>"


def split_system(messages: Sequence[Message]) -> tuple[str | None, Sequence[Message]]:
    """The text of the system message that comes first, if one does, and the other messages."""
    if messages and messages[0].role in SYSTEM_ROLES:
        return messages[0].content, messages[1:]
    return None, messages


def thought_of(message: Message) -> tuple[str, str]:
    """The thought and the content, also if a client left both in the content."""
    if message.thinking or _CLOSE not in message.content:
        return message.thinking, message.content
    thought = message.content.partition(_CLOSE)[0].rpartition(_OPEN)[2]
    return thought.strip("\n"), message.content.rpartition(_CLOSE)[2].lstrip("\n")


def last_query(messages: Sequence[Message]) -> int:
    """The index of the last message that a user wrote, not a tool: thoughts before are left out.

    Without one it is the last message, so that no thought is kept.
    """
    queries = [i for i, m in enumerate(messages) if m.role == USER and not _is_result(m.content)]
    return queries[-1] if queries else len(messages) - 1


def _is_result(content: str) -> bool:
    text = content.strip()
    return text.startswith("<tool_response>") and text.endswith("</tool_response>")


def is_continued(messages: Sequence[Message], index: int) -> bool:
    """Whether the model continues this message: the last one, an answer without calls."""
    message = messages[index]
    return index == len(messages) - 1 and message.role == ASSISTANT and not message.tool_calls


def begins_results(messages: Sequence[Message], index: int) -> bool:
    """Whether the message before is no tool result, so that a turn of results begins."""
    return index == 0 or messages[index - 1].role != TOOL


def ends_results(messages: Sequence[Message], index: int) -> bool:
    """Whether the message after is no tool result."""
    return index == len(messages) - 1 or messages[index + 1].role != TOOL


def results_of(messages: Sequence[Message], index: int) -> list[Message]:
    """The tool results directly after a message that has calls."""
    after = messages[index + 1 :] if messages[index].tool_calls else ()
    return list(takewhile(lambda message: message.role == TOOL, after))


def to_json(value: object) -> str:
    """JSON as the models have seen it in training: with a blank after commas and colons."""
    return json.dumps(value, ensure_ascii=False)


def to_text(value: object) -> str:
    """An argument that is not quoted: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else to_json(value)
