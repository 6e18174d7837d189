"""How is a conversation worded for a model without a chat template?"""

from __future__ import annotations

from ..conversation import Conversation
from .renderer import ChatOnly


class PlainTemplate(ChatOnly):
    """A Renderer that joins the contents with blank lines; a base model continues the last one."""

    def render(self, conversation: Conversation) -> str:
        """The prompt. A base model knows neither roles nor tools nor thinking."""
        return "\n\n".join(message.content for message in conversation.messages)
