"""How a stored model is pushed to a registry (CONTRACT 6.5)."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import BinaryIO, Final

import aiohttp
from yarl import URL

from .. import manifest as media
from ..errors import DamagedModel, InvalidName, ModelNotFound, PushFailed
from ..manifest import Layer, parse_manifest
from ..name import Name
from ..store import Store
from ..thread import in_thread
from .failures import HttpRefused, Unreachable, word_refusal, word_unreachable
from .progress import PullProgress, Steps
from .reference import RemoteReference
from .registry import Network
from .token import RegistryCredentials
from .transport import Body, HttpClient

_PART_BYTES: Final = 100_000_000  # of one PATCH
_READ_BYTES: Final = 1 << 20  # sent at a time
_POLL_S: Final = 0.06  # seconds between two progress lines (CONTRACT 1.16)


async def push(store: Store, reference: RemoteReference, network: Network) -> Steps:
    """Sends the model to its registry and yields the progress; closing the generator stops that.

    Raises PushFailed, never before the first line.
    """
    yield PullProgress("retrieving manifest")
    name = reference.name
    try:
        data = await in_thread(lambda _: store.manifest_bytes(name))
        manifest = parse_manifest(data)
    except (ModelNotFound, DamagedModel, OSError) as error:
        yield PullProgress("couldn't retrieve manifest")
        path = store.root / "manifests" / Path(*name.parts)
        is_missing = isinstance(error, ModelNotFound)
        raise PushFailed(
            f"open {path}: no such file or directory" if is_missing else f"{path}: {error}"
        ) from error
    credentials = RegistryCredentials(name.host, network.find_key)
    try:
        async with network.client(insecure=reference.insecure) as http:
            sender = _Sender(http, store, reference, credentials, network)
            for layer in {layer.digest: layer for layer in manifest.blobs}.values():
                async with aclosing(sender.send(layer)) as steps:
                    async for progress in steps:
                        yield progress
            yield PullProgress("pushing manifest")
            await network.policy.retry.run(lambda: sender.send_manifest(data))
    except HttpRefused as refused:
        raise PushFailed(word_refusal(refused)) from refused
    except Unreachable as error:
        raise PushFailed(word_unreachable(error)) from error
    except (OSError, DamagedModel) as error:
        raise PushFailed(f"the model cannot be read in {store.root}: {error}") from error
    yield PullProgress("success")


@dataclass(frozen=True, slots=True)
class _Sender:
    """Sends the blobs of one model, one after the other."""

    http: HttpClient
    store: Store
    reference: RemoteReference
    credentials: RegistryCredentials
    network: Network

    async def send(self, layer: Layer) -> Steps:
        """Sends a blob unless the registry has it."""
        if not self.store.blobs.has(layer.digest, layer.size_bytes):
            raise DamagedModel(f"{self.store.blobs.path(layer.digest)} is missing or incomplete")
        retry = self.network.policy.retry
        upload = ""
        if not await retry.run(lambda: self._has(layer)):
            upload = await retry.run(lambda: self.begin(layer))
        if upload:
            async with aclosing(self._follow(layer, upload)) as counts:
                async for sent_bytes in counts:
                    yield _pushing(layer, sent_bytes)
        yield _pushing(layer, layer.size_bytes)

    async def send_manifest(self, data: bytes) -> None:
        url = f"{self.reference.repository}/manifests/{self.reference.name.tag}"
        headers = {"Content-Type": media.MANIFEST_TYPE}
        async with self.open("PUT", url, headers, lambda: _once(data)):
            pass

    async def _has(self, layer: Layer) -> bool:
        url = f"{self.reference.repository}/blobs/{layer.digest}"
        try:
            async with self.open("HEAD", url):
                return True
        except HttpRefused as refused:
            if refused.status == 404:
                return False
            raise

    async def _follow(self, layer: Layer, upload: str) -> AsyncGenerator[int, None]:
        """Uploads in a task of its own; yields the bytes sent so far."""
        transfer = _Upload(self, layer, self.store.blobs.path(layer.digest))
        task = asyncio.create_task(transfer.run(upload))
        try:
            told = 0
            while not task.done():
                if transfer.sent_bytes != told:
                    told = transfer.sent_bytes
                    yield told
                await asyncio.wait({task}, timeout=_POLL_S)
            task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def begin(self, layer: Layer) -> str:
        """Where the content is to be sent; empty if the registry has mounted the blob."""
        source = _source_repository(layer, self.reference.name)
        mount = f"?mount={layer.digest}&from={source}" if source else ""
        url = f"{self.reference.repository}/blobs/uploads/{mount}"
        async with self.open("POST", url) as answer:
            return "" if answer.status == 201 else _next_url(answer)

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A request with the credentials of the registry."""
        return self.http.open(
            method, url, credentials=self.credentials, headers=headers, body=body, follow=False
        )


class _Upload:
    """Sends the content of one blob in parts, in order, and goes on after a failure."""

    def __init__(self, sender: _Sender, layer: Layer, path: Path) -> None:
        self.sent_bytes = 0
        self._sender = sender
        self._layer = layer
        self._path = path
        self._hashes: dict[int, bytes] = {}  # MD5 of each part, by its position

    async def run(self, url: str) -> None:
        """Sends the blob, from the `url` that the registry gave for it."""
        failures, position = 0, 0
        while True:
            reached = position
            try:
                while position < self._layer.size_bytes:
                    url, position = await self._send_part(url, position)
                await self._finish(url)
            except (HttpRefused, Unreachable) as error:
                failures = 1 if position > reached else failures + 1
                delay_s = self._sender.network.policy.retry.delay_s(failures, error)
                if delay_s is None:
                    raise
                await asyncio.sleep(delay_s)
                url, position = await self._recover(url)
            else:
                return

    async def _send_part(self, url: str, start: int) -> tuple[str, int]:
        """Sends the part at `start`; returns the next URL and position."""
        end = min(start + _PART_BYTES, self._layer.size_bytes)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Content-Range": f"{start}-{end - 1}",
            "X-Redirect-Uploads": "1",
        }
        body = partial(self._read, start, end)
        async with self._sender.open("PATCH", url, headers, body) as answer:
            following, elsewhere = _next_url(answer), _redirect(answer)
        if elsewhere:
            length = {"Content-Length": str(end - start)}
            async with self._sender.http.open("PUT", elsewhere, headers=length, body=body):
                pass
        return following, end

    async def _read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes of one part; it is hashed while it is sent."""
        md5 = hashlib.md5(usedforsecurity=False)
        with self._path.open("rb") as file:
            while start < end:
                data = await in_thread(partial(_read_at, file, start, end))
                if not data:
                    raise DamagedModel(f"{self._path} is shorter than its manifest says")
                md5.update(data)
                start += len(data)
                yield data
                self.sent_bytes = start
        self._hashes[end] = md5.digest()

    async def _finish(self, url: str) -> None:
        """Closes the upload; the registry checks the digest."""
        hashes = b"".join(self._hashes[end] for end in sorted(self._hashes))
        etag = f"{hashlib.md5(hashes, usedforsecurity=False).hexdigest()}-{len(self._hashes)}"
        target = URL(url, encoded=True).extend_query(digest=self._layer.digest, etag=etag)
        async with self._sender.open("PUT", str(target), {"Content-Length": "0"}):
            pass

    async def _recover(self, url: str) -> tuple[str, int]:
        """URL and position from which the registry goes on; a new upload if it cannot."""
        try:
            async with self._sender.open("GET", url) as answer:
                position = _received(answer.headers.get("Range", ""))
                following = _next_url(answer)
        except (HttpRefused, Unreachable):
            position, following = 0, await self._sender.begin(self._layer)
        self._hashes = {end: md5 for end, md5 in self._hashes.items() if end <= position}
        return following, position


def _read_at(file: BinaryIO, start: int, end: int, _stop: Event) -> bytes:
    return os.pread(file.fileno(), min(_READ_BYTES, end - start), start)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _next_url(answer: aiohttp.ClientResponse) -> str:
    """Where the next part goes: `Docker-Upload-Location`, or `Location`; it may be relative."""
    told = answer.headers.get("Docker-Upload-Location") or answer.headers.get("Location")
    return str(answer.url.join(URL(told, encoded=True))) if told else str(answer.url)


def _redirect(answer: aiohttp.ClientResponse) -> str:
    """Where a part is to be sent instead; empty if the registry took it itself."""
    told = answer.headers.get("Location", "") if answer.status == 307 else ""
    return str(answer.url.join(URL(told, encoded=True))) if told else ""


def _received(text: str) -> int:
    """How many bytes an upload has, by its Range header, such as `0-99`; `0-0` means none."""
    last = text.rpartition("-")[2]
    return int(last) + 1 if last.isdecimal() and int(last) else 0


def _source_repository(layer: Layer, name: Name) -> str:
    """The repository on the same host from which the layer came; empty if there is none."""
    try:
        source = Name.parse(layer.source or "")
    except InvalidName:
        return ""
    is_same_host = source.host.lower() == name.host.lower()
    return f"{source.namespace}/{source.model}" if is_same_host else ""


def _pushing(layer: Layer, sent_bytes: int) -> PullProgress:
    """The progress line of one layer (CONTRACT 1.17)."""
    status = f"pushing {layer.digest[7:19]}"
    return PullProgress(status, layer.digest, layer.size_bytes, sent_bytes or None)
