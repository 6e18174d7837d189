"""How Ollama's dialect reads and words /api/create (CONTRACT 7.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from pathlib import PurePosixPath

from aiohttp import web

from ....models.create_spec import CreateSpec
from ....models.manifest import check_digest
from ....models.name import Name
from ....models.quantized import find_type
from ....models.store import Store
from ....models.uploads import Files
from ...chat.format import UnreadableTemplate
from ...errors import BadRequest, OutriderError
from ...parameters import check_parameters
from ..body import read
from ..state import APP_STATE
from ..streaming import Line, Lines
from . import wire
from .transfers import report, send_progress

SUCCESS: Line = {"status": "success"}

# The field of the config for each key of `info`, and what its value must be (CONTRACT 7.4).
INFO: Mapping[str, tuple[str, str]] = {
    "base_name": ("base_name", "a string"),
    "capabilities": ("capabilities", "an array of strings"),
    "context_length": ("context_length", "a number"),
    "embedding_length": ("embedding_length", "a number"),
    "model_family": ("model_family", "a string"),
    "parameter_size": ("model_type", "a string"),
    "quantization_level": ("file_type", "a string"),
}


async def create(request: web.Request) -> web.StreamResponse:
    """POST /api/create"""
    body = await read(request, wire.CreateRequest)
    lines = _lines(request.app[APP_STATE].model_index.store, _order(body))
    return await send_progress(request, lines, stream=body.stream)


async def _lines(store: Store, order: CreateSpec) -> Lines:
    """The statuses; a base or a drafter that is missing is pulled first."""
    for name in (order.base, order.draft):
        if name and not await asyncio.to_thread(store.find, name):
            async with aclosing(report(store, name)) as lines:
                async for line in lines:
                    if line != SUCCESS:
                        yield line
    from ....models.create import create as make  # with the quantiser, which few requests need

    try:
        async with aclosing(make(store, order)) as steps:
            async for step in steps:
                yield {key: value for key, value in asdict(step).items() if value is not None}
    except OSError as error:
        raise OutriderError(f"the model cannot be stored in {store.root}: {error}") from error


def _order(body: wire.CreateRequest) -> CreateSpec:
    """The request for `models.create`.

    Raises BadRequest, InvalidName, InvalidDigest and CreateFailed.
    """
    name = Name.parse(body.target)
    _refuse_unsupported(body)
    if not (body.base or body.files):
        raise BadRequest("neither 'from' or 'files' was specified")
    return CreateSpec(
        name=name,
        base=Name.parse(body.base) if body.base else None,
        files=_files(body.files),
        draft_files=_files(body.draft_files),
        draft=Name.parse(body.draft) if body.draft else None,
        adapters=_files(body.adapters),
        quantize=find_type(body.quantize or body.quantization),
        draft_quantize=find_type(body.draft_quantize),
        template=_template(body.template),
        system=body.system,
        params=check_parameters(body.parameters),
        messages=tuple(message.model_dump(exclude_defaults=True) for message in body.messages),
        licenses=tuple(body.license),
        renderer=body.renderer,
        parser=body.parser,
        requires=body.requires,
        info=dict(_info(body.info)),
    )


def _refuse_unsupported(body: wire.CreateRequest) -> None:
    """Raises BadRequest for a field that would otherwise be ignored silently."""
    if body.remote_host:
        raise BadRequest("models of a remote host are not supported: ask that host itself")


def _files(files: Files) -> Files:
    """The same files. Raises BadRequest for a path that leaves its folder, and InvalidDigest."""
    for name, digest in files.items():
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts:
            raise BadRequest("file path must be relative")
        check_digest(digest)
    return files


def _template(source: str) -> str:
    """The same template. Raises BadRequest with the place where it cannot be read."""
    if not source:
        return source
    from ...chat.render.go_template import GoTemplate  # gotpl takes a while

    try:
        GoTemplate(source)
    except UnreadableTemplate as error:
        raise BadRequest(f"template error: {error}") from error
    return source


def _info(info: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The fields of the config that it states; other keys say nothing. Raises BadRequest."""
    for key, value in info.items():
        if key in INFO and value is not None:
            field, kind = INFO[key]
            yield field, _info_value(key, kind, value)


def _info_value(key: str, kind: str, value: object) -> object:
    if kind == "a string" and isinstance(value, str):
        return value
    if kind == "a number" and isinstance(value, int | float) and not isinstance(value, bool):
        if value < 0 or value % 1:
            raise BadRequest(f'info field "{key}" must be a non-negative integer')
        return int(value)
    is_list = kind == "an array of strings" and isinstance(value, list)
    if is_list and all(isinstance(item, str) for item in value):  # type: ignore[attr-defined]
        return tuple(value)  # type: ignore[arg-type]
    raise BadRequest(f'info field "{key}" must be {kind}')
