"""Thoughts in the content of earlier answers."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Message
from outrider.daemon.chat.history import without_old_thoughts

pytestmark = pytest.mark.unit

THOUGHT = "<think>\nhm\n</think>\n\nyes"


def test_thoughts_before_the_last_user_message_are_dropped() -> None:
    given = (
        Message("user", THOUGHT),
        Message("assistant", THOUGHT),
        Message("user", "and?"),
        Message("assistant", THOUGHT),
    )
    kept = [message.content for message in without_old_thoughts(given)]
    assert kept == [THOUGHT, "yes", "and?", THOUGHT]


@pytest.mark.parametrize("text", ["<think>open", "no", "</think>x", "a<think>"])
def test_other_text_stays(text: str) -> None:
    given = (Message("assistant", text), Message("user", "?"))
    assert without_old_thoughts(given) == given
