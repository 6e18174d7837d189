"""The entry of a runner process: serve the front at the other end of an inherited socket."""

from __future__ import annotations

import faulthandler
import logging
import socket
import sys

from .package_parts import import_parts


def main() -> None:
    """The only argument is the descriptor of the socket."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    import_parts()
    from .worker import FrontConnection, Worker

    with socket.socket(fileno=int(sys.argv[1])) as connection:
        Worker(FrontConnection(connection)).run()


if __name__ == "__main__":
    main()
