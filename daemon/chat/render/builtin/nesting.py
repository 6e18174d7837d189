"""What if a client's values are nested more deeply than Python recurses?"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from ....errors import BadRequest
from ...conversation import Conversation

Self = TypeVar("Self")


def refuses_deep_nesting(
    render: Callable[[Self, Conversation], str],
) -> Callable[[Self, Conversation], str]:
    """Let a method `render` raise BadRequest for values that are nested too deeply."""

    @wraps(render)
    def refusing(self: Self, conversation: Conversation) -> str:
        try:
            return render(self, conversation)
        except RecursionError as error:
            raise BadRequest(
                "the tools or the arguments of a call are nested too deeply"
            ) from error

    return refusing
