"""What one runner process does: load a model, then decode for the front until it goes away."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator

import msgspec

from ..errors import OutriderError
from ..protocol import (
    Cancel,
    Delta,
    Done,
    Failed,
    Frames,
    Load,
    Loading,
    Ready,
    Step,
    Submit,
    ToFront,
    ToRunner,
    encode,
)
from .engine import Engine
from .intake import Intake
from .llama import load_model

log = logging.getLogger("outrider.runner")


class Wire:
    """The socket to the front; both threads write, one reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()

    def send(self, message: ToFront) -> None:
        frame = encode(message)
        with self._lock:
            self._socket.sendall(frame)

    def messages(self) -> Iterator[ToRunner]:
        """Messages until the front closes the socket."""
        frames = Frames()
        decoder = msgspec.msgpack.Decoder(ToRunner)
        while data := self._socket.recv(1 << 18):
            for body in frames.feed(data):
                yield decoder.decode(body)


class Runner:
    """Two threads: this one decodes, the other takes in requests."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._messages = wire.messages()

    def run(self) -> None:
        load = next(self._messages)
        assert isinstance(load, Load)
        threading.Thread(target=self._take_in, name="intake", daemon=True).start()
        try:
            loaded = load_model(load, lambda fraction: self._wire.send(Loading(fraction)))
            self._intake = Intake(loaded.model, load.num_ctx)
        except OutriderError as error:
            self._wire.send(Failed(None, type(error).__name__, str(error)))
            return
        self._engine = Engine(loaded.model, loaded.context, load, self._wire.send)
        self._wire.send(Ready(loaded.log.size_bytes, loaded.log.size_vram_bytes))
        self._engine.run()

    def _take_in(self) -> None:
        """Until the front is gone; then nobody needs this process, whatever it is doing.

        The front sends nothing between `Load` and `Ready`, so engine and intake are there.
        """
        code = 1
        try:
            for message in self._messages:
                if isinstance(message, Submit):
                    self._submit(message)
                elif isinstance(message, Cancel):
                    self._engine.cancel(message)
            code = 0
        except ConnectionError:
            code = 0
        except Exception as error:
            log.exception("a request could not be taken in")
            self._wire.send(Failed(None, type(error).__name__, str(error)))
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _submit(self, submit: Submit) -> None:
        try:
            if submit.render_only:
                rendered = Delta(submit.id, self._intake.render(submit), done=Done("render"))
                self._wire.send(Step((rendered,)))
            else:
                self._engine.submit(self._intake.prepare(submit))
        except OutriderError as error:
            self._wire.send(Failed(submit.id, type(error).__name__, str(error)))


def main() -> None:
    """Serve the front at the other end of the socket whose descriptor is the only argument."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        Runner(Wire(connection)).run()


if __name__ == "__main__":
    main()
