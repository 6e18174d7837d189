"""Which messages of a conversation that is too long are left out."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Conversation, Message, Tool, ToolCall
from outrider.daemon.runner.truncation import droppable, shorten

pytestmark = pytest.mark.unit

CALL = (ToolCall("f", {}),)
LETTERS = {
    "s": Message("system", "s"),
    "d": Message("developer", "d"),
    "u": Message("user", "u"),
    "a": Message("assistant", "a"),
    "c": Message("assistant", tool_calls=CALL),
    "t": Message("tool", "t"),
}


def conversation(letters: str) -> Conversation:
    return Conversation(tuple(LETTERS[letter] for letter in letters), tools=(Tool({}),))


@pytest.mark.parametrize(
    ("letters", "groups"),
    [
        ("u", []),
        ("uau", [[0, 1]]),
        ("suauau", [[1, 2], [3, 4]]),
        ("uactau", [[0, 1, 2, 3, 4]]),
        ("usau", [[0, 2]]),
        ("auau", [[0], [1, 2]]),
        ("uctctt", [[1, 2]]),
        ("uauctcta", [[0, 1], [3, 4], [5, 6]]),
        ("ua", []),
        ("dsu", []),
        ("", []),
        ("aa", [[0]]),
    ],
)
def test_what_may_be_dropped(letters: str, groups: list[list[int]]) -> None:
    assert droppable(conversation(letters).messages) == groups


@pytest.mark.parametrize("length", range(9))
def test_the_fewest_turns_are_dropped(length: int) -> None:
    given = conversation("suauactau")
    kept, num_dropped = shorten(given, lambda c: len(c.messages) <= length)
    lengths = [n for n in (9, 7, 2) if n <= length]
    assert len(kept.messages) == max(lengths, default=2)
    assert num_dropped == 9 - len(kept.messages)
    assert kept.messages[0] == given.messages[0]
    assert kept.messages[-1] == given.messages[-1]
    assert kept.tools == given.tools


def test_a_long_conversation_is_measured_seldom() -> None:
    measured = 0

    def fits(conversation: Conversation) -> bool:
        nonlocal measured
        measured += 1
        return len(conversation.messages) <= 101

    kept, num_dropped = shorten(conversation("ua" * 1000 + "u"), fits)
    assert (len(kept.messages), num_dropped) == (101, 1900)
    assert measured <= 12
