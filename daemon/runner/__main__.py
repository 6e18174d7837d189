"""The entry of a runner process: serve the front at the other end of an inherited socket."""

from __future__ import annotations

import faulthandler
import logging
import socket
import sys

from ..log_lines import configure_log
from .worker import FrontConnection, Worker


def main() -> None:
    """The only argument is the descriptor of the socket."""
    faulthandler.enable()
    configure_log(logging.INFO, with_time=False)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        Worker(FrontConnection(connection)).run()


if __name__ == "__main__":
    main()
