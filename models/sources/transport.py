"""How do HTTP requests leave this machine: proxies, redirects, credentials, time limits?

Redirects are followed here and not by aiohttp, so that credentials reach the first host alone.
"""

import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, Self

import aiohttp
import msgspec
from yarl import URL

from .failures import HttpRefused, Unreachable, clip
from .retry import parse_retry_after

Body = Callable[[], AsyncIterable[bytes]]  # makes the body anew for each attempt

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 8
_REFUSAL_BYTES: Final = 1 << 16  # of the body of an error that are read
_READ_BYTES: Final = 1 << 20  # buffered for each connection
_CONNECT_S: Final = 15.0  # seconds for name, connection and TLS


class Credentials(Protocol):
    """What a host wants to see in a request."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Sent to the host of the request, and never to one that it redirects to."""
        ...

    async def renew(
        self, http: "HttpClient", refused: HttpRefused, sent: Mapping[str, str]
    ) -> bool:
        """After a 401 to the headers `sent`: whether there are better ones now."""
        ...


@dataclass(frozen=True, slots=True)
class FixedHeaders:
    """Credentials that never change; none by default."""

    headers: Mapping[str, str]

    async def renew(
        self, http: "HttpClient", refused: HttpRefused, sent: Mapping[str, str]
    ) -> bool:
        return False


ANONYMOUS: Final = FixedHeaders({})


class HttpClient:
    """Sends requests, over plain HTTP only if `insecure`; fails after `stall_s` without a byte."""

    def __init__(self, *, insecure: bool = False, stall_s: float = 30.0, agent: str = "") -> None:
        self.insecure = insecure
        self._stall_s = stall_s
        self._agent = agent or "outrider"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._agent, "Accept-Encoding": "identity"},
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_S, sock_read=self._stall_s
            ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        *,
        credentials: Credentials = ANONYMOUS,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        follow: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, with a status below 400; a redirect is one too unless `follow`.

        Raises HttpRefused, and Unreachable also for what breaks while the answer is read.
        """
        target = URL(url, encoded=True)
        try:
            response = await self._authorised(
                method, target, credentials, headers or {}, body, follow
            )
            try:
                yield response
            finally:
                response.close() if not response.content.at_eof() else response.release()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise _unreachable(target, error) from error

    async def read(
        self,
        url: str,
        *,
        credentials: Credentials = ANONYMOUS,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int,
    ) -> bytes:
        """The body of a GET; raises HttpRefused if it is longer than the limit, or Unreachable."""
        async with self.open("GET", url, credentials=credentials, headers=headers) as response:
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > limit_bytes:
                    raise HttpRefused(200, _host(response.url), f"more than {limit_bytes} bytes")
            return bytes(data)

    async def _authorised(
        self,
        method: str,
        url: URL,
        credentials: Credentials,
        headers: Mapping[str, str],
        body: Body | None,
        follow: bool,
    ) -> aiohttp.ClientResponse:
        """Sends the request, and once more if a 401 leads to better credentials."""
        sent = credentials.headers
        try:
            return await self._follow(method, url, sent, headers, body, follow)
        except HttpRefused as refused:
            if refused.status != 401 or not await credentials.renew(self, refused, sent):
                raise
        return await self._follow(method, url, credentials.headers, headers, body, follow)

    async def _follow(
        self,
        method: str,
        start: URL,
        secret: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body | None,
        follow: bool,
    ) -> aiohttp.ClientResponse:
        url = start
        for _ in range(_MAX_REDIRECTS):
            _require_port(url)
            self._check_scheme(url)
            sent = {**headers, **(secret if url.origin() == start.origin() else {})}
            response = await self._session.request(
                method,
                url,
                headers=sent,
                data=body() if body else None,
                allow_redirects=False,
                proxy=_proxy(url),
            )
            if response.status >= 400:
                raise await _refusal(response)
            location = response.headers.get("Location")
            if not follow or response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            url = url.join(URL(location, encoded=True))
        raise Unreachable(_host(start), f"more than {_MAX_REDIRECTS} redirects", is_final=True)

    def _check_scheme(self, url: URL) -> None:
        """Plain HTTP only if it was asked for (CONTRACT 1.16)."""
        if url.scheme == "https" or (url.scheme == "http" and self.insecure):
            return
        raise Unreachable(_host(url), f"insecure protocol {url.scheme}", is_insecure=True)


def _require_port(url: URL) -> None:
    """Raises Unreachable if what stands for a port is none; the library reads it on demand only."""
    try:
        _ = url.port
    except ValueError:
        raise Unreachable("the host", "its port is no number", is_final=True) from None


def _proxy(url: URL) -> str | None:
    """The proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY (CONTRACT 4)."""
    host = _host(url)
    if urllib.request.proxy_bypass_environment(host):  # type: ignore[attr-defined]
        return None
    return urllib.request.getproxies_environment().get(url.scheme)


def _host(url: URL) -> str:
    return url.raw_authority.rpartition("@")[2]


async def _refusal(response: aiohttp.ClientResponse) -> HttpRefused:
    """The error of an answer, with the words of its body."""
    try:
        data = await response.content.read(_REFUSAL_BYTES)
    finally:
        response.close()
    return HttpRefused(
        response.status,
        _host(response.url),
        clip(_words(data) or response.reason or ""),
        retry_after_s=parse_retry_after(response.headers.get("Retry-After"), time.time()),
        challenge=response.headers.get("WWW-Authenticate", ""),
    )


class _RegistryError(msgspec.Struct):
    code: str = ""
    message: str = ""


class _RegistryErrors(msgspec.Struct):
    """The error body of a registry (OCI distribution specification, error codes)."""

    errors: list[_RegistryError] | None = None
    error: str = ""


def _words(data: bytes) -> str:
    """The messages of a registry's error body, else the body as it is."""
    text = data.decode(errors="replace")
    try:
        wire = msgspec.json.decode(data, type=_RegistryErrors)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text
    messages = [error.message or error.code for error in wire.errors or ()]
    return "; ".join(messages) or wire.error or text


def _unreachable(url: URL, error: Exception) -> Unreachable:
    host = _host(url)
    if isinstance(error, TimeoutError):
        return Unreachable(host, "it sends nothing")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Unreachable(host, f"its certificate is not valid ({error})", is_final=True)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        advice = "if it speaks plain HTTP, allow that with --insecure (`insecure: true`)"
        return Unreachable(host, f"TLS failed ({error}); {advice}", is_final=True)
    cause = error.__cause__ or error
    if isinstance(error, aiohttp.ClientConnectorDNSError) or isinstance(cause, socket.gaierror):
        return Unreachable(host, "no such host is known, or there is no network", is_final=True)
    return Unreachable(host, str(error) or type(error).__name__)
