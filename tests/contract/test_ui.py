"""The page in a real browser, and what it costs the daemon to be looked at.

The browser is Debian's `chromium`, driven by playwright (pip). Where one of them is missing those
tests are skipped. Screenshots lie in the folder of the test; OUTRIDER_TEST_SHOTS keeps them.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from daemons import Daemon, start_daemon
from scripted_models import HELLO, TALKER, import_scripted
from switches import MAX_SWITCHES, SETTLE_S, WATCH_S, switches

pytestmark = pytest.mark.contract

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or ""
HAS_PLAYWRIGHT = importlib.util.find_spec("playwright") is not None
NEEDS_BROWSER = pytest.mark.skipif(
    not (BROWSER and HAS_PLAYWRIGHT),
    reason="needs a browser: apt-get install chromium, and pip install playwright",
)
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
PATIENCE_MS = 30_000.0
MAX_SHARE = 0.01  # of one core, while a page is open


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with models of chosen answers, none of them loaded."""
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_scripted(root, folder)
    with start_daemon(root, tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # As root Chromium has no sandbox; the only page that it opens is ours.
        started = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("OUTRIDER_TEST_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Tab:
    """One open page, and what went wrong on it."""

    def __init__(self, browser: Any, daemon: Daemon, **options: Any) -> None:
        self._context = browser.new_context(**options)
        self.page = self._context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors: list[str] = []
        self.requested: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.goto(f"{daemon.url}/ui")

    def wait_until_live(self) -> Tab:
        self.page.locator("#connection.live").wait_for()
        return self

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def wait_for_text(self, selector: str, text: str) -> None:
        self.page.locator(selector).filter(has_text=text).wait_for()

    def close(self, daemon: Daemon) -> None:
        """Nothing may have failed, or have been asked of anybody else."""
        self._context.close()
        assert self.errors == []
        assert all(url.startswith(f"{daemon.url}/") for url in self.requested)


@NEEDS_BROWSER
def test_a_model_is_tried_and_its_figures_appear(served: Daemon, browser: Any, shots: Path) -> None:
    tab = Tab(browser, served, viewport=DESK).wait_until_live()
    tab.page.locator("#models-empty").wait_for()
    tab.page.locator("#trial-model").select_option(f"{TALKER}:latest")
    tab.page.locator("#trial-prompt").fill("<b>hello</b>")
    tab.page.locator("#trial-prompt").press("Control+Enter")
    tab.wait_for_text("#trial-status", "The texts are the same.")
    assert tab.text("#pane-on-text") == HELLO == tab.text("#pane-off-text")
    assert "no drafts" in tab.text("#pane-off-figures")
    tab.wait_for_text("#models h3", f"{TALKER}:latest")
    tab.page.locator("#requests tr").nth(2).wait_for()
    assert "POST /api/chat" in tab.text("#requests tr:first-child")
    assert "weights" in tab.text("#models .legend >> nth=0")
    tab.page.screenshot(path=shots / "light.png", full_page=True)
    tab.page.get_by_role("button", name=f"Unload {TALKER}:latest").click()
    tab.page.locator("#models-empty").wait_for()
    tab.close(served)


@NEEDS_BROWSER
def test_a_phone_in_the_dark_needs_no_scrolling_to_the_side(
    served: Daemon, browser: Any, shots: Path
) -> None:
    tab = Tab(browser, served, viewport=PHONE, color_scheme="dark").wait_until_live()
    served.post("/api/generate", {"model": TALKER})
    tab.wait_for_text("#models h3", f"{TALKER}:latest")
    assert tab.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    colour = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, colour.strip("rgb()").split(","))) < 64
    tab.page.screenshot(path=shots / "phone.png", full_page=True)
    tab.close(served)


@NEEDS_BROWSER
def test_a_model_is_deleted_after_a_question_which_escape_answers_with_no(
    served: Daemon, browser: Any
) -> None:
    assert served.post("/api/copy", {"source": TALKER, "destination": "other"})[0] == 200
    tab = Tab(browser, served, viewport=DESK).wait_until_live()
    delete = tab.page.get_by_role("button", name="Delete other:latest")
    delete.focus()
    tab.page.keyboard.press("Enter")
    tab.page.locator("#question").wait_for()
    assert tab.text("#question-title") == "Delete other:latest?"
    tab.page.keyboard.press("Escape")
    tab.page.locator("#question").wait_for(state="hidden")
    assert tab.page.evaluate("document.activeElement.getAttribute('aria-label')") == (
        "Delete other:latest"
    )
    delete.click()
    tab.page.locator("#question-yes").click()
    tab.wait_for_text("#pull-status", "other:latest is deleted.")
    assert served.post("/api/show", {"model": "other"})[0] == 404
    tab.close(served)


@NEEDS_BROWSER
def test_a_pull_that_fails_says_why(served: Daemon, browser: Any) -> None:
    tab = Tab(browser, served, viewport=DESK).wait_until_live()
    tab.page.locator("#pull-name").fill("https://127.0.0.1:9/nobody/there")
    tab.page.locator("#pull-name").press("Enter")
    tab.wait_for_text("#pull-status", "https://127.0.0.1:9/nobody/there: ")
    assert tab.page.locator("#pull-start").is_enabled()
    tab.close(served)


@NEEDS_BROWSER
def test_every_control_is_reached_by_the_keyboard_and_seen(served: Daemon, browser: Any) -> None:
    tab = Tab(browser, served, viewport=DESK).wait_until_live()
    seen, outlines = [], []
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        seen.append(tab.page.evaluate("document.activeElement.id"))
        outlines.append(tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
        if seen[-1] == "doctor-run":
            break
    order = ["trial-model", "trial-tokens", "trial-temperature", "trial-prompt", "trial-run"]
    order += ["trial-compare", "pull-name", "pull-start", "doctor-run"]
    assert [name for name in seen if name in order] == order
    assert set(outlines) <= {"solid", "auto"}
    tab.close(served)


@NEEDS_BROWSER
def test_a_key_is_asked_for_and_kept_for_this_tab(browser: Any, tmp_path: Path) -> None:
    root = tmp_path / "models"
    with start_daemon(root, tmp_path, env={"OUTRIDER_API_KEY": "tester:the-secret"}) as locked:
        tab = Tab(browser, locked, viewport=DESK)
        for key in ("wrong", "the-secret"):
            tab.page.locator("#key").fill(key)
            tab.page.keyboard.press("Enter")
            if key == "wrong":
                tab.wait_for_text("#key-text", "does not know this key")
        tab.wait_until_live()
        tab.page.locator("#store-empty").wait_for()
        tab.page.reload()
        tab.wait_until_live()
        assert len(tab.errors) == 2, "one before any key, one with the wrong one"
        assert all("401" in error for error in tab.errors)
        tab.errors.clear()
        tab.close(locked)


@NEEDS_BROWSER
def test_a_page_that_is_closed_lets_the_daemon_rest(served: Daemon, browser: Any) -> None:
    tab = Tab(browser, served, viewport=DESK).wait_until_live()
    tab.close(served)
    front = psutil.Process(served.process.pid)
    time.sleep(SETTLE_S)
    before = switches(front)
    time.sleep(WATCH_S)
    assert switches(front) - before <= MAX_SWITCHES


def test_being_looked_at_costs_little(served: Daemon, measurements: list[str]) -> None:
    """With a loaded model and as many kept requests as there may be."""
    body = {"model": TALKER, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    for _ in range(50):
        assert served.post("/api/chat", body)[0] == 200
    (model,) = served.get("/api/snapshot")[1]["models"]
    assert model["decoded_tokens"] >= 50
    assert model["speculation"]["verify_costs"], "what a runner has measured stays known"
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc)
    connection.request("GET", "/api/live")
    answer = connection.getresponse()
    front = psutil.Process(served.process.pid)
    answer.readline()
    start_s, start = time.monotonic(), front.cpu_times()
    events = 0
    while events < 10:
        events += answer.readline().startswith(b"data: ")
    passed_s, end = time.monotonic() - start_s, front.cpu_times()
    connection.close()
    share = (end.user + end.system - start.user - start.system) / passed_s
    measurements.append(f"a page that is open takes {share:.2%} of a core ({events} snapshots)")
    assert 8 < passed_s < 15
    assert share <= MAX_SHARE
