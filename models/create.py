"""How a model is created from uploaded files, or from a model in the store (CONTRACT 7.4)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from dataclasses import replace
from threading import Event

from ..quant.split import SplitError, merge_parts
from .blobs import Blob
from .convert import Converter, find_converter
from .create_spec import CreateSpec
from .errors import CreateRefused
from .manifest import Manifest
from .new_layers import NewFiles, NewLayer, plan_layers
from .partial import Partial
from .progress import CreateProgress, Report, report_while, reported
from .quantized import (
    QuantizeSource,
    find_drafter,
    find_weights,
    replace_weights,
    write_quantized,
)
from .store import Store
from .thread import in_thread
from .uploads import Files, UploadedGGUF, find_upload, read_named, read_uploads, split_formats


async def create(store: Store, spec: CreateSpec) -> AsyncGenerator[CreateProgress, None]:
    """Creates the model and yields its progress; closing the generator undoes everything.

    No blob and no manifest is written before the last step, which cannot be interrupted. Raises
    CreateRefused, CreateFailed, NoSpace, InvalidDigest, ModelNotFound and DamagedModel: before the
    first line, unless a blob was deleted in the meantime, or a conversion shows what is wrong.
    """
    with ExitStack() as stack:
        making = _Making(store, spec, stack)
        async with aclosing(reported(making.run)) as lines:
            async for line in lines:
                yield line


class _Making:
    """The making of one model; what it writes goes with `stack` unless it is installed."""

    def __init__(self, store: Store, spec: CreateSpec, stack: ExitStack) -> None:
        self._store, self._spec, self._stack = store, spec, stack
        self._checkpoint: Files = {}  # files in safetensors
        self._files = NewFiles()

    async def run(self, report: Report) -> None:
        """Every step, in the order of the contract."""
        await in_thread(self._read)
        converter = find_converter() if self._checkpoint else None
        if converter:
            await self._convert(converter, report)
        layers = await self._plan()
        await in_thread(lambda _: self._check_quantized())
        if self._files.all and not converter:
            await report(CreateProgress("parsing GGUF"))
        await self._join_parts(report)
        if not await self._quantize(report) and self._files.all:
            await report(CreateProgress("validating GGUF model"))
        layers = await self._plan()
        for new in layers:
            verb = "using existing" if self._store.blobs.has(new.layer.digest) else "creating new"
            await report(CreateProgress(f"{verb} layer {new.layer.digest}"))
        await report(CreateProgress("writing manifest"))
        await in_thread(lambda _: self._install(layers))
        await report(CreateProgress("success"))

    def _read(self, stop: Event) -> None:
        """Thousands of files take a while: nobody waits for them whose client has left."""

        def check() -> None:
            if stop.is_set():
                raise asyncio.CancelledError

        spec = self._spec
        self._checkpoint, files = split_formats(self._store, spec.files, check)
        self._files = NewFiles(
            read_uploads(self._store, files, check),
            read_uploads(self._store, spec.draft_files, check),
            read_uploads(self._store, spec.adapters, check),
        )

    async def _plan(self) -> tuple[NewLayer, ...]:
        return await in_thread(lambda _: plan_layers(self._store, self._spec, self._files))

    async def _convert(self, converter: Converter, report: Report) -> None:
        """Adds the model that the files in safetensors become."""
        paths = {n: find_upload(self._store, n, d) for n, d in self._checkpoint.items()}
        need_bytes = sum(path.stat().st_size for path in paths.values())
        self._store.require_space(need_bytes, "the converted model")
        partial = self._stack.enter_context(self._store.blobs.partial())
        await report(CreateProgress("converting model"))
        await converter.run(paths, partial.path, self._store.root)
        await in_thread(lambda _: partial.reread())
        converted = _written(partial, "the converted model")
        self._files = replace(self._files, models=(converted, *self._files.models))

    async def _join_parts(self, report: Report) -> None:
        """Writes each split model as one file."""
        self._files = NewFiles(
            tuple([await self._join(file, report) for file in self._files.models]),
            tuple([await self._join(file, report) for file in self._files.drafters]),
            self._files.adapters,
        )

    async def _join(self, file: UploadedGGUF, report: Report) -> UploadedGGUF:
        if not file.parts:
            return file
        headers = [part.header for part in file.parts]
        total = sum(header.size_bytes for header in headers)
        self._store.require_space(total, f"the joined parts of {file.name}")
        partial = self._stack.enter_context(self._store.blobs.partial())

        def join(stop: Event) -> None:
            def write(data: bytes) -> None:
                if stop.is_set():
                    raise asyncio.CancelledError
                partial.write(data)

            merge_parts(headers, write)

        def line() -> CreateProgress:
            status = f"joining {len(headers)} parts"
            return CreateProgress(status, file.parts[0].blob.digest, total, partial.size_bytes)

        try:
            await report_while(join, report, line)
        except SplitError as error:
            raise CreateRefused(str(error)) from error
        except FileNotFoundError as error:  # another creation has used the parts up meanwhile
            raise CreateRefused(f"a part of {file.name} is gone: upload it again") from error
        return _written(partial, file.name)

    def _check_quantized(self) -> tuple[QuantizeSource | None, QuantizeSource | None]:
        """The weights and the drafter to be quantised. Raises CreateRefused and CreateFailed."""
        args = self._store, self._spec, self._files
        return find_weights(*args), find_drafter(*args)

    async def _quantize(self, report: Report) -> bool:
        """Writes the quantised weights and drafter; whether there are any."""
        weights, drafter = await in_thread(lambda _: self._check_quantized())
        if weights:
            new = await self._write_quantized(weights, report)
            self._files = replace_weights(self._files, weights, new)
        if drafter:
            new = await self._write_quantized(drafter, report)
            self._files = replace(self._files, drafters=(new,))
            self._spec = replace(self._spec, draft=None)
        return bool(weights or drafter)

    async def _write_quantized(self, source: QuantizeSource, report: Report) -> UploadedGGUF:
        self._store.require_space(1, f"quantizing {source.name}")
        partial = self._stack.enter_context(self._store.blobs.partial())
        await write_quantized(source, partial.path, partial.lock, report)
        await report(CreateProgress("verifying conversion"))
        await in_thread(lambda _: partial.reread())
        return _written(partial, source.name)

    def _install(self, layers: tuple[NewLayer, ...]) -> None:
        *others, config = (new.layer for new in layers)
        contents = [new.content for new in layers if new.content is not None]
        self._store.require_space(0, f"the model {self._spec.name.short}")
        for new in layers:
            if new.partial is not None:
                self._store.blobs.commit(new.partial)
        self._store.write(self._spec.name, Manifest(config, tuple(others)), contents)
        self._store.release(self._used_up())

    def _used_up(self) -> list[str]:
        """Digests of uploads of which only what was made of them is stored."""
        spec = self._spec
        return [d for files in (spec.files, spec.draft_files) for d in files.values()]


def _written(partial: Partial, name: str) -> UploadedGGUF:
    """The GGUF file that was written to `partial`."""
    partial.flush()
    header = read_named(partial.path, name)
    return UploadedGGUF(name, header, Blob(partial.digest, partial.size_bytes), partial=partial)
