"""How does every answer tell what is not as its user wants it: the header `Outrider-Warning`?"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing

from aiohttp import web

from .completion import Events, Loaded

WARNING = "Outrider-Warning"  # absent if there is nothing to tell
SEPARATOR = "; "
MAX_CHARACTERS = 1024  # of the value; proxies limit all headers together, some to 4 KiB
ELLIPSIS = "..."
NOTED = web.RequestKey("warnings", tuple[str, ...])  # of a request, each sentence once


async def watch(request: web.Request, events: Events) -> Events:
    """The same events; the warnings of the model are noted for the headers of the answer."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Loaded):
                note(request, event.warnings)
            yield event


def note(request: web.Request, warnings: Iterable[str]) -> None:
    """Keep these sentences for the headers of the answer to this request."""
    request[NOTED] = tuple(dict.fromkeys((*request.get(NOTED, ()), *warnings)))


def warning_header(request: web.Request) -> dict[str, str]:
    """The header, once the model is loaded; empty without warnings."""
    value = SEPARATOR.join(map(to_header, request.get(NOTED, ())))
    if len(value) > MAX_CHARACTERS:
        value = value[: MAX_CHARACTERS - len(ELLIPSIS)].rstrip() + ELLIPSIS
    return {WARNING: value} if value else {}


def to_header(text: str) -> str:
    """One line of visible ASCII; what is neither becomes "?" (RFC 9110, 5.5)."""
    line = " ".join(text.split())
    return "".join(c if " " <= c <= "~" else "?" for c in line)
