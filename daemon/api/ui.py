"""How is the page served: a few files beside the code, with a policy that lets in nothing else?

The page itself holds nothing that is secret, so it needs no API key; what it asks for does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from aiohttp import web

FOLDER = "ui"  # of the package `daemon`
PAGE = "index.html"
KINDS: Mapping[str, str] = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
NAMES = (
    *(PAGE, "page.css", "icon.svg"),
    *("page.js", "daemon.js", "format.js", "dom.js", "charts.js"),
    *("models.js", "speculation.js", "requests.js", "store.js", "trial.js", "doctor.js"),
)
UI_PATHS = frozenset({"/ui", *(f"/ui/{name}" for name in NAMES if name != PAGE)})
"""Paths that need no API key."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asks each time, by ETag
}


@cache
def _load(name: str) -> tuple[bytes, str]:
    """A file of the page and its ETag."""
    body = (files(__package__.rpartition(".")[0]) / FOLDER / name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def _respond(request: web.Request, name: str) -> web.Response:
    body, etag = _load(name)
    headers = {**HEADERS, "ETag": etag}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    kind = KINDS[name.rpartition(".")[2]]
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)


async def page(request: web.Request) -> web.Response:
    """GET /ui"""
    return _respond(request, PAGE)


async def file(request: web.Request) -> web.Response:
    """GET /ui/{name}"""
    name = request.match_info["name"]
    if name not in NAMES or name == PAGE:
        raise web.HTTPNotFound
    return _respond(request, name)
