"""How is a conversation worded for a model without a chat template?"""

from __future__ import annotations

from ...errors import BadRequest
from ..conversation import Conversation, Infill


class PlainTemplate:
    """A Renderer that joins the contents with blank lines; a base model continues the last one."""

    def render(self, conversation: Conversation) -> str:
        """The prompt. A base model knows neither roles nor tools nor thinking."""
        return "\n\n".join(message.content for message in conversation.messages)

    def render_infill(self, infill: Infill) -> str:
        """Raises BadRequest: nothing says how this model words a gap."""
        raise BadRequest("this model cannot fill a gap: leave out the suffix")
