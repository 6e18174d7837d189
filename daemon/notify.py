"""How the daemon reports its state to systemd (the sd_notify protocol)."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notifier:
    """Sends states to the socket `address` ($NOTIFY_SOCKET); without systemd it is None.

    Every method returns whether the state was delivered. None raises: the daemon does not depend on
    a service manager.
    """

    address: str | None

    def ready(self) -> bool:
        """The daemon accepts requests from now on."""
        return self._send("READY=1")

    def stopping(self) -> bool:
        """The daemon is shutting down."""
        return self._send("STOPPING=1")

    def _send(self, state: str) -> bool:
        if not self.address:
            return False
        # sd_notify(3): a leading @ stands for the zero byte of an abstract socket.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
                datagram.connect(address)
                datagram.sendall(state.encode())
        except OSError:
            return False
        return True
