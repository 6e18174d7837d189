"""How is a file uploaded: hashed first, and sent if it is missing (CONTRACT 1.15)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from ..errors import OutriderError
from .client import Client, Json

CHUNK_BYTES = 4 << 20
REPORT_S = 0.1  # between two lines of progress


class FileError(OutriderError):
    """A file cannot be read, or it changed while it was read."""


class Upload:
    """The upload of one file; `digest` is set when `steps` have ended."""

    def __init__(self, client: Client, path: Path) -> None:
        self.digest = ""
        self._client = client
        self._path = path
        self._total_bytes = 0
        self._sent_bytes = 0

    async def steps(self) -> AsyncGenerator[Json, None]:
        """Uploads the file, and yields progress lines like those of a pull.

        Raises FileError and DaemonError.
        """
        async with aclosing(self._hash()) as lines:
            async for line in lines:
                yield line
        if await self._client.has(f"/api/blobs/{self.digest}"):
            return
        async with aclosing(self._send()) as lines:
            async for line in lines:
                yield line

    async def _hash(self) -> AsyncGenerator[Json, None]:
        sha256, hashed_bytes = hashlib.sha256(), 0
        try:
            self._total_bytes = self._path.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from error
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                await asyncio.to_thread(sha256.update, chunk)
                hashed_bytes += len(chunk)
                yield self._line("hashing", hashed_bytes)
        self.digest = f"sha256:{sha256.hexdigest()}"

    async def _send(self) -> AsyncGenerator[Json, None]:
        path = f"/api/blobs/{self.digest}"
        upload = self._client.upload(path, self._counted(), self._total_bytes)
        task = asyncio.create_task(upload)
        try:
            while not task.done():
                yield self._line("uploading", self._sent_bytes)
                await asyncio.wait({task}, timeout=REPORT_S)
            await task
        finally:
            task.cancel()
        yield self._line("uploading", self._total_bytes)

    async def _counted(self) -> AsyncGenerator[bytes, None]:
        """The chunks. Raises FileError if the file shrank: the daemon would await the rest."""
        async for chunk in self._chunks():
            yield chunk
            self._sent_bytes += len(chunk)
        if self._sent_bytes < self._total_bytes:
            raise FileError(f"{self._path} changes while it is uploaded; try again")

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            with self._path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> FileError:
        return FileError(f"{self._path} cannot be read: {error.strerror}")

    def _line(self, verb: str, completed_bytes: int) -> Json:
        status = f"{verb} {self._path.name}"
        return {"status": status, "completed": completed_bytes, "total": self._total_bytes}
