"""How uploaded files reach the store, from which /api/create makes models (CONTRACT 1.15)."""

from __future__ import annotations

from threading import Event

from aiohttp import hdrs, web

from ....models.partial import Partial
from ....models.space import RESERVE_BYTES
from ....models.store import Store
from ....models.thread import in_thread
from ...errors import BadRequest, OutriderError
from ..state import APP_STATE

CHECKED_BYTES = 16 << 20  # of an upload, after which the space is looked at again
ENCODED = "a file is sent as it is, which its digest is of, and not with Content-Encoding: {}"


async def check(request: web.Request) -> web.Response:
    """HEAD /api/blobs/:digest; a truncated blob counts as absent, so that it is sent again."""
    store, digest = request.app[APP_STATE].model_index.store, request.match_info["digest"]
    is_stored = await in_thread(lambda _: store.claim(digest))
    return web.Response(status=200 if is_stored else 404)


async def upload(request: web.Request) -> web.Response:
    """POST /api/blobs/:digest; a body that ends early or has another digest leaves nothing.

    Neither does one that does not fit on the disk or in the quota: whose size is stated is refused
    at once.
    """
    store, digest = request.app[APP_STATE].model_index.store, request.match_info["digest"]
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "")
    if encoding.lower() not in ("", "identity"):
        raise BadRequest(ENCODED.format(encoding))
    if await in_thread(lambda _: store.claim(digest)):
        return web.Response()
    blobs = store.blobs
    try:
        await in_thread(lambda _: _require_space(store, request.content_length or 0))
        with blobs.partial() as partial:
            async for chunk in request.content.iter_any():
                await _append(store, partial, chunk)
            partial.flush()
            await in_thread(lambda _: _require_space(store, 0))
            await in_thread(lambda _: blobs.commit(partial, expect=digest))
    except ConnectionError:
        raise
    except OSError as error:
        raise OutriderError(f"the file cannot be stored in {blobs.root}: {error}") from error
    return web.Response(status=201)


async def _append(store: Store, partial: Partial, chunk: bytes) -> None:
    """Raises NoSpace if the file is about to take the reserve of the disk, or the quota is used up;
    both are looked at now and then."""

    def append(_: Event) -> None:
        before_bytes = partial.size_bytes
        after_bytes = before_bytes + len(chunk)
        if not before_bytes or before_bytes // CHECKED_BYTES < after_bytes // CHECKED_BYTES:
            partial.flush()
            _require_space(store, len(chunk))
        partial.write(chunk)

    await in_thread(append)


def _require_space(store: Store, size_bytes: int) -> None:
    store.require_space(size_bytes, "the file", reserve_bytes=RESERVE_BYTES)
