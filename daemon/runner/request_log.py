"""Which request was tokenized last? The log names it, should native code end the process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..chat.conversation import Conversation, Infill
from ..protocol import Embed, Submit

LONG_CHARACTERS = 4096  # longer texts need a larger stack in llama.cpp (llama/model.py)

log = logging.getLogger("outrider.runner")


@contextmanager
def logged(request: Submit | Embed) -> Iterator[None]:
    """Logs the begin and the end of a block that tokenizes; a long request at a higher level."""
    size = num_characters(request)
    level = logging.INFO if size > LONG_CHARACTERS else logging.DEBUG
    log.log(level, "request %d: tokenizing %d characters", request.id, size)
    yield
    log.log(level, "request %d: tokenized", request.id)


def num_characters(request: Submit | Embed) -> int:
    """Characters of all texts that the client sent."""
    if isinstance(request, Embed):
        return sum(map(len, request.texts))
    prompt = request.prompt
    if isinstance(prompt, Conversation):
        return sum(len(message.content) for message in prompt.messages)
    if isinstance(prompt, Infill):
        return len(prompt.prompt) + len(prompt.suffix)
    return len(prompt.text)
