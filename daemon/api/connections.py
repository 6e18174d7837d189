"""Which connections are kept? A bounded number, in all and of a client, that do not stand still.

aiohttp closes connections that are idle between two requests. What it does not bound is done here,
by a protocol between the transport and aiohttp's own: the number of connections, the time and the
bytes of a header, and the pauses within a body or an answer. A request that is being answered has
no time limit: a long prompt or a long stream is work, as long as its client takes what there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import resource
import socket
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, cast

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from ..authority import is_loopback
from .guard import Handler

MAX_HEAD_BYTES = 1 << 20  # of a request line with all headers; aiohttp bounds each of them
MAX_REFUSED = 256  # connections that are being told at a time that there are too many
REFUSAL_S = 1.0  # for a client to read that
TELL_S = 10.0  # between two lines in the log about refusals
LONGEST_S = 1e8  # three years: what "for ever" is for a timer
RESERVED_DESCRIPTORS = 256  # for files, runners and downloads
MAX_UNSENT_BYTES = 1 << 17  # of a connection that wait in the kernel for their client
TCP_NOTSENT_LOWAT = 0x201 if sys.platform == "darwin" else 25  # netinet/tcp.h, linux/tcp.h
IPV6_CLIENT_BITS = 64  # of a client's addresses: it owns all that follow (RFC 6177)
TOO_MANY = "too many connections are open; close some, or raise {}"

log = logging.getLogger("outrider")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds on connections; seconds may be infinite."""

    max_total: int = 4096
    max_per_client: int = 256  # of an address that is not this machine's
    idle_s: float = 120.0  # without a byte of a body that is awaited
    send_s: float = 60.0  # without a client taking anything of an answer that waits for it
    header_s: float = 20.0  # from the first byte of a request to the end of its headers

    @property
    def keepalive_s(self) -> float:
        """What aiohttp is told: how long a connection may be idle between requests."""
        return min(self.idle_s, LONGEST_S)


class ConnectionTable:
    """Counts the open connections."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.num_open = 0
        self.num_refused = 0
        """Refusals in all."""
        self.leaving: set[asyncio.Transport] = set()
        """Those that are being told of their refusal."""
        self._of_client: Counter[str] = Counter()
        self._told_s = -TELL_S

    def admit(self, client: str) -> str:
        """Count a connection; else the setting that forbids it, and nothing is counted."""
        if self.num_open >= self.limits.max_total:
            return "OUTRIDER_MAX_CONNECTIONS"
        if client and self._of_client[client] >= self.limits.max_per_client:
            return "OUTRIDER_MAX_CLIENT_CONNECTIONS"
        self.num_open += 1
        self._of_client[client] += 1
        return ""

    def release(self, client: str) -> None:
        """A connection that was admitted is closed."""
        self.num_open -= 1
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]

    def note_refusal(self, client: str, setting: str, now_s: float) -> None:
        """Count a refusal; the log tells of them now and then."""
        self.num_refused += 1
        if now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            source = client or "this machine"
            log.warning(
                "a connection from %s is refused: %s; %d are open, %d were refused so far",
                *(source, TOO_MANY.format(setting), self.num_open, self.num_refused),
            )


class LimitedConnection(asyncio.Protocol):
    """Passes everything on to aiohttp's protocol of one connection, within the limits."""

    def __init__(self, table: ConnectionTable, make_protocol: Callable[[], asyncio.Protocol]):
        self._table = table
        self._make_protocol = make_protocol
        self._inner: asyncio.Protocol | None = None  # None: refused
        self._client = ""
        self._request: web.Request | None = None  # the one that is being answered
        self._unread: web.Request | None = None  # answered before its body was complete
        self._head_bytes = 0
        self._last_data_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, request: web.Request) -> Self | None:
        """The connection of a request; None where none was made for it, as in some tests."""
        transport = request.transport
        protocol = transport.get_protocol() if transport else None
        return protocol if isinstance(protocol, cls) else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._client = client_of(transport.get_extra_info("peername"))
        if setting := self._table.admit(self._client):
            self._refuse(setting)
            return
        limit_unsent(self._transport)
        self._inner = self._make_protocol()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            self._transport.close()  # the client has sent its request, and reads the refusal
            return
        self._last_data_s = self._loop.time()
        if self._unread and self._unread.content.is_eof():
            self._unread = None
        if self._request is None and self._unread is None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end(431, "Request Header Fields Too Large", "the headers are too large")
                return
            if self._timer is None:
                self._wait(self._table.limits.header_s, self._end_slow_header)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner else None

    def pause_writing(self) -> None:
        """The buffer is full: the client has some time to take what there is."""
        if self._inner:
            self._inner.pause_writing()
            seconds = min(self._table.limits.send_s, LONGEST_S)
            self._send_timer = self._loop.call_later(seconds, self._end_stalled)

    def resume_writing(self) -> None:
        self._stop_send_timer()
        if self._inner:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_send_timer()
        self._request = self._unread = None
        if self._inner is None:
            self._table.leaving.discard(self._transport)
            return
        self._table.release(self._client)
        self._inner.connection_lost(exc)

    def begin(self, request: web.Request) -> None:
        """The headers of a request are complete, and it is being answered."""
        self._request, self._head_bytes = request, 0
        self._stop_waiting()
        if not request.content.is_eof():
            self._wait(self._table.limits.idle_s, self._check_body)

    def end(self, request: web.Request) -> None:
        """The answer to this request is complete."""
        if self._request is request:
            self._request = None
            self._unread = None if request.content.is_eof() else request
            self._stop_waiting()

    def _check_body(self) -> None:
        """A body of which no byte came for too long fails; it may be the daemon that pauses."""
        self._timer = None
        request, idle_s = self._request, self._table.limits.idle_s
        if request is None or request.content.is_eof():
            return
        quiet_s = self._loop.time() - self._last_data_s
        if quiet_s < idle_s:
            self._wait(idle_s - quiet_s, self._check_body)
        elif not self._transport.is_reading():
            self._wait(idle_s, self._check_body)
        else:
            error = RequestPayloadError(f"nothing of it came for {idle_s:g} s")
            request.content.set_exception(error)

    def _end_slow_header(self) -> None:
        seconds = self._table.limits.header_s
        self._end(408, "Request Timeout", f"the headers took longer than {seconds:g} s")

    def _end_stalled(self) -> None:
        """The request ends with its connection, and frees its slot."""
        log.warning(
            "an answer is ended: its client %s has taken nothing of it for %g s",
            *(self._client or "on this machine", self._table.limits.send_s),
        )
        self._transport.abort()

    def _stop_send_timer(self) -> None:
        if self._send_timer:
            self._send_timer.cancel()
            self._send_timer = None

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(min(seconds, LONGEST_S), then)

    def _stop_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _end(self, status: int, reason: str, text: str) -> None:
        self._transport.write(_answer(status, reason, text))
        self._transport.close()

    def _refuse(self, setting: str) -> None:
        table = self._table
        table.note_refusal(self._client, setting, self._loop.time())
        if len(table.leaving) >= MAX_REFUSED:
            self._transport.abort()
            return
        table.leaving.add(self._transport)
        text = TOO_MANY.format(setting)
        self._transport.write(_answer(503, "Service Unavailable", text))
        self._wait(REFUSAL_S, self._transport.abort)


class LimitedRunner(web.AppRunner):
    """An AppRunner whose connections have limits."""

    __slots__ = ("table",)

    def __init__(self, app: web.Application, limits: ConnectionLimits, **parameters: Any) -> None:
        super().__init__(app, keepalive_timeout=limits.keepalive_s, **parameters)
        self.table = ConnectionTable(limits)

    @property
    def server(self) -> web.Server | None:
        """What sites call for each connection; aiohttp's own server makes the inner protocol."""
        server = super().server
        return server and cast(web.Server, partial(LimitedConnection, self.table, server))

    async def cleanup(self) -> None:
        """Close all connections, of which aiohttp knows those that were admitted."""
        await super().cleanup()
        for transport in self.table.leaving:
            transport.abort()


@web.middleware
async def watch_connection(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells the connection when a request begins and ends."""
    connection = LimitedConnection.of(request)
    if connection is not None:
        connection.begin(request)
        if task := asyncio.current_task():  # of aiohttp, for this request: it ends with the answer
            task.add_done_callback(partial(_end_request, connection, request))
    return await handler(request)


def client_of(peer: object) -> str:
    """What counts as one client: an address, or a network of IPv6; empty: this machine."""
    if not isinstance(peer, tuple) or is_loopback(str(peer[0])):
        return ""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return str(peer[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.ip_network((address, IPV6_CLIENT_BITS), strict=False))


def limit_unsent(transport: asyncio.Transport) -> None:
    """Keep the kernel from taking megabytes that a client does not read (tcp(7)).

    They would cost memory, and hide for minutes whether a slow client reads at all.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)


def fit_to_descriptors(max_connections: int) -> int:
    """At most as many connections as the process may have descriptors.

    Raises the soft limit of the process as far as that takes and the hard limit allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max_connections + RESERVED_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return max_connections
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, soft - RESERVED_DESCRIPTORS)


def _end_request(connection: LimitedConnection, request: web.Request, _task: object) -> None:
    connection.end(request)


def _answer(status: int, reason: str, text: str) -> bytes:
    """A whole answer, for what never becomes a request; in the shape of Ollama's errors."""
    body = json.dumps({"error": text})
    retry = "Retry-After: 1\r\n" if status == web.HTTPServiceUnavailable.status_code else ""
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n{body}"
    ).encode("ascii")
