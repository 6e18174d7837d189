"""How does the service report its state to systemd (the sd_notify protocol)?"""

from __future__ import annotations

import socket


def notify(address: str | None, state: str) -> bool:
    """Send a state, such as READY=1, to the socket that $NOTIFY_SOCKET names.

    Returns whether it was delivered: a service manager that is absent does not stop the daemon.
    """
    if not address:
        return False
    # A leading @ stands for the zero byte of an abstract socket.
    address = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
            datagram.connect(address)
            datagram.sendall(state.encode())
    except OSError:
        return False
    return True
