"""The sd_notify protocol over real datagram sockets."""

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from outrider.daemon.notify import notify

pytestmark = pytest.mark.unit


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A bound socket and what $NOTIFY_SOCKET would say for it."""
    path = request.param == "path"
    name = str(tmp_path / "notify") if path else f"@outrider-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(name if path else "\0" + name[1:])
        bound.settimeout(5)
        yield bound, name


def test_states_arrive(manager: tuple[socket.socket, str]) -> None:
    bound, address = manager
    assert notify(address, "READY=1")
    assert notify(address, "STOPPING=1")
    said = [bound.recv(100).decode() for _ in range(2)]
    assert said == ["READY=1", "STOPPING=1"]


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody-listens", "vsock:2:1"])
def test_without_a_manager_nothing_is_delivered_and_nothing_raises(address: str | None) -> None:
    assert notify(address, "READY=1") is False
