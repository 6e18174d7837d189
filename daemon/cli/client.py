"""How do the commands call a running daemon: a small HTTP client."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp

from ..errors import OutriderError

CONNECT_TIMEOUT_S = 10

NEEDS_KEY = "the daemon takes requests with one of its API keys only; set OUTRIDER_API_KEY to one"

Json = dict[str, Any]


class DaemonError(OutriderError):
    """The daemon cannot be reached, or it answered with an error."""


class MissingModelError(DaemonError):
    """The daemon answered 404: it does not have the model."""


class Client:
    """One daemon at `base_url`; every method raises DaemonError with a text for the user.

    Only connecting has a timeout, since loading a model may take minutes.
    """

    def __init__(self, base_url: str, api_key: str = "") -> None:
        self.base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.daemon_version: str | None = None
        """The `Outrider-Version` header of the last response."""

    async def __aenter__(self) -> Self:
        # One connection per request: the daemon may close an idle one between two prompts.
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections, where `async with` cannot be used."""
        await self._session.close()

    async def get(self, path: str) -> Json:
        """The JSON object of GET `path`."""
        return await self._whole("GET", path, None)

    async def post(self, path: str, body: Mapping[str, object]) -> Json:
        """The JSON object of POST `path`; {} for an empty body and for null."""
        return await self._whole("POST", path, body)

    async def delete(self, path: str, body: Mapping[str, object]) -> Json:
        """As post; the Ollama API has a body on DELETE."""
        return await self._whole("DELETE", path, body)

    async def has(self, path: str) -> bool:
        """Whether HEAD `path` succeeds."""
        try:
            async with self._open("HEAD", path):
                return True
        except MissingModelError:
            return False

    async def upload(self, path: str, chunks: AsyncIterator[bytes], size_bytes: int) -> None:
        """Sends the chunks, `size_bytes` in all."""
        headers = {"Content-Length": f"{size_bytes}"}
        async with self._open("POST", path, data=chunks, headers=headers):
            return

    async def stream(self, path: str, body: Mapping[str, object]) -> AsyncGenerator[Json, None]:
        """The lines of an NDJSON answer; closing the iterator closes the connection.

        A line with an `error` ends the stream, whatever the HTTP status (CONTRACT 0).
        """
        lines = LineSplitter()
        async with self._open("POST", path, json=body) as response:
            async for chunk in response.content.iter_any():
                for line in lines.add(chunk):
                    yield self._unless_error(line)
            for line in lines.end():
                yield self._unless_error(line)

    async def _whole(self, method: str, path: str, body: Mapping[str, object] | None) -> Json:
        async with self._open(method, path, json=body) as response:
            text = await response.read()
        return {} if text.strip() in (b"", b"null") else self._object(text)

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, **body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """`body`: the arguments of aiohttp for one: `json`, or `data` and `headers`."""
        try:
            async with self._session.request(method, self.base_url + path, **body) as response:
                self.daemon_version = response.headers.get("Outrider-Version")
                if response.status >= 400:
                    raise _response_error(response.status, await response.read())
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise DaemonError(
                f"could not connect to the Outrider daemon at {self.base_url}; "
                "start it with 'outrider serve'"
            ) from error
        except aiohttp.InvalidURL as error:
            raise DaemonError(f"{self.base_url} is not an address; set OUTRIDER_HOST") from error
        except aiohttp.ClientError as error:
            raise DaemonError(
                f"the connection to the Outrider daemon at {self.base_url} broke before its answer "
                "was complete; see the daemon's log"
            ) from error

    def _unless_error(self, line: bytes) -> Json:
        answer = self._object(line)
        if answer.get("error"):
            raise DaemonError(str(answer["error"]))
        return answer

    def _object(self, text: bytes) -> Json:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise DaemonError(f"{self.base_url} did not answer in JSON; is it an Outrider daemon?")
        return value


class LineSplitter:
    """Cuts a stream of bytes into its non-empty lines, of any length."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        return [line for line in whole if line.strip()]

    def end(self) -> list[bytes]:
        """The last line, if it had no newline."""
        return [self._rest] if self._rest.strip() else []


def _response_error(status: int, body: bytes) -> DaemonError:
    try:
        answer = json.loads(body)
        text = answer["error"]
        if answer == {"error": "unauthorized"}:  # with more in it, it is about an account
            text = NEEDS_KEY
    except (ValueError, TypeError, KeyError):
        text = body.decode(errors="replace").strip()[:200] or "no reason given"
        text = f"the daemon answered HTTP {status}: {text}"
    return MissingModelError(str(text)) if status == 404 else DaemonError(str(text))
