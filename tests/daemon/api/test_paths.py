"""The redirect of a trailing slash stays on this host, whatever the path is."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from front import Front
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.api.paths import tidy_target
from yarl import URL

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/tags/", "/api/tags"),
        ("/api/tags/?a=b&c=%20", "/api/tags?a=b&c=%20"),
        ("//", "/"),
        ("//evil.com/", "/evil.com"),
        ("///evil.com//", "/evil.com"),
        ("/\\evil.com/", "/evil.com"),
        ("/\\/\\evil.com/", "/evil.com"),
        ("/a\\b/", "/a%5Cb"),
        ("/%5cevil.com/", "/%5cevil.com"),
        ("/%0d%0aSet-Cookie:x/", "/%0d%0aSet-Cookie:x"),
        ("/a/?x=%0d%0aY&z=\\", "/a?x=%0d%0aY&z=%5C"),
    ],
)
def test_where_a_trailing_slash_leads(path: str, target: str) -> None:
    path, _, query = path.partition("?")
    assert tidy_target(URL.build(path=path, query_string=query, encoded=True)) == target


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(["/", "\\", "evil.com", "%2f", "%5c", "%0a", ".", ":", "@", "?"])))
def test_no_path_leads_to_another_host(pieces: list[str]) -> None:
    path, _, query = "".join(pieces).partition("?")
    target = tidy_target(URL.build(path=f"/{path}/", query_string=query, encoded=True))
    # Browsers read a backslash as a slash (WHATWG URL 4.4).
    browser = urlsplit(urljoin("http://here.example/x", target.replace("\\", "/")))
    assert browser.netloc == "here.example"
    assert target.isascii()
    assert target.isprintable()


@pytest.mark.parametrize("path", ["/api/%0d%0aX", "/%00", "/%ff", "/v1/models/%0a", "/%zz"])
async def test_every_malformed_path_gets_an_answer(front: Front, path: str) -> None:
    for end in ("", "/"):
        url = URL(front.url + path + end, encoded=True)
        async with front.client.session.get(url, allow_redirects=False) as answer:
            assert answer.status == (301 if end else 404)
