"""What all dialects check and fill in alike before they have a `Completion`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..chat.conversation import Conversation, Message, Tool
from ..errors import InvalidFormat, Unsupported
from ..runners.model_info import ModelInfo

ANY_OBJECT = '{"type":"object"}'


def missing_capability(
    info: ModelInfo, *, think: bool | str | None, suffix: str = "", tools: bool = False
) -> str | None:
    """The first capability that a request needs and the model lacks (CONTRACT 1.2 and 1.3)."""
    needed = {"thinking": think, "completion": True, "insert": suffix, "tools": tools}
    return next(
        (name for name, is_needed in needed.items() if is_needed and not info.can(name)), None
    )


def refuse_images(has_images: bool) -> None:
    """Raises Unsupported rather than answer without having seen the images."""
    if has_images:
        raise Unsupported("images are not supported yet; leave them out")


def answer_schema(answer_format: str | Mapping[str, object]) -> str:
    """The JSON schema behind "json" or a schema object; "" if the format is empty.

    Raises InvalidFormat for any other text (CONTRACT 1.4).
    """
    if not isinstance(answer_format, str):
        return json.dumps(answer_format)
    if answer_format == "json":
        return ANY_OBJECT
    if answer_format:
        given = json.dumps(json.dumps(answer_format))
        raise InvalidFormat(
            f'invalid format: {given}; expected "json" or a valid JSON Schema object'
        )
    return ""


def build_conversation(
    info: ModelInfo,
    messages: tuple[Message, ...],
    *,
    think: bool | str | None,
    system: str = "",
    tools: tuple[Tool, ...] = (),
    with_stored: bool = True,
) -> Conversation:
    """The model's stored messages, then those of the request (CONTRACT 1.2 and 1.3).

    A system text (`system`, else the model's own) goes first unless the messages begin with one.
    A model that can think does so unless the request says otherwise (CONTRACT 1.7).
    """
    if with_stored:
        stored = info.model.messages
        facts = ((str(m.get("role", "")), str(m.get("content", ""))) for m in stored)
        messages = (*(Message(role, content) for role, content in facts), *messages)
    system = system or info.model.system
    if system and messages[0].role != "system":
        messages = (Message("system", system), *messages)
    if think is None and info.can("thinking"):
        think = True
    return Conversation(messages, tools, think)
