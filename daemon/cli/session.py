"""What a conversation asks of the daemon: the model, how it shall answer, and what was said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .client import Json


@dataclass(frozen=True, slots=True)
class ChatSession:
    """One conversation; what is empty or None is the daemon's choice (CONTRACT 1.3)."""

    model: str
    messages: tuple[Json, ...] = ()
    system: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    format: str | Json | None = None
    think: bool | str | None = None
    keep_alive: str | float | None = None

    def said(self, role: str, content: str) -> ChatSession:
        """The conversation with one more message."""
        return replace(self, messages=(*self.messages, {"role": role, "content": content}))

    def request(self) -> Json:
        """The body of POST /api/chat."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        choices = {
            "options": dict(self.options) or None,
            "format": self.format,
            "think": self.think,
            "keep_alive": self.keep_alive,
        }
        chosen = {name: value for name, value in choices.items() if value is not None}
        return {"model": self.model, "messages": [*system, *self.messages], **chosen}
