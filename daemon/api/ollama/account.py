"""How a daemon without a cloud answers the routes about accounts and the cloud (CONTRACT 1.19)."""

from __future__ import annotations

from aiohttp import web

from ...errors import CloudDisabled

NO_ACCOUNT = "account unavailable"
NOT_SIGNED_IN = "you are not currently signed in"
DISABLED = "ollama cloud is disabled: {} is unavailable"


async def status(_request: web.Request) -> web.Response:
    """GET /api/status"""
    return web.json_response({"cloud": {"disabled": True, "source": "env"}})


async def me(_request: web.Request) -> web.Response:
    """POST /api/me"""
    return web.json_response({"error": NO_ACCOUNT}, status=503)


async def sign_out(_request: web.Request) -> web.Response:
    """POST /api/signout, and its older form DELETE /api/user/keys/{key}"""
    return web.json_response({"error": NOT_SIGNED_IN}, status=401)


async def web_search(_request: web.Request) -> web.Response:
    """POST /api/experimental/web_search"""
    raise CloudDisabled(DISABLED.format("web search"))


async def web_fetch(_request: web.Request) -> web.Response:
    """POST /api/experimental/web_fetch"""
    raise CloudDisabled(DISABLED.format("web fetch"))


async def recommendations(_request: web.Request) -> web.Response:
    """GET /api/experimental/model-recommendations"""
    return web.json_response({"recommendations": []})
