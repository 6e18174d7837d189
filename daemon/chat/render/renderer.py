"""How a conversation becomes a prompt: the protocol of renderers."""

from __future__ import annotations

from typing import Protocol

from ...errors import BadRequest
from ..conversation import Conversation, Infill

NO_INFILL = "this model cannot fill a gap: leave out the suffix"


class Renderer(Protocol):
    """Words conversations for one model.

    A prompt ends where the model continues: after the header of the assistant's turn, or, if the
    last message is the assistant's, after its content (prefill). All methods raise BadRequest with
    a text for the user if the conversation cannot be rendered.
    """

    def render(self, conversation: Conversation) -> str:
        """The prompt. It begins with the text of the BOS token only if the format writes one."""
        ...

    def render_infill(self, infill: Infill) -> str:
        """The prompt that has the model fill the gap."""
        ...


class ChatOnly:
    """The half of a Renderer that formats share which have no words for a gap."""

    def render_infill(self, infill: Infill) -> str:
        """Raises BadRequest."""
        raise BadRequest(NO_INFILL)
