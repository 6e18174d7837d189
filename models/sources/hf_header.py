"""What does the header of a GGUF file on another host say, before the file is downloaded?"""

import tempfile
from collections.abc import Container
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

from ...quant.gguf import MAGIC, GGUFError, Header, read_header
from ..thread import in_thread
from .download import RemoteFile
from .failures import Unreachable
from .retry import RetryPolicy
from .transport import HttpClient

FIRST_BYTES: Final = 1 << 20  # asked for at first; a header with a vocabulary takes up to 20 MB
MAX_BYTES: Final = 64 << 20  # read at most
_GROWTH: Final = 4  # times as much is read next
_NAME_CHARACTERS: Final = 100  # of a file's name that are kept; file systems take 255 bytes


async def read_remote_header(
    http: HttpClient,
    retry: RetryPolicy,
    remote: RemoteFile,
    *,
    arrays: Container[str] = (),
    first_bytes: int = FIRST_BYTES,
) -> Header:
    """The header of `remote`, whose size is known, read by ranges of growing length.

    Raises GGUFError with the URL's last part, HttpRefused and Unreachable.
    """
    size_bytes = remote.size_bytes
    assert size_bytes is not None, "the hub tells the size of each file"
    name = remote.url.rpartition("/")[2]
    most_bytes = min(size_bytes, MAX_BYTES)
    with tempfile.TemporaryDirectory(prefix="outrider-header-") as folder:
        start = _StartOfFile(Path(folder) / name[-_NAME_CHARACTERS:], size_bytes, arrays)
        while True:
            end = min(max(first_bytes, start.known_bytes * _GROWTH), most_bytes)
            read = partial(_read_range, http, remote, start.known_bytes, end)
            data = await retry.run(read)
            if not start.known_bytes and not data.startswith(MAGIC):
                raise GGUFError(f"{name} is not a GGUF file")
            try:
                return await in_thread(partial(start.extend, data))
            except GGUFError as error:
                if start.known_bytes >= most_bytes:
                    raise GGUFError(str(error).replace(str(start.path), name)) from error


async def _read_range(http: HttpClient, remote: RemoteFile, start: int, end: int) -> bytes:
    """The bytes from `start` to before `end`; a host that ignores ranges is read so far."""
    headers = {"Range": f"bytes={start}-{end - 1}"}
    opened = http.open("GET", remote.url, credentials=remote.credentials, headers=headers)
    async with opened as response:
        skip = 0 if response.status == 206 else start
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) >= skip + end - start:
                break
        if len(data) < skip + end - start:
            raise Unreachable(response.host, "it closed the connection too early")
    return bytes(data[skip : skip + end - start])


class _StartOfFile:
    """A file as long as the whole, of which only the start is there: the rest is a hole."""

    def __init__(self, path: Path, size_bytes: int, arrays: Container[str]) -> None:
        self.path = path
        self.known_bytes = 0
        self._size_bytes = size_bytes
        self._arrays = arrays

    def extend(self, data: bytes, _stop: Event) -> Header:
        """Adds the next bytes; raises GGUFError while they are not the whole header.

        A hole reads as zeros, so a header counts only if the tensors begin before it.
        """
        with self.path.open("r+b" if self.known_bytes else "wb") as file:
            file.truncate(self._size_bytes)
            file.seek(self.known_bytes)
            file.write(data)
        self.known_bytes += len(data)
        header = read_header(self.path, arrays=self._arrays)
        first = min((tensor.offset for tensor in header.tensors), default=self._size_bytes)
        if first > self.known_bytes:
            raise GGUFError(f"the header of {self.path} is longer than {self.known_bytes} bytes")
        return header
