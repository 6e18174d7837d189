"""How uploaded files reach the store, from which /api/create makes models (CONTRACT 1.15)."""

from __future__ import annotations

from aiohttp import web

from ....models.blobs import Blobs
from ....models.errors import DigestMismatch, InvalidDigest
from ....models.partial import Partial
from ....models.thread import in_thread
from ...errors import BadRequest, OutriderError
from ..state import APP_STATE


async def check(request: web.Request) -> web.Response:
    """HEAD /api/blobs/:digest"""
    blobs, digest = _target(request)
    return web.Response(status=200 if blobs.has(digest) else 404)


async def upload(request: web.Request) -> web.Response:
    """POST /api/blobs/:digest; a body that ends early or has another digest leaves nothing."""
    blobs, digest = _target(request)
    if blobs.has(digest):
        return web.Response()
    try:
        await _store(request, blobs, digest)
    except DigestMismatch as error:
        raise BadRequest(str(error)) from None
    except ConnectionError:
        raise
    except OSError as error:
        raise OutriderError(f"the file cannot be stored in {blobs.root}: {error}") from error
    return web.Response(status=201)


async def _store(request: web.Request, blobs: Blobs, digest: str) -> None:
    with blobs.partial() as partial:
        async for chunk in request.content.iter_any():
            await _append(partial, chunk)
        await in_thread(lambda _: blobs.keep(partial, expect=digest))


async def _append(partial: Partial, chunk: bytes) -> None:
    await in_thread(lambda _: partial.write(chunk))


def _target(request: web.Request) -> tuple[Blobs, str]:
    """The store's blobs, and the digest in the path. Raises BadRequest."""
    blobs, digest = request.app[APP_STATE].model_index.store.blobs, request.match_info["digest"]
    try:
        blobs.path(digest)
    except InvalidDigest as error:
        raise BadRequest(str(error)) from None
    return blobs, digest
