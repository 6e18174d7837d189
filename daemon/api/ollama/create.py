"""How Ollama's dialect reads and words /api/create (CONTRACT 7.4)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import PurePosixPath

from aiohttp import web

from ....models.create import CreateSpec, Files
from ....models.create import create as make
from ....models.manifest import check_digest
from ....models.name import Name
from ....models.store import Store
from ...errors import BadRequest, OutriderError
from ...parameters import check_parameters
from ..body import read
from ..state import APP_STATE
from ..streaming import Line, Lines
from . import wire
from .transfers import report, send_progress

SUCCESS: Line = {"status": "success"}


async def create(request: web.Request) -> web.StreamResponse:
    """POST /api/create"""
    body = await read(request, wire.CreateRequest)
    lines = _lines(request.app[APP_STATE].model_index.store, _order(body))
    return await send_progress(request, lines, stream=body.stream)


async def _lines(store: Store, order: CreateSpec) -> Lines:
    """The statuses; a base that is missing is pulled first."""
    if order.base and not await asyncio.to_thread(store.find, order.base):
        async with aclosing(report(store, order.base)) as lines:
            async for line in lines:
                if line != SUCCESS:
                    yield line
    try:
        async with aclosing(make(store, order)) as statuses:
            async for status in statuses:
                yield {"status": status}
    except OSError as error:
        raise OutriderError(f"the model cannot be stored in {store.root}: {error}") from error


def _order(body: wire.CreateRequest) -> CreateSpec:
    """The request for `models.create`. Raises BadRequest, InvalidName and InvalidDigest."""
    name = Name.parse(body.target)
    _refuse_unsupported(body)
    if not (body.base or body.files):
        raise BadRequest("neither 'from' or 'files' was specified")
    return CreateSpec(
        name=name,
        base=Name.parse(body.base) if body.base else None,
        files=_files(body.files),
        draft_files=_files(body.draft_files),
        adapters=_files(body.adapters),
        template=body.template,
        system=body.system,
        params=check_parameters(body.parameters),
        messages=tuple(message.model_dump(exclude_defaults=True) for message in body.messages),
        licenses=tuple(body.license),
        renderer=body.renderer,
        parser=body.parser,
        requires=body.requires,
    )


def _refuse_unsupported(body: wire.CreateRequest) -> None:
    """Raises BadRequest for a field that would otherwise be ignored silently."""
    if body.quantize or body.quantization or body.draft_quantize:
        raise BadRequest(
            "quantizing is not supported: run llama.cpp's llama-quantize and use the file it writes"
        )
    if body.remote_host:
        raise BadRequest("models of a remote host are not supported: ask that host itself")
    if body.info:
        raise BadRequest("info is not supported: the facts of a model come from its GGUF file")


def _files(files: Files) -> Files:
    """The same files. Raises BadRequest for a path that leaves its folder, and InvalidDigest."""
    for name, digest in files.items():
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts:
            raise BadRequest("file path must be relative")
        check_digest(digest)
    return files
