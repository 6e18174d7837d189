"""CONTRACT 4, fact by fact: origins and hosts. The variables are tested in test_config.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from front import Front, start_front

pytestmark = pytest.mark.unit

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Max-Age": "43200",
}
ASKED_HEADERS = (
    *("Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With"),
    *("OpenAI-Beta", "x-stainless-lang", "x-stainless-timeout"),
)


async def origin_status(front: Front, origin: str) -> int:
    async with front.client.get("/api/tags", headers={"Origin": origin}) as got:
        if got.status == 200:
            assert got.headers["Access-Control-Allow-Origin"] in (origin, "*")
        else:
            assert await got.read() == b""
        assert "Access-Control-Allow-Credentials" not in got.headers
        return got.status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost", 200),
        ("https://localhost:3000", 200),
        ("http://127.0.0.1:1", 200),
        ("https://0.0.0.0", 200),
        ("app://obsidian.md", 200),
        ("file:///x", 200),
        ("tauri://localhost", 200),
        ("vscode-webview://a", 200),
        ("vscode-file://vscode-app", 200),
        ("https://example.com", 403),
        ("http://localhost.example.com", 403),
        ("https://example.com/localhost", 403),
        ("chrome-extension://abc", 403),
        ("null", 403),
    ],
)
async def test_4_the_origins_that_are_allowed(front: Front, origin: str, status: int) -> None:
    assert await origin_status(front, origin) == status


async def test_4_an_origin_that_is_the_host_passes(front: Front) -> None:
    assert await origin_status(front, front.url) == 200


async def test_4_without_an_origin_there_are_no_headers(front: Front) -> None:
    async with front.client.get("/api/tags") as got:
        assert not [name for name in got.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (("https://*.example.com",), "https://a.example.com", 200),
        (("https://*.example.com",), "https://example.org", 403),
        (("chrome-extension://*",), "chrome-extension://abc", 200),
        (("https://a.example", "https://b.example"), "https://b.example", 200),
        (("*",), "https://anything.example", 200),
    ],
)
async def test_4_further_origins(
    facts_store: Path, origins: tuple[str, ...], origin: str, status: int
) -> None:
    async with start_front(facts_store, origins=origins) as front:
        assert await origin_status(front, origin) == status


async def test_4_a_star_is_the_header(facts_store: Path) -> None:
    async with start_front(facts_store, origins=("*",)) as front:
        headers = {"Origin": "https://anything.example"}
        async with front.client.get("/api/tags", headers=headers) as got:
            assert got.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PUT"])
async def test_4_a_disallowed_origin_is_403_for_every_method(front: Front, method: str) -> None:
    headers = {"Origin": "https://example.com"}
    async with front.client.request(method, "/api/chat", headers=headers) as got:
        assert (got.status, await got.read()) == (403, b"")


async def test_4_the_preflight(front: Front) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    async with front.client.options("/api/chat", headers=headers) as got:
        assert got.status == 204
        assert got.headers["Access-Control-Allow-Origin"] == headers["Origin"]
        assert {name: got.headers[name] for name in PREFLIGHT} == PREFLIGHT
        assert set(ASKED_HEADERS) <= set(got.headers["Access-Control-Allow-Headers"].split(","))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:11434", 200),
        ("127.0.0.1", 200),
        ("[::1]:1", 200),
        ("10.0.0.9", 200),
        ("192.168.1.2:80", 200),
        ("0.0.0.0", 200),
        ("my.localhost", 200),
        ("printer.local", 200),
        ("host.docker.internal", 200),
        ("example.com", 403),
        ("8.8.8.8", 403),
        ("localhost.example.com", 403),
    ],
)
async def test_4_the_host_is_checked_on_loopback(front: Front, host: str, status: int) -> None:
    async with front.client.get("/api/tags", headers={"Host": host}) as got:
        assert got.status == status
        assert status == 200 or await got.read() == b""


async def test_4_options_with_an_accepted_host(front: Front) -> None:
    async with front.client.options("/api/tags") as got:
        assert got.status == 204


async def test_4_no_host_is_checked_on_other_addresses(facts_store: Path) -> None:
    headers = {"Host": "example.com"}
    async with (
        start_front(facts_store, address="0.0.0.0") as front,
        front.client.get("/api/tags", headers=headers) as got,
    ):
        assert got.status == 200
