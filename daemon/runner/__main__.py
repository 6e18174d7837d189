"""The entry of a runner process: serve the front at the other end of an inherited socket."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import sys

from ..log_lines import configure_log
from .package_parts import import_parts
from .threads.neighbours import permitted_cpus

ON = ("1", "t", "T", "TRUE", "true", "True")  # as the front reads a flag (CONTRACT 4)


def main() -> None:
    """The only argument is the descriptor of the socket."""
    faulthandler.enable()
    level = logging.DEBUG if os.environ.get("OUTRIDER_DEBUG", "0") in ON else logging.INFO
    configure_log(level, with_time=False)
    cpus = permitted_cpus()  # before OpenMP binds this thread to one of them
    import_parts()
    from .worker import FrontConnection, Worker

    with socket.socket(fileno=int(sys.argv[1])) as connection:
        Worker(FrontConnection(connection), cpus).run()


if __name__ == "__main__":
    main()
