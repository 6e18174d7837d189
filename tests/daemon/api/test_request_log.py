"""Request ids and the lines about requests."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fake_runner import DONE
from front import Front
from outrider.daemon.api.guard import Handler
from outrider.daemon.api.request_log import BadRequestFilter, note_request
from outrider.daemon.errors import RunnerDied
from outrider.daemon.log_lines import JsonFormatter, TextFormatter
from outrider.daemon.protocol import Delta
from outrider.daemon.request_note import RequestNote, current_note

pytestmark = pytest.mark.unit

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hm"}]}


class LogLines(logging.Handler):
    """The lines that the log would have."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TextFormatter(with_time=False))
        self.lines: list[str] = []
        self.has_bad_request = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += self.format(record).splitlines()
        if "a bad request" in self.lines[-1]:
            self.has_bad_request.set()


class JsonLines(logging.Handler):
    """The lines that a log of JSON would have."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def handler() -> Iterator[LogLines]:
    """What is logged from here on, as in the daemon."""
    handler, bad_requests = LogLines(), BadRequestFilter()
    server, ours = logging.getLogger("aiohttp.server"), logging.getLogger("outrider")
    level = ours.level
    ours.setLevel(logging.INFO)
    server.addFilter(bad_requests)
    for logger in (server, ours):
        logger.addHandler(handler)
    yield handler
    for logger in (server, ours):
        logger.removeHandler(handler)
    server.removeFilter(bad_requests)
    ours.setLevel(level)


@pytest.fixture
def lines(handler: LogLines) -> list[str]:
    return handler.lines


async def send_raw(front: Front, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.client.port)
    writer.write(data)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


async def test_every_request_has_an_id_in_header_and_log(front: Front, lines: list[str]) -> None:
    async with front.client.get("/api/version") as answer:
        id_ = answer.headers["X-Request-Id"]
    assert id_.startswith("req_")
    assert lines[-1].startswith("INFO GET /api/version 200 0.0")
    assert lines[-1].endswith(f" id={id_}")


async def test_a_well_formed_id_of_the_client_is_taken(front: Front, lines: list[str]) -> None:
    async with front.client.get("/nothing", headers={"X-Request-Id": "job-7.1"}) as answer:
        assert answer.headers["X-Request-Id"] == "job-7.1"
    assert lines[-1].endswith("id=job-7.1")
    async with front.client.get("/nothing", headers={"X-Request-Id": "job 7"}) as answer:
        assert answer.headers["X-Request-Id"].startswith("req_")


async def test_an_error_of_anthropics_dialect_has_the_id(front: Front) -> None:
    headers = {"X-Request-Id": "mine"}
    async with front.client.post("/v1/messages", data=b"{", headers=headers) as answer:
        assert (await answer.json())["request_id"] == "mine"
        assert answer.headers["Request-Id"] == "mine"


async def test_a_stream_has_the_id_too(front: Front) -> None:
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}]})
    headers = {"X-Request-Id": "s1"}
    async with front.client.post("/api/chat", data=body, headers=headers) as answer:
        assert answer.headers["X-Request-Id"] == "s1"
        await answer.read()


async def test_a_clients_path_stays_on_its_line(front: Front, lines: list[str]) -> None:
    path = "/x%0aINFO%20forged%1b%5b2J" + "y" * 5000
    head = "Host: localhost\r\nConnection: close\r\n\r\n"
    await send_raw(front, f"GET {path} HTTP/1.1\r\n{head}".encode())
    assert len(lines) == 1
    assert lines[0].startswith(r"INFO GET /x\nINFO forged\x1b[2Jyyy")
    assert " 404 0.0" in lines[0]
    assert len(lines[0]) < 1200


@pytest.mark.parametrize(
    ("request_text", "reason"),
    [
        ("GET / HTTP/1.1\r\n\r\n", "Missing 'Host' header in request."),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "Duplicate 'Host' header found."),
        (
            "POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding can't be present with Content-Length:",
        ),
        (
            "POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
            "Content-Length: 4\r\n\r\nabcd",
            "Can not decode content-encoding: gzip",
        ),
    ],
)
async def test_a_bad_request_gets_400_and_a_line_without_a_traceback(
    front: Front, handler: LogLines, request_text: str, reason: str
) -> None:
    answer = await send_raw(front, request_text.encode("latin-1"))
    assert b" 400 Bad Request\r\n" in answer
    async with asyncio.timeout(5):
        await handler.has_bad_request.wait()
    (line,) = [line for line in handler.lines if "bad request" in line]
    assert line.startswith("INFO a bad request from ")
    assert line.endswith(reason)
    assert not [line for line in handler.lines if "Traceback" in line]


async def json_line(front: Front, path: str, body: object) -> dict[str, object]:
    """The line of a request in a log of JSON."""
    handler = JsonLines()
    logger = logging.getLogger("outrider")
    logger.addHandler(handler)
    try:
        await front.send("POST", path, body)
    finally:
        logger.removeHandler(handler)
    found: dict[str, object] = json.loads(handler.lines[-1])
    return found


@pytest.mark.usefixtures("handler")  # with the log's level
async def test_a_json_line_tells_what_a_text_took(front: Front) -> None:
    front.runners.scripts.append((Delta(1, "yes"), Delta(1, done=DONE)))
    line = await json_line(front, "/api/chat", CHAT)
    assert str(line["request_id"]).startswith("req_")
    assert 0 < float(str(line["first_output_seconds"])) < float(str(line["seconds"])) < 5
    expected = {
        "method": "POST",
        "route": "/api/chat",
        "status": 200,
        "model": "chat:latest",
        "prompt_tokens": 5,
        "cached_tokens": 2,
        "output_tokens": 4,
        "done_reason": "stop",
    }
    assert {name: line[name] for name in expected} == expected


@pytest.mark.usefixtures("handler")
async def test_a_json_line_of_an_embedding_and_of_an_error(front: Front) -> None:
    front.runners.vectors = [[3.0, 4.0, 0.0, 0.0]]
    line = await json_line(front, "/api/embed", {"model": "vectors", "input": "hm"})
    assert (line["model"], line["prompt_tokens"], line["output_tokens"]) == ("vectors:latest", 3, 0)
    front.runners.scripts.append((RunnerDied("gone"),))
    line = await json_line(front, "/api/chat", CHAT | {"stream": False})
    assert (line["status"], line["model"], line["done_reason"]) == (500, "chat:latest", "error")
    assert "output_tokens" not in line
    line = await json_line(front, "/nothing", {})
    assert (line["route"], line["path"], line["status"]) == ("", "/nothing", 404)


async def test_tasks_that_outlive_a_request_lose_its_id() -> None:
    notes: list[RequestNote | None] = []

    @web.middleware
    async def keep(request: web.Request, handler: Handler) -> web.StreamResponse:
        notes.append(current_note())
        return await handler(request)

    app = web.Application(middlewares=[note_request, keep])
    async with TestClient(TestServer(app)) as client:
        await client.get("/")
        await asyncio.sleep(0)
    assert notes[0] is not None
    assert not notes[0].is_open
