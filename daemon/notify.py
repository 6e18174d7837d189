"""How the service tells systemd its state (the sd_notify protocol)."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notifier:
    """Speaks to the socket that $NOTIFY_SOCKET names; None outside of systemd says nothing.

    Every method returns whether the state was delivered. A manager that went away is no reason
    for a daemon to stop, so nothing here raises.
    """

    address: str | None

    def ready(self) -> bool:
        """The daemon takes requests from now on."""
        return self._send("READY=1")

    def stopping(self) -> bool:
        """The daemon is on its way out."""
        return self._send("STOPPING=1")

    def _send(self, state: str) -> bool:
        if not self.address:
            return False
        # A leading @ stands for the zero byte of an abstract socket.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
                datagram.connect(address)
                datagram.sendall(state.encode())
        except OSError:
            return False
        return True
