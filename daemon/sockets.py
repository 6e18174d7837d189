"""On which sockets does the daemon listen: on those that a service manager hands over, or its own?

systemd passes listening sockets as the descriptors from 3 on and says how many in $LISTEN_FDS
(sd_listen_fds(3)). It keeps them open while the daemon restarts, so that connections wait in them.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping

FIRST_FD = 3  # SD_LISTEN_FDS_START
BACKLOG = 4096  # connections that may wait; the kernel lowers it to net.core.somaxconn
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def take_sockets(environ: MutableMapping[str, str], pid: int) -> tuple[socket.socket, ...]:
    """The TCP sockets that were passed to this process; empty if there are none.

    The variables are removed, so that no child takes the sockets for its own. Raises OSError for a
    descriptor that is no socket.
    """
    owner, count, _ = (environ.pop(name, "") for name in VARIABLES)
    if owner != str(pid) or not count.isdecimal():
        return ()
    given = [socket.socket(fileno=FIRST_FD + i) for i in range(int(count))]
    for each in given:
        each.set_inheritable(False)
        each.setblocking(False)
    internet = (socket.AF_INET, socket.AF_INET6)
    return tuple(s for s in given if s.family in internet and s.type == socket.SOCK_STREAM)


def address_of(sockets: tuple[socket.socket, ...]) -> str:
    """Host and port that the sockets listen on; of several, one that other machines can reach."""
    names = [(sock.family, *sock.getsockname()[:2]) for sock in sockets]
    local = ("127.", "::1")
    family, host, port = min(names, key=lambda name: name[1].startswith(local))
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
