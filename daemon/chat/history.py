"""Which parts of earlier messages does a model read again?"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from .conversation import Message

THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)


def without_old_thoughts(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages without the `<think>` text of answers before the last user message.

    Clients without a field for thinking send it back as content (CONTRACT 1.3).
    """
    question = last_user(messages)
    return tuple(
        msgspec.structs.replace(message, content=THOUGHT.sub("", message.content))
        if message.role == "assistant" and i < question
        else message
        for i, message in enumerate(messages)
    )


def last_user(messages: Sequence[Message]) -> int:
    """The index of the last message of the user, -1 if there is none."""
    return max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
