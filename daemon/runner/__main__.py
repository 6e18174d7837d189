"""The entry of a runner process: serve the front at the other end of an inherited socket."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import socket
import sys

from ..heap import share_arenas
from ..log_lines import configure_log
from ..protocol import Load
from .connection import FrontConnection
from .package_parts import import_parts
from .sandbox.confinement import confine_runner
from .sandbox.privileges import end_with_parent
from .threads.neighbours import permitted_cpus

ON = ("1", "t", "T", "TRUE", "true", "True")  # as the front reads a flag (CONTRACT 4)


def main() -> None:
    """The only argument is the descriptor of the socket."""
    end_with_parent()
    share_arenas()
    gc.disable()  # until the model is loaded: imports and vocabularies stay
    faulthandler.enable()
    level = logging.DEBUG if os.environ.get("OUTRIDER_DEBUG", "0") in ON else logging.INFO
    configure_log(level, with_time=False)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        front = FrontConnection(connection)
        if load := front.receive_load():
            if load.confined:
                confine_runner(load)
            _serve(front, load)


def _serve(front: FrontConnection, load: Load) -> None:
    """Imported only now: numpy starts a thread, which a sandbox of later would not confine."""
    cpus = permitted_cpus()  # before OpenMP binds this thread to one of them
    import_parts()
    from .worker import Worker

    Worker(front, cpus).run(load)


if __name__ == "__main__":
    main()
