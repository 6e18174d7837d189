"""How uploaded files reach the store, from which /api/create makes models (CONTRACT 1.15)."""

from __future__ import annotations

from aiohttp import web

from ....models.partial import Partial
from ....models.thread import in_thread
from ...errors import OutriderError
from ..state import APP_STATE


async def check(request: web.Request) -> web.Response:
    """HEAD /api/blobs/:digest"""
    blobs = request.app[APP_STATE].model_index.store.blobs
    return web.Response(status=200 if blobs.has(request.match_info["digest"]) else 404)


async def upload(request: web.Request) -> web.Response:
    """POST /api/blobs/:digest; a body that ends early or has another digest leaves nothing."""
    blobs, digest = request.app[APP_STATE].model_index.store.blobs, request.match_info["digest"]
    if blobs.has(digest):
        return web.Response()
    try:
        with blobs.partial() as partial:
            async for chunk in request.content.iter_any():
                await _append(partial, chunk)
            await in_thread(lambda _: blobs.commit(partial, expect=digest))
    except ConnectionError:
        raise
    except OSError as error:
        raise OutriderError(f"the file cannot be stored in {blobs.root}: {error}") from error
    return web.Response(status=201)


async def _append(partial: Partial, chunk: bytes) -> None:
    await in_thread(lambda _: partial.write(chunk))
