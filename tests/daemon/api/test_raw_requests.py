"""Requests byte by byte: what no client library would send still gets one clear answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_runner import DONE
from front import Front, start_front
from outrider.daemon.protocol import Delta

pytestmark = pytest.mark.unit

HOST = "Host: localhost\r\n"
CLOSE = "Connection: close\r\n\r\n"
PATIENCE_S = 5.0
VERSION = '{"version":"0.33.0"}'


async def ask(front: Front, text: str) -> str:
    """Everything that is answered until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.client.port)
    writer.write(text.encode("latin-1"))
    try:
        async with asyncio.timeout(PATIENCE_S):
            return (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    async with start_front(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x4\r\n",
        "Content-Length : 4\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        " Content-Length: 4\r\n",
        "X: a\r\n b\r\n",
        "X: a\x00b\r\n",
        "Host: evil.com\r\n",
    ],
)
async def test_a_request_with_two_readings_is_refused_and_ends_its_connection(
    front: Front, head: str
) -> None:
    smuggled = "0\r\n\r\nGET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = await ask(front, f"POST /api/show HTTP/1.1\r\n{HOST}{head}\r\n{smuggled}")
    assert answer.split()[1] == "400"
    assert answer.count("HTTP/1.") == 1
    assert VERSION not in answer


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://localhost/api/version HTTP/1.1", 200),
        ("GET http://evil.com/api/version HTTP/1.1", 403),
        ("GET http://localhost@evil.com/api/version HTTP/1.1", 403),
        ("GET https://evil.com HTTP/1.1", 403),
        ("CONNECT evil.com:443 HTTP/1.1", 404),
        ("TRACE / HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 204),
        ("GET * HTTP/1.1", 400),
        ("GET api/version HTTP/1.1", 400),
        ("GET /api/version HTTP/9.9", 400),
        ("G@T / HTTP/1.1", 400),
        ("GET /é HTTP/1.1", 400),
        ("GET /\t/evil.com/ HTTP/1.1", 400),
        ("GET //evil.com/ HTTP/1.1", 301),
        ("GET /\\evil.com/ HTTP/1.1", 301),
        ("GET /%0d%0aX:y HTTP/1.1", 404),
    ],
)
async def test_targets_and_methods(front: Front, line: str, status: int) -> None:
    answer = await ask(front, f"{line}\r\n{HOST}{CLOSE}")
    assert answer.split()[1] == str(status)
    assert "TRACE" not in answer
    if status == 301:
        assert "\r\nLocation: /evil.com\r\n" in answer


async def test_http_1_0_needs_no_host_and_keeps_no_connection(front: Front) -> None:
    answer = await ask(front, "GET /api/version HTTP/1.0\r\n\r\n")
    assert answer.split()[1] == "200"
    assert answer.endswith(VERSION)


async def test_a_stream_to_http_1_0_ends_with_its_connection(header_store: Path) -> None:
    body = '{"model":"chat","messages":[{"role":"user","content":"x"}]}'
    async with start_front(header_store) as front:
        front.runners.scripts.append([Delta(1, "a"), Delta(1, "b", done=DONE)])
        answer = await ask(
            front, f"POST /api/chat HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
    head, _, lines = answer.partition("\r\n\r\n")
    assert head.split()[1] == "200"
    assert "chunked" not in head.lower()
    assert '"done":true' in lines.splitlines()[-1]


async def test_pipelined_requests_are_answered_in_order(front: Front) -> None:
    paths = ("/api/version", "/nothing", "/api/version")
    first, second, third = (f"GET {path} HTTP/1.1\r\n{HOST}" for path in paths)
    answer = await ask(front, f"{first}\r\n{second}\r\n{third}{CLOSE}")
    assert [line.split()[1] for line in answer.split("HTTP/1.1")[1:] for line in [f"x{line}"]] == [
        *("200", "404", "200")
    ]


async def test_an_upgrade_that_is_not_known_is_passed_over(front: Front) -> None:
    head = "Upgrade: h2c\r\nConnection: upgrade, close\r\n\r\n"
    assert (await ask(front, f"GET / HTTP/1.1\r\n{HOST}{head}")).split()[1] == "200"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/copy", {"source": "x" * 70_000, "destination": "y"}),
        ("/api/generate", {"model": "chat", "prompt": "x", "keep_alive": "x" * 70_000}),
        ("/v1/embeddings", {"model": "chat", "input": "x", "encoding_format": "x" * 70_000}),
    ],
)
async def test_an_error_does_not_repeat_all_that_a_client_has_sent(
    front: Front, path: str, body: object
) -> None:
    status, answer = await front.send("POST", path, body)
    assert status >= 400
    assert len(answer) < 5_000
