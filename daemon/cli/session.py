"""What is the state of a conversation on the client's side?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .client import Json

STORED_ROLES = ("system", "user", "assistant")  # of a model's messages (CONTRACT 7.1)


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
    capabilities: tuple[str, ...] | None = None  # of the model; None: unknown
    tools: Sequence[Json] = ()  # definitions as in CONTRACT 1.9

    def with_message(self, role: str, content: str, images: Sequence[str] = ()) -> ChatSession:
        """The session with one more message; images are in base 64."""
        message: Json = {"role": role, "content": content}
        if images:
            message["images"] = list(images)
        return replace(self, messages=(*self.messages, message))

    def with_answer(self, message: Json) -> ChatSession:
        """The session with a message of the model."""
        return replace(self, messages=(*self.messages, message))

    def with_result(self, call: Json, text: str) -> ChatSession:
        """The session with the result of a tool call."""
        name = call["function"]["name"]
        result = {"role": "tool", "content": text, "tool_name": name}
        if call.get("id"):
            result["tool_call_id"] = call["id"]
        return replace(self, messages=(*self.messages, result))

    def request(self) -> Json:
        """The body of POST /api/chat."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        settings = {
            "options": dict(self.options) or None,
            "format": self.format,
            "think": self.think,
            "keep_alive": self.keep_alive,
            "tools": list(self.tools) or None,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        return {"model": self.model, "messages": [*system, *self.messages], **given}

    def as_model(self, name: str) -> Json:
        """The body of POST /api/create for a model that goes on with this session (CONTRACT 7.4).

        A stored model holds texts alone: calls of tools and images are left out.
        """
        said = (message for message in self.messages if message["role"] in STORED_ROLES)
        messages = [{"role": m["role"], "content": m["content"]} for m in said if m["content"]]
        settings = {
            "system": self.system,
            "parameters": dict(self.options),
            "messages": messages,
        }
        given = {key: value for key, value in settings.items() if value}
        return {"model": name, "from": self.model, **given}
