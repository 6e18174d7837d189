"""How tests get a package index: wheels made by hand, and a server that can stall half-way."""

import asyncio
import hashlib
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path


def write_wheel(folder: Path, package: str, version: str, members: Mapping[str, bytes]) -> Path:
    """A wheel that pip accepts, with `members` stored as they are."""
    stem = f"{package.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    texts = {
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents = dict(members) | {path: text.encode() for path, text in texts.items()}
    record = f"{info}/RECORD"
    contents[record] = "".join(f"{path},,\n" for path in [*contents, record]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as wheel:
        for path, data in contents.items():
            wheel.writestr(path, data)
    return target


class StallingIndex:
    """Serves one wheel, but only its first half; `hung_up` is set when the client has gone."""

    def __init__(self, wheel: Path) -> None:
        self._wheel = wheel
        self.url = ""
        self.hung_up = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["StallingIndex"]:
        server = await asyncio.start_server(self._answer, "127.0.0.1")
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple"
        try:
            yield self
        finally:
            server.close()
            self.drop()

    def drop(self) -> None:
        """Cuts every connection."""
        for writer in self._writers:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while request := await self._request(reader):
            if request.endswith(".whl"):
                await self._half(reader, writer)
                return
            link = f'<a href="/{self._wheel.name}">{self._wheel.name}</a>'.encode()
            _head(writer, "text/html", len(link))
            writer.write(link)
            await writer.drain()

    async def _half(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = self._wheel.read_bytes()
        _head(writer, "application/octet-stream", len(data))
        writer.write(data[: len(data) // 2])
        await writer.drain()
        await reader.read()
        self.hung_up.set()
        writer.close()

    @staticmethod
    async def _request(reader: asyncio.StreamReader) -> str:
        """The path of the next request; empty at the end of the connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""
        return head.split()[1].decode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _head(writer: asyncio.StreamWriter, kind: str, size_bytes: int) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size_bytes}\r\n\r\n"
    writer.write(head.encode())
