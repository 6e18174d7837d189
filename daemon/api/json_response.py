"""How an answer travels that is one JSON object."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web


def json_response(
    body: Mapping[str, object], headers: Mapping[str, str] | None = None, *, status: int = 200
) -> web.Response:
    """Compact JSON by msgspec: the json module is slow for the many floats of vectors."""
    data = msgspec.json.encode(body)
    return web.Response(
        body=data,
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )
