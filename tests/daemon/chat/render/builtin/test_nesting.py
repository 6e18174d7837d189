"""Values that are nested too deeply are refused with a text for the user."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Conversation, Message, ToolCall
from outrider.daemon.chat.render.builtin.registry import RENDERERS
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["gemma4", "functiongemma", "harmony"])
def test_deep_arguments_are_refused(name: str) -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    call = Message("assistant", tool_calls=(ToolCall("f", {"x": value}),))
    with pytest.raises(BadRequest, match="nested too deeply"):
        RENDERERS[name]().render(Conversation((Message("user", "Hi"), call)))
