"""How is a message handed to a Jinja chat template? As a dict, the way the template takes it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from ..conversation import Message, ToolCall

SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")  # Mistral's templates take no other


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """What a template takes. The defaults are those of a template that takes everything."""

    system: bool = True  # a system message in front
    later_system: bool = True  # one anywhere else
    developer: bool = False  # the role "developer" differs from "system"
    typed_roles: frozenset[str] = frozenset()  # whose content is a list of typed parts
    needs_user: bool = False  # refuses a conversation without a user message
    user_first: bool = False  # refuses an assistant message before the first user message
    filler: str | None = None  # the answer that must stand between a result and a user message
    calls: bool = True  # words tool calls
    results: bool = True  # has the role "tool"
    several_calls: bool = True  # words several calls of one turn
    string_arguments: bool = False  # takes arguments as JSON text instead of an object
    null_content: bool = False  # words calls only in a turn whose content is None
    content_apart: bool = False  # words no calls in a turn that has content
    short_ids: bool = False  # takes ids of nine letters and digits only
    needs_ids: bool = False  # refuses a call without an id
    thinking_keys: tuple[str, ...] = ()  # under which an earlier thought is handed over


def word(message: Message, traits: TemplateTraits) -> Iterator[dict[str, object]]:
    """The message as a template takes it: one dict, or two if content and calls exclude each other.

    Keys are those of Hugging Face's chat templates. Empty ones are left out, except for `content`.
    """
    if message.tool_calls and message.content and traits.content_apart:
        yield from word(msgspec.structs.replace(message, tool_calls=()), traits)
        message = msgspec.structs.replace(message, content="", thinking="")
    plain: dict[str, object] = {"role": message.role, "content": _content(message, traits)}
    if message.thinking:
        plain |= dict.fromkeys(traits.thinking_keys, message.thinking)
    if message.tool_calls:
        plain["tool_calls"] = [_call(call, traits) for call in message.tool_calls]
    if message.tool_name:
        plain["name"] = message.tool_name
    if message.tool_call_id:
        plain["tool_call_id"] = _id(message.tool_call_id, traits)
    yield plain


def _content(message: Message, traits: TemplateTraits) -> object:
    if traits.null_content and message.tool_calls and not message.content:
        return None
    if message.role in traits.typed_roles:
        return [{"type": "text", "text": message.content}]
    return message.content


def _call(call: ToolCall, traits: TemplateTraits) -> dict[str, object]:
    arguments: object = call.arguments
    if traits.string_arguments:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    named = {"id": _id(call.id, traits)} if call.id else {}
    return {**named, "type": "function", "function": function}


def _id(text: str, traits: TemplateTraits) -> str:
    """The id of a call; a long one is replaced by its hash, so that call and result agree."""
    if not traits.short_ids or SHORT_ID.fullmatch(text):
        return text
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()[:9]
