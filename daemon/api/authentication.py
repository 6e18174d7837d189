"""Whose request is this? By API key, with a bound on the requests that a key runs at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from ..api_keys import KeyRing
from ..errors import TooManyRequests, Unauthorized
from ..request_note import current_note
from .guard import Handler
from .ui import UI_PATHS

# Clients look there whether a daemon is up, before they have a key; both tell versions alone. The
# files of the page hold no secret, and ask for a key.
OPEN_PATHS = {"/", "/api/version", *UI_PATHS}
READING = {"GET", "HEAD"}  # methods that run nothing, and so do not count against a key's bound
NO_KEY = "an API key is needed: send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'"
WRONG_KEY = "the API key is not one of this daemon's"
TOO_MANY = "too many requests at a time with the API key {}: at most {} may run"


class Authenticator:
    """Knows the keys, and counts the running requests of each."""

    def __init__(self, keys: KeyRing, max_parallel: int = 0) -> None:
        self.keys = keys
        """May be replaced while the daemon runs."""
        self.max_parallel = max_parallel
        """Requests that a key may run at a time; 0: any number."""
        self._running: Counter[str] = Counter()

    def identify(self, request: web.Request) -> str:
        """The name of the key of a request; empty: it needs none. Raises Unauthorized."""
        if not self.keys:
            return ""
        secrets = _sent_keys(request)
        names = [name for secret in secrets if (name := self.keys.find(secret))]
        if names:
            return names[0]
        if request.method in READING and request.path in OPEN_PATHS:
            return ""
        raise Unauthorized(WRONG_KEY if secrets else NO_KEY)

    @contextmanager
    def admit(self, key_name: str) -> Iterator[None]:
        """While the block lasts a request of this key runs. Raises TooManyRequests."""
        if self.max_parallel and self._running[key_name] >= self.max_parallel:
            raise TooManyRequests(TOO_MANY.format(key_name, self.max_parallel))
        self._running[key_name] += 1
        try:
            yield
        finally:
            self._running[key_name] -= 1
            if not self._running[key_name]:
                del self._running[key_name]


def build_authentication(
    authenticator: Authenticator,
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that lets in the requests with a key, if there are keys."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = authenticator.identify(request)
        if note := current_note():
            note.key_name = name
        if not name or request.method in READING:
            return await handler(request)
        with authenticator.admit(name):
            return await handler(request)

    return authenticate


def _sent_keys(request: web.Request) -> list[str]:
    """What the client sent as keys; some send the same one in both headers."""
    sent = request.headers.getall("X-Api-Key", [])
    for value in request.headers.getall("Authorization", ()):
        scheme, _, secret = value.partition(" ")
        if scheme.lower() == "bearer":
            sent.append(secret.strip())
    return sent


AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
