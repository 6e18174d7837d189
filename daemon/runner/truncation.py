"""Which old messages are left out of a conversation that is too long (CONTRACT 1.4)?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import msgspec

from ..chat.conversation import Conversation, Message

SYSTEM_ROLES = ("system", "developer")


def shorten(
    conversation: Conversation, fits: Callable[[Conversation], bool]
) -> tuple[Conversation, int]:
    """The conversation without as many of its oldest turns as `fits` demands, and the number of
    messages that this drops.

    A turn is dropped as a whole: a user message with all answers, calls and results up to the
    next one. Of the newest turn, calls are dropped together with their results. System messages,
    the last user message, and the last message with the results of its call always stay. If even
    that does not fit, it is returned anyway.
    """
    if fits(conversation):
        return conversation, 0
    groups = droppable(conversation.messages)
    low, high = 0, len(groups)  # the fewest groups to drop lie in (low, high]
    while low + 1 < high:
        middle = (low + high) // 2
        if fits(_without(conversation, groups[:middle])):
            high = middle
        else:
            low = middle
    dropped = groups[:high]
    return _without(conversation, dropped), sum(map(len, dropped))


def droppable(messages: Sequence[Message]) -> list[list[int]]:
    """The indices of the messages that may be dropped, in groups that are dropped together, the
    oldest first."""
    chat = [i for i, message in enumerate(messages) if message.role not in SYSTEM_ROLES]
    users = [i for i in chat if messages[i].role == "user"]
    last_user = users[-1] if users else -1
    starts = set(users)
    older = _split([i for i in chat if i < last_user], lambda i: i in starts)
    newest = [i for i in chat if i > last_user]
    steps = _split(newest, lambda i: messages[i].role != "tool")
    return older + steps[:-1]


def _split(indices: Sequence[int], begins: Callable[[int], bool]) -> list[list[int]]:
    """Consecutive groups, each of which starts where `begins` is true."""
    numbers: list[int] = []
    for index in indices:
        numbers.append((numbers[-1] if numbers else 0) + begins(index))
    pairs = groupby(zip(numbers, indices, strict=True), key=lambda pair: pair[0])
    return [[index for _, index in group] for _, group in pairs]


def _without(conversation: Conversation, groups: Sequence[Sequence[int]]) -> Conversation:
    dropped = {index for group in groups for index in group}
    kept = tuple(m for i, m in enumerate(conversation.messages) if i not in dropped)
    return msgspec.structs.replace(conversation, messages=kept)
