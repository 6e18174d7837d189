"""The guard: who may call, by Origin and by Host (CONTRACT 4)."""

from __future__ import annotations

import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from outrider.daemon.api.guard import Origins, build_guard, cross_origin, is_local_host

pytestmark = pytest.mark.unit

HOST = "127.0.0.1:11434"


@pytest.mark.parametrize(
    "origin",
    [
        *(
            f"{scheme}://{host}{port}"
            for scheme in ("http", "https")
            for host in ("localhost", "127.0.0.1", "0.0.0.0")
            for port in ("", ":3000")
        ),
        "app://obsidian.md",
        "file://",
        "file:///home/me/page.html",
        "tauri://localhost",
        "vscode-webview://1a2b3c",
        "vscode-file://vscode-app",
        "HTTP://LOCALHOST:3000",
    ],
)
def test_local_pages_and_apps_may_call(origin: str) -> None:
    assert Origins(()).allows(origin, HOST)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evillocalhost",
        "http://127.0.0.1.evil.example",
        "http://127a0b0c1",
        "http://192.168.1.2:3000",
        "ftp://localhost",
        "https://evil.example/http://localhost",
        "chrome-extension://abc",
    ],
)
def test_other_pages_may_not(origin: str) -> None:
    assert not Origins(()).allows(origin, HOST)


def test_a_page_of_the_daemon_itself_may_call() -> None:
    origins = Origins(())
    assert origins.allows("http://box.lan:11434", "box.lan:11434")
    assert origins.allows("https://box.lan", "box.lan")
    assert not origins.allows("http://box.lan:80", "box.lan:11434")


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("https://a.example", "https://a.example", "https://a.example.evil"),
        ("https://a.example", "https://A.EXAMPLE", "http://a.example"),
        ("https://a.example", "https://a.example", "https://aXexample"),
        ("https://*.a.example", "https://x.y.a.example", "https://a.example"),
        ("https://*.a.example", "https://x.a.example", "https://x.a.example.evil"),
        ("chrome-extension://*", "chrome-extension://abc", "moz-extension://abc"),
        ("http://a.example:*", "http://a.example:81", "http://a.example"),
        ("https://a+b.example", "https://a+b.example", "https://aab.example"),
    ],
)
def test_further_origins_may_hold_a_wildcard(pattern: str, good: str, bad: str) -> None:
    origins = Origins([pattern])
    assert origins.allows(good, HOST)
    assert not origins.allows(bad, HOST)
    assert origins.allows("http://localhost", HOST), "the local ones stay"
    assert not origins.is_open


def test_a_star_opens_the_daemon_to_every_page() -> None:
    origins = Origins(["*"])
    assert origins.is_open
    assert origins.allows("https://evil.example", HOST)
    assert origins.allows("null", HOST)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LocalHost:11434",
        "127.0.0.1",
        "127.8.8.8:11434",
        "[::1]",
        "[::1]:11434",
        "0.0.0.0",
        "[::]:80",
        "10.1.2.3",
        "172.16.0.1:11434",
        "192.168.1.2",
        "[fd00::1]",
        "web.localhost:11434",
        "printer.local",
        "host.docker.internal:11434",
        socket.gethostname(),
        f"{socket.gethostname().upper()}:11434",
    ],
)
def test_names_of_this_machine(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:11434",
        "localhost.evil.example",
        "notlocalhost",
        "evillocal",
        "8.8.8.8",
        "8.8.8.8:11434",
        "[2606:4700::1111]",
        "127.0.0.1.evil.example",
        "[::1",
        "[bad]:1",
    ],
)
def test_names_of_other_machines(host: str) -> None:
    assert not is_local_host(host)


async def ok(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


def build(
    *, check_host: bool, extra: tuple[str, ...] = ()
) -> TestClient[web.Request, web.Application]:
    origins = Origins(extra)
    app = web.Application(middlewares=[build_guard(origins, check_host=check_host)])
    app.router.add_route("*", "/", ok)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(cross_origin(origins, request))

    app.on_response_prepare.append(add_headers)
    return TestClient(TestServer(app))


async def test_a_foreign_origin_is_refused_with_an_empty_body_on_every_method() -> None:
    async with build(check_host=False) as client:
        for method in ("GET", "POST", "DELETE", "OPTIONS", "HEAD"):
            answer = await client.request(method, "/", headers={"Origin": "https://evil.example"})
            assert (answer.status, await answer.read()) == (403, b""), method
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_foreign_host_is_refused_only_on_loopback() -> None:
    for check_host, status in ((True, 403), (False, 200)):
        async with build(check_host=check_host) as client:
            answer = await client.get("/", headers={"Host": "evil.example"})
            assert answer.status == status


async def test_a_preflight_tells_what_is_allowed() -> None:
    async with build(check_host=True) as client:
        headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
        answer = await client.options("/", headers=headers)
        assert (answer.status, await answer.read()) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        assert (
            answer.headers["Access-Control-Allow-Methods"]
            == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
        )
        assert answer.headers["Access-Control-Max-Age"] == "43200"
        allowed = answer.headers["Access-Control-Allow-Headers"].split(",")
        assert {"Authorization", "Content-Type", "x-stainless-os", "OpenAI-Beta"} <= set(allowed)
        assert len([name for name in allowed if name.startswith("x-stainless-")]) == 12
        assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_a_request_without_an_origin_gets_no_headers() -> None:
    async with build(check_host=True) as client:
        answer = await client.get("/")
        assert (answer.status, await answer.text()) == (200, "ok")
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_an_open_daemon_answers_with_a_star() -> None:
    async with build(check_host=False, extra=("*",)) as client:
        answer = await client.get("/", headers={"Origin": "https://any.example"})
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
