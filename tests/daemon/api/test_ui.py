"""The page as files: what is served, under which policy, and whether its parts fit together."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from front import Front, start_front
from outrider.daemon.api import ui
from pydantic import SecretStr

pytestmark = pytest.mark.unit

FOLDER = Path(ui.__file__).parents[1] / "ui"
VOID = {"meta", "link", "input", "br", "hr", "img"}
CONTROLS = {"input", "select", "textarea", "progress"}
OUTSIDE = re.compile(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[\w-]+\.\w", re.IGNORECASE)
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
IMPORT = re.compile(r'from "\./([\w-]+\.js)"')
LONGEST_LINE = 200  # characters; the files are read as they are


class Page(HTMLParser):
    """The elements of a page, which have to be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, (tag, self.getpos())

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attrs for tag, attrs in self.elements if tag in tags]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page((FOLDER / "index.html").read_text("utf-8"))


def scripts() -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.js")}


async def test_every_file_is_served_under_the_policy(front: Front) -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(ui.NAMES)
    for path in sorted(ui.UI_PATHS):
        async with front.client.get(path) as answer:
            name = path.removeprefix("/ui").lstrip("/") or ui.PAGE
            assert (answer.status, await answer.read()) == (200, (FOLDER / name).read_bytes())
            assert answer.content_type == ui.KINDS[name.rpartition(".")[2]]
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            tag = {"If-None-Match": answer.headers["ETag"]}
        async with front.client.get(path, headers=tag) as answer:
            assert (answer.status, await answer.read()) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/ui/nothing.js", "/ui/index.html", "/ui/..%2Fapp.py", "/ui/%2e%2e/app.py"]
)
async def test_nothing_else_is_served(front: Front, path: str) -> None:
    assert (await front.send("GET", path))[0] == 404


async def test_the_page_needs_no_key_and_its_data_do(header_store: Path) -> None:
    async with start_front(header_store, api_key=SecretStr("tester:the-secret")) as locked:
        for path in sorted(ui.UI_PATHS):
            assert (await locked.send("GET", path))[0] == 200, path
        for path in ("/api/live", "/api/snapshot", "/api/tags", "/ui/nothing.js"):
            assert (await locked.send("GET", path))[0] == 401, path
        assert (await locked.send("POST", "/api/doctor"))[0] == 401
        assert (await locked.send("POST", "/ui"))[0] == 401


async def test_a_trailing_slash_leads_to_the_page(front: Front) -> None:
    async with front.client.get("/ui/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, "/ui")


def test_nothing_comes_from_outside() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text("utf-8")
        assert not OUTSIDE.search(text), path.name
        assert max(map(len, text.splitlines())) <= LONGEST_LINE or path.suffix != ".js", path.name


def test_the_page_has_nothing_inline_that_the_policy_forbids(page: Page) -> None:
    assert page.all("style") == []
    assert all("src" in script for script in page.all("script"))
    inline = [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert inline == []
    assert not any("style" in attrs for _, attrs in page.elements)


def test_what_the_page_links_to_is_served(page: Page) -> None:
    links = [attrs.get("href", "") for attrs in page.all("link")]
    links += [attrs["src"] for attrs in page.all("script")]
    assert {f"/{link}" for link in links} <= ui.UI_PATHS


def test_ids_are_unique_and_references_lead_somewhere(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = [
        reference
        for _, attrs in page.elements
        for name in ("for", "aria-labelledby", "aria-describedby")
        for reference in attrs.get(name, "").split()
    ]
    anchors = [a["href"].removeprefix("#") for a in page.all("a") if a["href"].startswith("#")]
    assert {*named, *anchors} <= set(ids)


def test_every_control_has_a_label(page: Page) -> None:
    labelled = {label["for"] for label in page.all("label")}
    for control in page.all(*CONTROLS):
        assert control["id"] in labelled or control.get("aria-label"), control
    for button in page.all("button"):
        assert button.get("type") in ("button", "submit"), button


def test_the_page_names_its_language_and_fits_a_phone(page: Page) -> None:
    (html,) = page.all("html")
    assert html["lang"] == "en"
    assert any("width=device-width" in meta.get("content", "") for meta in page.all("meta"))
    assert "prefers-color-scheme: dark" in (FOLDER / "page.css").read_text("utf-8")


def test_texts_never_become_markup() -> None:
    for name, text in scripts().items():
        assert not MARKUP.search(text), name


def test_scripts_find_their_elements_and_each_other(page: Page) -> None:
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    files = scripts()
    for name, text in files.items():
        used = set(re.findall(r'byId\("([\w-]+)"\)', text))
        assert used <= ids, name
        assert set(IMPORT.findall(text)) <= files.keys(), name
