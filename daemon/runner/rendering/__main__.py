"""The entry of a rendering process: requests on stdin, replies on stdout, until stdin ends."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys

import msgspec

from ...errors import BadRequest, OutriderError, RunnerError
from ...log_lines import configure_log
from ...protocol import FrameReader
from ..sandbox.confinement import confine_renderer
from ..sandbox.privileges import end_with_parent
from .local import LocalRenderer
from .messages import UNCONFINED, RenderReply, RenderRequest, encode

MEMORY_BYTES = 1 << 30  # of addresses; Python with Jinja and Go templates takes 0.1 GiB
# Seconds after which the process ends itself, should the runner, which ends it after 20 at the
# latest, be gone: where no signal tells of that.
ALARM_S = 30
READ_BYTES = 1 << 16
INTERNAL = "internal error: the prompt cannot be rendered; the log of the daemon has the cause"
TOO_DEEP = "the messages or the tools are nested too deeply for the model's template"
NO_MEMORY = "the model's template needs too much memory for these messages"

log = logging.getLogger("outrider.runner")


def main() -> None:
    """Serve until the runner closes the pipe."""
    configure_log(logging.INFO, with_time=False)
    end_with_parent()
    _limit_memory()
    if UNCONFINED not in sys.argv[1:]:
        confine_renderer()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    render, frames = LocalRenderer(), FrameReader()
    decoder = msgspec.msgpack.Decoder(RenderRequest)
    out = sys.stdout.fileno()
    with contextlib.suppress(BrokenPipeError):  # the runner is gone
        _write(out, encode(RenderReply()))  # says that the interpreter is up
        while data := os.read(sys.stdin.fileno(), READ_BYTES):
            for body in frames.feed(data):
                signal.alarm(ALARM_S)
                _write(out, encode(_reply(render, decoder.decode(body))))
                signal.alarm(0)


def _reply(render: LocalRenderer, request: RenderRequest) -> RenderReply:
    try:
        return RenderReply(render(request))
    except OutriderError as error:
        return RenderReply(str(error), type(error).__name__)
    except RecursionError:
        return RenderReply(TOO_DEEP, BadRequest.__name__)
    except MemoryError:
        return RenderReply(NO_MEMORY, BadRequest.__name__)
    except Exception:
        log.exception("a prompt cannot be rendered")
        return RenderReply(INTERNAL, RunnerError.__name__)


def _limit_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux" and (hard == resource.RLIM_INFINITY or hard > MEMORY_BYTES):
        resource.setrlimit(resource.RLIMIT_AS, (min(MEMORY_BYTES, max(soft, MEMORY_BYTES)), hard))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()
