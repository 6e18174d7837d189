"""What is the state of a conversation on the client's side?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .client import Json


@dataclass(frozen=True, slots=True)
class ChatSession:
    """One conversation; the daemon's defaults hold for what is empty or None (CONTRACT 1.3)."""

    model: str
    messages: tuple[Json, ...] = ()
    system: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    format: str | Json | None = None
    think: bool | str | None = None
    keep_alive: str | float | None = None

    def with_message(self, role: str, content: str) -> ChatSession:
        """The session with one more message."""
        return replace(self, messages=(*self.messages, {"role": role, "content": content}))

    def request(self) -> Json:
        """The body of POST /api/chat."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        settings = {
            "options": dict(self.options) or None,
            "format": self.format,
            "think": self.think,
            "keep_alive": self.keep_alive,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        return {"model": self.model, "messages": [*system, *self.messages], **given}
