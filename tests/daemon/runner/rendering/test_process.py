"""Rendering in a child process: what it costs a template to misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from outrider.daemon.chat.conversation import Conversation, Message, ToolCall
from outrider.daemon.chat.format import GO, ChatFormat
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


def test_what_is_nested_too_deeply_for_a_template_is_refused(pool: RenderPool) -> None:
    arguments: dict[str, object] = {}
    for _ in range(300):
        arguments = {"a": arguments}
    message = Message("assistant", tool_calls=(ToolCall("f", arguments),))
    chat_format = ChatFormat(template="{{ range .Messages }}{{ .ToolCalls }}{{ end }}", language=GO)
    with pytest.raises(BadRequest, match="nested too deeply"):
        pool(RenderRequest(chat_format, Conversation((message,))))


RUNNER = """
import os, sys, threading, time
import psutil
from test_process import ENDLESS, request
from outrider.daemon.runner.rendering.process import RenderPool
pool = RenderPool(1)
threading.Thread(target=pool, args=(request(ENDLESS),), daemon=True).start()
(child,) = psutil.Process().children()
while child.cpu_times().user < 0.5:
    time.sleep(0.05)
time.sleep(0.5)
print(child.pid)
sys.stdout.flush()
os._exit(0)
"""


def test_no_process_is_left_when_the_runner_ends_amid_a_template_that_hangs() -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    ran = subprocess.run(
        [sys.executable, "-c", RUNNER], env=environment, stdout=subprocess.PIPE, check=True
    )
    child = int(ran.stdout)
    deadline_s = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s, "it is still there"
        time.sleep(0.05)
