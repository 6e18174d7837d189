"""How does the service report its state to systemd (the sd_notify protocol)?"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

MICROSECONDS = 1_000_000  # in a second
DAY_S = 86_400.0


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


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """systemd, or whoever else started the daemon and wants to hear from it; else nobody."""

    address: str | None = None  # $NOTIFY_SOCKET
    watchdog_s: float = 0.0  # within which a sign of life has to come; 0: none is expected

    @classmethod
    def find(cls, environ: Mapping[str, str], pid: int) -> Self:
        """By the variables of sd_notify(3) and sd_watchdog_enabled(3)."""
        period = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog_s = int(period) / MICROSECONDS if period.isdecimal() and is_ours else 0.0
        return cls(environ.get("NOTIFY_SOCKET") or None, watchdog_s)

    def say(self, *states: str) -> bool:
        """Send states in one message; returns whether it was delivered."""
        return notify(self.address, "\n".join(states))

    def say_ready(self, status: str) -> None:
        self.say("READY=1", f"STATUS={status}")

    def say_reloading(self) -> None:
        """READY has to follow; systemd wants to know when this was said."""
        self.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def say_stopping(self, status: str, limit_s: float) -> None:
        """The stop may take `limit_s` (at most a day), even if the unit allows less."""
        limit = f"EXTEND_TIMEOUT_USEC={int(min(limit_s, DAY_S) * MICROSECONDS)}"
        self.say("STOPPING=1", f"STATUS={status}", limit)
