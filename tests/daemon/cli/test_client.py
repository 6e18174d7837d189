"""The HTTP client against a real server."""

from contextlib import aclosing

import aiohttp
import pytest
from outrider.daemon.cli.client import Client, DaemonError, LineSplitter, MissingModelError
from outrider.daemon.errors import OutriderError
from scripted import Lines, Reply, Scripted

pytestmark = pytest.mark.unit


async def collect(client: Client, path: str) -> list[dict[str, object]]:
    return [line async for line in client.stream(path, {})]


async def test_a_whole_answer_and_the_version_of_the_daemon() -> None:
    reply = Reply({"models": []}, headers={"Outrider-Version": "7.7"})
    async with Scripted({"GET /api/tags": reply}) as daemon, Client(daemon.url + "/") as client:
        assert await client.get("/api/tags") == {"models": []}
        assert client.daemon_version == "7.7"


async def test_an_empty_answer_is_an_empty_object() -> None:
    async with Scripted({"DELETE /api/delete": Reply()}) as daemon, Client(daemon.url) as client:
        assert await client.delete("/api/delete", {"model": "m"}) == {}
    assert daemon.seen == [("DELETE /api/delete", {"model": "m"})]


async def test_lines_of_any_length_arrive_whole() -> None:
    long = {"response": "x" * 3_000_000}
    script = {"POST /api/chat": Lines([{"response": "é"}, long, {"done": True}])}
    async with Scripted(script) as daemon, Client(daemon.url) as client:
        assert await collect(client, "/api/chat") == [{"response": "é"}, long, {"done": True}]


@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_lines_do_not_depend_on_where_the_stream_was_cut(step: int) -> None:
    text, lines = b'{"a":1}\n\n{"b":2}\r\n{"c":3}', LineSplitter()
    found = [line for i in range(0, len(text), step) for line in lines.add(text[i : i + step])]
    found += lines.end()
    assert [line.strip() for line in found] == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


async def test_an_error_line_ends_the_stream() -> None:
    script = {"POST /api/pull": Lines([{"status": "pulling manifest"}, {"error": "no such model"}])}
    async with Scripted(script) as daemon, Client(daemon.url) as client:
        lines = client.stream("/api/pull", {})
        assert await anext(lines) == {"status": "pulling manifest"}
        with pytest.raises(DaemonError, match=r"^no such model$"):
            await anext(lines)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply({"error": "bad option"}, 400), "bad option"),
        (Reply(b"404 page not found", 405), "the daemon answered HTTP 405: 404 page not found"),
        (Reply(b"", 502), "the daemon answered HTTP 502: no reason given"),
        (Reply([1], 500), "the daemon answered HTTP 500: [1]"),
    ],
)
async def test_an_error_status_gives_the_reason(reply: Reply, text: str) -> None:
    async with Scripted({"POST /api/show": reply}) as daemon, Client(daemon.url) as client:
        with pytest.raises(DaemonError) as caught:
            await client.post("/api/show", {"model": "m"})
        with pytest.raises(DaemonError):
            await collect(client, "/api/show")
    assert str(caught.value) == text
    assert isinstance(caught.value, OutriderError)


async def test_a_missing_model_is_an_error_of_its_own() -> None:
    async with Scripted({}) as daemon, Client(daemon.url) as client:
        with pytest.raises(MissingModelError, match="model 'x' not found"):
            await client.post("/api/show", {"model": "x"})


async def test_a_daemon_that_does_not_run(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with Client(url) as client:
        with pytest.raises(DaemonError) as caught:
            await client.get("/api/tags")
    assert str(caught.value) == (
        f"could not connect to the Outrider daemon at {url}; start it with 'outrider serve'"
    )


async def test_a_broken_connection_after_the_first_line() -> None:
    script = {"POST /api/chat": Lines([{"response": "a"}], ending="cut")}
    async with Scripted(script) as daemon, Client(daemon.url) as client:
        with pytest.raises(DaemonError, match="broke before its answer was complete"):
            await collect(client, "/api/chat")


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff\xfe"])
async def test_an_answer_that_is_not_a_json_object(body: bytes) -> None:
    async with Scripted({"GET /api/ps": Reply(body)}) as daemon, Client(daemon.url) as client:
        with pytest.raises(DaemonError, match="is it an Outrider daemon"):
            await client.get("/api/ps")


async def test_an_invalid_address() -> None:
    async with Client("http://") as client:
        with pytest.raises(DaemonError, match="set OUTRIDER_HOST"):
            await client.get("/api/ps")


async def test_closing_a_stream_closes_its_connection() -> None:
    script = {"POST /api/chat": Lines([{"response": "a"}], ending="hang")}
    async with Scripted(script) as daemon, Client(daemon.url) as client:
        async with aclosing(client.stream("/api/chat", {})) as lines:
            assert await anext(lines) == {"response": "a"}
        await daemon.dropped.wait()


async def test_no_limit_on_how_long_an_answer_may_take() -> None:
    async with Client("http://127.0.0.1") as client:
        timeout = client._session.timeout
    assert timeout == aiohttp.ClientTimeout(total=None, sock_connect=10)
