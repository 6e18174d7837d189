"""The guard: who may call, by Origin and by Host (CONTRACT 4)."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from outrider.daemon.api.guard import Origins, build_guard, cross_origin, is_local_host
from outrider.daemon.authority import Authority, is_loopback
from yarl import URL

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


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:@evil.com",
        "http://127.0.0.1:1@evil.com",
        "http://user@localhost",
        "http://localhost:80@localhost",
        "http://localhost\\.evil.com",
        "http://localhost/",
        "http://localhost/.evil.com",
        "http://localhost?x",
        "http://localhost#x",
        "http://localhost:0",
        "http://localhost:65536",
        "http://localhost:+80",
        "http://localhost: 80",
        "http://localhost:\uff180",
        "http://\uff4cocalhost",
        "http://%6cocalhost",
        "http://localhost.",
        "http://0x7f.0.0.1",
        "http://2130706433",
        "http://0177.0.0.1",
        "http://127.1",
        "http://[::1%25eth0]:3000",
        "http://[::1]evil.com",
        "http://[::1].evil.com",
        "http:localhost",
        "http:///localhost",
        "http://",
        "http://localhost http://evil.com",
        "http://localhost, http://evil.com",
        "file://user@evil.com",
        "app://a b",
        "app://a\\b",
        "://localhost",
        "",
    ],
)
def test_what_is_no_origin_of_one_local_page_may_not(origin: str) -> None:
    assert not Origins(()).allows(origin, HOST)


@pytest.mark.parametrize(
    "origin", ["http://[::1]", "http://[::1]:3000", "https://[0:0:0:0:0:0:0:1]:3000"]
)
def test_pages_of_the_ipv6_loopback_may_call(origin: str) -> None:
    assert Origins(()).allows(origin, HOST)


def test_an_origin_is_compared_with_the_host_by_parts() -> None:
    origins = Origins(())
    assert origins.allows("http://box.lan", "box.lan:80")
    assert origins.allows("https://box.lan:443", "BOX.lan")
    assert origins.allows("http://[2001:db8::1]:1", "[2001:DB8:0::1]:1")
    assert not origins.allows("http://box.lan", "box.lan:443")
    assert not origins.allows("http://box.lan", "box.lan@evil.com")
    assert not origins.allows("http://box.lan@evil.com", "box.lan@evil.com")


@pytest.mark.parametrize(
    "entry",
    ["a.example", "https://", "https://user@a.example", "https://a.example/x", "http://a b"],
)
def test_an_entry_that_fits_no_origin_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        Origins([entry])


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
        ("https://a.example/", "https://a.example:443", "https://a.example:8443"),
        ("https://*", "https://a.example:8443", "http://a.example"),
        ("https://a.example:8*", "https://a.example:8443", "https://a.example:9443"),
        ("http*://a.example", "http://a.example", "ftp://a.example"),
        ("http://[2001:db8::1]:*", "http://[2001:db8:0::1]:3000", "http://[2001:db8::2]:3000"),
        ("chrome-extension://abc", "chrome-extension://abc", "chrome-extension://abcd"),
        ("https://*.a.example", "https://x.a.example", "https://x@y.a.example"),
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
        "localhost:",
        "localhost.",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]:1",
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
        "evil.com@localhost",
        "evil.com\\.localhost",
        "[::1].evil.com",
        "localhost:0",
        "localhost:65536",
        "localhost:123456",
        "localhost:x",
        "localhost:80:80",
        "localhost:80@evil.com",
        "localhost/evil.com",
        "evil.com#.localhost",
        "evil.com?.localhost",
        "evil.com%2f.localhost",
        "%6cocalhost",
        "\uff4cocalhost",
        "évil.localhost",
        "local host",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "2130706433",
        "127.0.0.1.",
        "evil.0x7f",
        "[::1%eth0]",
        "[fe80::1%25eth0]",
        "[::ffff:8.8.8.8]",
        "[127.0.0.1]",
        "::1",
        "[]",
        ".",
        ".localhost",
        "a..localhost",
        f"{'a' * 254}.localhost",
    ],
)
def test_names_of_other_machines(host: str) -> None:
    assert not is_local_host(host)


# Texts that nearly are addresses: parts that parsers disagree about, in any order.
PIECES = st.sampled_from(
    [
        *("localhost", "LOCALHOST", "evil.com", "127.0.0.1", "0x7f.1", "8.8.8.8", "[::1]", "[::"),
        *(".localhost", ".local", ".", ":", ":80", ":0", ":99999", "@", "/", "\\", "?", "#", "%40"),
        *("%", "%25", " ", "\t", "[", "]", "é", "a", "xn--e1afmkfd", "_", ",", ";", "//"),
    ]
)
TEXTS = st.lists(PIECES, max_size=5).map("".join)
LOCAL_NAMES = ("localhost", "127.0.0.1", "0.0.0.0", "::1")


@settings(max_examples=300, derandomize=True, deadline=None)
@given(TEXTS)
def test_a_host_that_is_let_in_is_local_for_other_parsers(text: str) -> None:
    if not is_local_host(text) or text == "" or text.startswith(":"):
        return
    parts, url = urlsplit(f"http://{text}/"), URL(f"http://{text}/")
    assert parts.username is None
    assert parts.path == url.path == "/"
    name = (parts.hostname or "").removesuffix(".")
    assert name == (url.host or "").removesuffix(".")
    assert name in LOCAL_NAMES or name.endswith((".localhost", ".local"))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.sampled_from(["http://", "https://", "HTTP://", "http:", "http:/"]), TEXTS)
def test_an_origin_that_is_let_in_is_local_for_other_parsers(scheme: str, text: str) -> None:
    origin = scheme + text
    if not Origins(()).allows(origin, HOST):
        return
    parts, url = urlsplit(origin), URL(origin)
    assert parts.username is None
    assert (parts.path, parts.query, parts.fragment) == ("", "", "")
    assert parts.hostname == url.host
    assert parts.hostname in LOCAL_NAMES


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.ip_addresses(v=6), st.integers(1, 65535))
def test_an_ipv6_address_is_the_same_in_every_spelling(address: IPv6Address, port: int) -> None:
    short, long = f"[{address}]:{port}", f"[{address.exploded.upper()}]:{port}"
    assert Authority.parse(short) == Authority.parse(long)
    assert Origins(()).allows(f"http://{short}", long)


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


@pytest.mark.parametrize(
    ("host", "loops"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "/run/o.sock")),
        *((host, True) for host in ("::ffff:127.0.0.1", "0:0:0:0:0:0:0:1", "LOCALHOST")),
        *((host, False) for host in ("", "0.0.0.0", "::", "192.168.1.2", "fe80::1", "box.lan")),
        *((host, False) for host in ("localhost.evil.com", "::ffff:10.0.0.1", "::1%eth0", "a b")),
    ],
)
def test_which_addresses_only_this_machine_reaches(host: str, loops: bool) -> None:
    assert is_loopback(host) is loops


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://127.0.0.1:1@evil.com"}, 403),
        ({"Host": "evil.com@localhost"}, 403),
    ],
)
async def test_the_guard_reads_headers_by_the_grammar(headers: dict[str, str], status: int) -> None:
    async with build(check_host=True) as client:
        assert (await client.get("/", headers=headers)).status == status


async def test_two_origins_are_none_of_one_page() -> None:
    async with build(check_host=True) as client:
        both = CIMultiDict([("Origin", "http://localhost"), ("Origin", "https://evil.example")])
        assert (await client.get("/", headers=both)).status == 403
