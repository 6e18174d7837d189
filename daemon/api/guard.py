"""Which requests are let in: Host and Origin checks (CONTRACT 4)."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from ..authority import Authority, Origin
from ..origin_pattern import OriginPattern

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# All constants below are those of Ollama (CONTRACT 4, CORS rules), with the headers of keys.
APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")
LOCAL_NAMES = ("localhost", "127.0.0.1", "0.0.0.0", "[::1]")  # the last is Outrider's own
LOCAL_ORIGINS = (
    *(f"http{s}://{host}" for s in ("", "s") for host in LOCAL_NAMES),
    *(f"http{s}://{host}:*" for s in ("", "s") for host in LOCAL_NAMES),
    *(f"{scheme}://*" for scheme in APP_SCHEMES),
)
LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
STAINLESS = (  # headers of the OpenAI client, each after "x-stainless-"
    "arch async custom-poll-interval helper-method lang os package-version poll-helper "
    "retry-count runtime runtime-version timeout"
)
ALLOW_HEADERS = (
    *("Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With"),
    *("OpenAI-Beta", "X-Api-Key", "X-Request-Id", "Anthropic-Version", "Anthropic-Beta"),
    *(f"x-stainless-{name}" for name in STAINLESS.split()),
)
AUTHORITY_END = re.compile(r"[/?#]")  # RFC 3986 3.2
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
        entries = [*LOCAL_ORIGINS, *extra]
        self.is_open = "*" in entries
        self._patterns = tuple(OriginPattern.parse(entry) for entry in entries if entry != "*")

    def allows(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may call a daemon that it reached as `host` (name:port)."""
        if self.is_open:
            return True
        page, here = Origin.parse(origin), Authority.parse(host)
        if page is None:
            return False
        if here is not None and page.is_at(here):
            return True
        return any(pattern.fits(page) for pattern in self._patterns)


def is_local_host(host: str) -> bool:
    """Whether a Host header names this machine; a rebound DNS name does not."""
    authority = Authority.parse(host)
    if authority is None:
        return False
    if isinstance(authority.host, str):
        name = authority.host.removesuffix(".")  # of the root of DNS
        here = ("", "localhost", socket.gethostname().lower())
        return name in here or name.endswith(LOCAL_SUFFIXES)
    address = authority.host
    return address.is_loopback or address.is_private or address.is_unspecified


def reached_host(request: web.Request) -> str:
    """The host and port under which the client reached the daemon.

    A request target in absolute form goes before the Host header (RFC 9112 3.2.2).
    """
    target = request.raw_path
    if target.startswith("/") or "://" not in target:
        return request.headers.get("Host", "")
    return AUTHORITY_END.split(target.partition("://")[2], maxsplit=1)[0]


def sent_origin(request: web.Request) -> str:
    """The Origin header; several of them are joined, and are then none of one page."""
    return ", ".join(request.headers.getall("Origin", ()))


def build_guard(
    origins: Origins, *, check_host: bool
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that refuses foreign hosts and origins with 403 and an empty body."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        host, origin = reached_host(request), sent_origin(request)
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
    host, origin = reached_host(request), sent_origin(request)
    if not origin or not origins.allows(origin, host):
        return {}
    return {"Access-Control-Allow-Origin": "*" if origins.is_open else origin, "Vary": "Origin"}
