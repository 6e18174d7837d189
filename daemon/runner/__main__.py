"""The entry of a runner process: serve the front at the other end of an inherited socket."""

from __future__ import annotations

import faulthandler
import logging
import socket
import sys

from ..protocol import Load
from .connection import FrontConnection
from .sandbox.confinement import confine_runner
from .sandbox.privileges import end_with_parent


def main() -> None:
    """The only argument is the descriptor of the socket."""
    end_with_parent()
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        front = FrontConnection(connection)
        if load := front.receive_load():
            if load.confined:
                confine_runner(load)
            _serve(front, load)


def _serve(front: FrontConnection, load: Load) -> None:
    """Imported only now: numpy starts a thread, which a sandbox of later would not confine."""
    from .worker import Worker

    Worker(front).run(load)


if __name__ == "__main__":
    main()
