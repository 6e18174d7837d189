"""What systemd hears while the daemon serves: status lines, and a watchdog that is fed or not."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from outrider.daemon.heartbeat import beat, describe
from outrider.daemon.notify import ServiceManager

pytestmark = pytest.mark.unit


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.setblocking(False)
        yield bound


async def hear(systemd: socket.socket) -> str:
    loop = asyncio.get_running_loop()
    return (await asyncio.wait_for(loop.sock_recv(systemd, 1000), 5)).decode()


def test_the_status_is_a_sentence_for_people() -> None:
    assert describe("h:1", 0, 0) == "serving on h:1; no model loaded, no request running"
    assert describe("h:1", 1, 1) == "serving on h:1; 1 model loaded, 1 request running"
    assert describe("h:1", 2, 3) == "serving on h:1; 2 models loaded, 3 requests running"


async def test_the_watchdog_is_fed_only_while_nothing_is_stuck(
    systemd: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    stuck: list[str] = []
    manager = ServiceManager(systemd.getsockname(), watchdog_s=0.03)
    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(beat(manager, lambda: "fine", lambda: stuck))
        assert await hear(systemd) == "STATUS=fine\nWATCHDOG=1"
        assert await hear(systemd) == "WATCHDOG=1"
        stuck.append("llama")
        while (said := await hear(systemd)) == "WATCHDOG=1":
            pass
        assert said == "STATUS=stuck: llama"
        stuck.clear()
        assert await hear(systemd) == "STATUS=fine\nWATCHDOG=1"
        task.cancel()
    assert caplog.text.count("no sign of progress from llama") == 1


async def test_without_a_watchdog_only_changes_are_told(systemd: socket.socket) -> None:
    task = asyncio.create_task(beat(ServiceManager(systemd.getsockname()), lambda: "on", list))
    assert await hear(systemd) == "STATUS=on"
    task.cancel()


def test_the_manager_is_found_by_its_variables() -> None:
    found = ServiceManager.find({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1500000"}, 1)
    assert found == ServiceManager("/n", 1.5)
    other = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "2"}
    assert ServiceManager.find(other, 1) == ServiceManager("/n", 0.0)
    assert ServiceManager.find({}, 1) == ServiceManager()
    assert not ServiceManager().say("READY=1")


def test_a_stop_and_a_reload_as_systemd_expects_them(systemd: socket.socket) -> None:
    manager = ServiceManager(systemd.getsockname())
    manager.say_stopping("stopping", 45.5)
    manager.say_stopping("stopping", float("inf"))
    manager.say_reloading()
    said = [systemd.recv(1000).decode().splitlines() for _ in range(3)]
    assert said[0] == ["STOPPING=1", "STATUS=stopping", "EXTEND_TIMEOUT_USEC=45500000"]
    assert said[1][-1] == "EXTEND_TIMEOUT_USEC=86400000000"
    assert said[2][0] == "RELOADING=1"
    assert said[2][1].startswith("MONOTONIC_USEC=")
