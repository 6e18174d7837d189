"""Which requests are let in: Host and Origin checks (CONTRACT 4)."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# All constants below are those of Ollama (CONTRACT 4, CORS rules).
APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")
LOCAL_ORIGINS = (
    *(f"http{s}://{host}" for s in ("", "s") for host in ("localhost", "127.0.0.1", "0.0.0.0")),
    *(f"http{s}://{host}:*" for s in ("", "s") for host in ("localhost", "127.0.0.1", "0.0.0.0")),
    *(f"{scheme}://*" for scheme in APP_SCHEMES),
)
LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
STAINLESS = (  # headers of the OpenAI client, each after "x-stainless-"
    "arch async custom-poll-interval helper-method lang os package-version poll-helper "
    "retry-count runtime runtime-version timeout"
)
ALLOW_HEADERS = (
    *("Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With"),
    "OpenAI-Beta",
    *(f"x-stainless-{name}" for name in STAINLESS.split()),
)
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Allow-Headers": ",".join(ALLOW_HEADERS),
    "Access-Control-Max-Age": "43200",  # seconds
}


class Origins:
    """The origins of the web pages whose scripts may call the daemon."""

    def __init__(self, extra: Iterable[str]) -> None:
        self.replace(extra)

    def replace(self, extra: Iterable[str]) -> None:
        """Let in the pages of this machine, and these further origins instead of earlier ones."""
        patterns = [*LOCAL_ORIGINS, *extra]
        self.is_open = "*" in patterns
        parts = (re.escape(p).replace(r"\*", ".*") for p in patterns)
        self._allowed = re.compile("|".join(parts), re.IGNORECASE)

    def allows(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may call a daemon that it reached as `host` (name:port)."""
        if self.is_open or origin in (f"http://{host}", f"https://{host}"):
            return True
        return bool(self._allowed.fullmatch(origin))


def is_local_host(host: str) -> bool:
    """Whether a Host header names this machine; a rebound DNS name does not."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return False
    if name in ("", "localhost", socket.gethostname().lower()) or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def build_guard(
    origins: Origins, *, check_host: bool
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that refuses foreign hosts and origins with 403 and an empty body."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin", "")
        if check_host and not is_local_host(host):
            return web.Response(status=403)
        if origin and not origins.allows(origin, host):
            return web.Response(status=403)
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=PREFLIGHT if origin else {})
        return await handler(request)

    return guard


def cross_origin(origins: Origins, request: web.Request) -> dict[str, str]:
    """The headers that let an allowed page read the answer."""
    host, origin = request.headers.get("Host", ""), request.headers.get("Origin", "")
    if not origin or not origins.allows(origin, host):
        return {}
    return {"Access-Control-Allow-Origin": "*" if origins.is_open else origin, "Vary": "Origin"}
