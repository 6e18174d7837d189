"""What do a runner and its rendering process exchange? One request, one reply."""

from __future__ import annotations

from typing import Protocol

import msgspec

from ...chat.conversation import Conversation, Infill
from ...chat.format import ChatFormat
from ...protocol import LENGTH

UNCONFINED = "unconfined"  # as argument of a rendering process: keep all rights


class RenderRequest(msgspec.Struct, frozen=True):
    """A conversation, or a gap to fill, that becomes the text of a prompt."""

    format: ChatFormat  # with its template
    prompt: Conversation | Infill
    bos: str = ""  # text of the token that begins a text; "": there is none
    eos: str = ""  # text of the token that ends one


class RenderReply(msgspec.Struct, frozen=True):
    """The prompt, or why there is none."""

    text: str = ""
    kind: str = ""  # a class name of errors.py; "": the text is the prompt


class Render(Protocol):
    """Renders a prompt. Raises BadRequest or TemplateFailed."""

    def __call__(self, request: RenderRequest, /) -> str: ...


def encode(message: RenderRequest | RenderReply) -> bytes:
    """One frame: a length and a msgpack body (protocol.py)."""
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body
