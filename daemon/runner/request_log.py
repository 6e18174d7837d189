"""Which request is prepared, and how long may that take?

The log names the one that was tokenized last, should native code end the process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..chat.conversation import Conversation, Infill
from ..protocol import Embed, Submit

LONG_CHARACTERS = 4096  # longer texts need a larger stack in llama.cpp (llama/model.py)
# What the front is told of a preparation: a template that hangs is stopped after a few seconds of a
# core, a grammar after ten, and a text of 4 million characters is tokenized within some ten (a core
# of today); the front waits ten times as long (runners/watchdog.py).
PREPARATION_S = 10.0
CHARACTER_S = 1e-5

log = logging.getLogger("outrider.runner")


@contextmanager
def logged(request: Submit | Embed) -> Iterator[None]:
    """Logs the begin and the end of a block that tokenizes; a long request at a higher level."""
    size = _num_characters(request)
    level = logging.INFO if size > LONG_CHARACTERS else logging.DEBUG
    log.log(level, "request %d: tokenizing %d characters", request.id, size)
    yield
    log.log(level, "request %d: tokenized", request.id)


def expected_preparation_s(request: Submit | Embed) -> float:
    """Seconds from the receipt of a request to its first step, beside the wait for others."""
    schema = len(request.schema) if isinstance(request, Submit) else 0
    return PREPARATION_S + CHARACTER_S * (_num_characters(request) + schema)


def _num_characters(request: Submit | Embed) -> int:
    """Characters of all texts that the client sent."""
    if isinstance(request, Embed):
        return sum(map(len, request.texts))
    prompt = request.prompt
    if isinstance(prompt, Conversation):
        return sum(len(message.content) for message in prompt.messages)
    if isinstance(prompt, Infill):
        return len(prompt.prompt) + len(prompt.suffix)
    return len(prompt.text)
