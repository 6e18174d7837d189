"""How uploaded files reach the store, from which /api/create makes models (CONTRACT 1.15)."""

from __future__ import annotations

from threading import Event

from aiohttp import web

from ....models.blobs import Blobs
from ....models.partial import Partial
from ....models.space import RESERVE_BYTES, require_space
from ....models.thread import in_thread
from ...errors import OutriderError
from ..state import APP_STATE


async def check(request: web.Request) -> web.Response:
    """HEAD /api/blobs/:digest; a truncated blob counts as absent, so that it is sent again."""
    store, digest = request.app[APP_STATE].model_index.store, request.match_info["digest"]
    is_stored = await in_thread(lambda _: store.claim(digest))
    return web.Response(status=200 if is_stored else 404)


async def upload(request: web.Request) -> web.Response:
    """POST /api/blobs/:digest; a body that ends early or has another digest leaves nothing.

    Neither does one that does not fit on the disk: whose size is stated is refused at once.
    """
    store, digest = request.app[APP_STATE].model_index.store, request.match_info["digest"]
    if await in_thread(lambda _: store.claim(digest)):
        return web.Response()
    blobs = store.blobs
    _require_space(blobs, request.content_length or 0)
    try:
        with blobs.partial() as partial:
            async for chunk in request.content.iter_any():
                await _append(blobs, partial, chunk)
            await in_thread(lambda _: blobs.commit(partial, expect=digest))
    except ConnectionError:
        raise
    except OSError as error:
        raise OutriderError(f"the file cannot be stored in {blobs.root}: {error}") from error
    return web.Response(status=201)


async def _append(blobs: Blobs, partial: Partial, chunk: bytes) -> None:
    def append(_: Event) -> None:
        _require_space(blobs, len(chunk))
        partial.write(chunk)

    await in_thread(append)


def _require_space(blobs: Blobs, size_bytes: int) -> None:
    require_space(blobs.root, size_bytes, "the file", reserve_bytes=RESERVE_BYTES)
