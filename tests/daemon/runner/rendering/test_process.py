"""Rendering in a child process: what it costs a template to misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from outrider.daemon.chat.conversation import Conversation, Message
from outrider.daemon.chat.format import ChatFormat
from outrider.daemon.errors import BadRequest
from outrider.daemon.runner.rendering.messages import RenderRequest
from outrider.daemon.runner.rendering.process import RENDER_TIMEOUT_S, RenderPool, is_overdue

pytestmark = pytest.mark.contract

PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def request(template: str, text: str = "hi") -> RenderRequest:
    return RenderRequest(ChatFormat(template=template), Conversation((Message("user", text),)))


@pytest.fixture(scope="module")
def pool() -> Iterator[RenderPool]:
    pool = RenderPool(2)
    yield pool
    pool.close()


def test_a_prompt_comes_back_whole(pool: RenderPool) -> None:
    text = "ä\0 " * 100_000
    assert pool(request(PLAIN, text)) == text


def test_a_template_without_end_is_stopped_while_others_render(pool: RenderPool) -> None:
    faults: list[BadRequest] = []

    def loop() -> None:
        with pytest.raises(BadRequest, match="does not come to an end") as caught:
            pool(request(ENDLESS))
        faults.append(caught.value)

    start_s = time.monotonic()
    thread = threading.Thread(target=loop)
    thread.start()
    while not faults:
        assert pool(request(PLAIN)) == "hi"
        time.sleep(0.05)
    thread.join()
    assert time.monotonic() - start_s >= RENDER_TIMEOUT_S
    assert pool(request(PLAIN)) == "hi"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10**15 }}",
        "{{ 'a' * 10**9 * 9 }}",
        "{% set ns = namespace(t='a' * 1000) %}{% for i in range(99999) %}"
        "{% set ns.t = ns.t + ns.t %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 100000 }}{% endfor %}",
    ],
)
def test_a_template_that_multiplies_text_is_refused(pool: RenderPool, template: str) -> None:
    with pytest.raises(BadRequest, match=r"template"):
        pool(request(template))
    assert pool(request(PLAIN)) == "hi"


@pytest.mark.parametrize(
    ("took_s", "cpu_s", "expected"),
    [
        (1.9, 1.9, False),
        (2.1, 2.1, True),
        (2.1, 0.3, False),  # a busy machine
        (5.0, 0.9, False),
        (5.0, 1.1, True),  # it hangs beside others that do
        (19.9, 0.9, False),
        (20.1, 0.0, True),
    ],
)
def test_a_template_gets_a_second_of_a_core(took_s: float, cpu_s: float, expected: bool) -> None:
    assert is_overdue(took_s, cpu_s, RENDER_TIMEOUT_S) == expected
