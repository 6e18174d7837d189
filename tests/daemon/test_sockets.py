"""Listening sockets that a service manager hands over: which are taken, and where they listen."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from outrider.daemon.sockets import address_of, take_sockets

pytestmark = pytest.mark.unit

# As systemd starts a service: the socket is descriptor 3, and the variables name the process.
TAKE = """
import os, sys
from outrider.daemon.sockets import FIRST_FD, take_sockets
os.dup2(int(sys.argv[1]), FIRST_FD, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
found = take_sockets(os.environ, os.getpid())
left = sorted(name for name in os.environ if name.startswith("LISTEN"))
print([s.getsockname()[1] for s in found], [os.get_inheritable(s.fileno()) for s in found], left)
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound


def test_a_socket_is_taken_and_kept_from_children(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", TAKE, str(listener.fileno())],
        env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "outrider.socket"},
        pass_fds=[listener.fileno()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"[{port}] [False] []"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "41", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "42", "LISTEN_FDS": ""},
        {"LISTEN_PID": "42", "LISTEN_FDS": "0"},
        {"LISTEN_PID": "42", "LISTEN_FDS": "-1"},
    ],
)
def test_sockets_of_others_and_broken_numbers_are_left_alone(variables: dict[str, str]) -> None:
    assert take_sockets(variables, 42) == ()
    assert variables == {}


def test_the_address_is_one_that_others_can_reach(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert address_of((listener,)) == f"127.0.0.1:{port}"
    with socket.create_server(("0.0.0.0", 0)) as wide:
        assert address_of((listener, wide)) == f"0.0.0.0:{wide.getsockname()[1]}"


def test_an_address_of_ipv6_is_bracketed() -> None:
    try:
        six = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with six:
        assert address_of((six,)) == f"[::1]:{six.getsockname()[1]}"
