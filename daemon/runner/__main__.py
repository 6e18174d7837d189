"""What one runner process does: load a model, then decode for the front until it goes away."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import msgspec

from ..errors import BadRequest, OutriderError
from ..protocol import (
    Cancel,
    Delta,
    Done,
    Embed,
    Failed,
    FrameReader,
    Load,
    Loading,
    Ready,
    Step,
    Submit,
    ToFront,
    ToRunner,
    encode,
)
from .embedding_worker import EmbeddingWorker
from .engine import Engine
from .input_processor import InputProcessor
from .llama.context import TextContext
from .llama.loading import LoadedContext, load_embedding_model, load_model
from .llama.model import LlamaLog
from .speculation.calibration import prepare_speculation
from .speculation.profile_store import ProfileWriter

Send = Callable[[ToFront], None]

log = logging.getLogger("outrider.runner")


class FrontConnection:
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
        frames = FrameReader()
        decoder = msgspec.msgpack.Decoder(ToRunner)
        while data := self._socket.recv(1 << 18):
            for body in frames.feed(data):
                yield decoder.decode(body)


class TextWorker:
    """What a runner does for text: the intake makes sequences, the engine decodes them."""

    def __init__(self, loaded: LoadedContext[TextContext], load: Load, send: Send) -> None:
        self._input = InputProcessor(loaded.model, load.num_ctx)
        speculation = prepare_speculation(loaded, load)
        self.drafters, self.refusal = speculation.names, speculation.refusal
        self._engine = Engine(loaded.model, loaded.context, load, send, speculation)
        self._profile_writer = ProfileWriter(
            speculation.profile, load.profile if speculation.names else ""
        )
        self._send = send
        self.cancel = self._engine.cancel

    def turn(self) -> None:
        """One step, or a wait for something to do."""
        if self._engine.is_idle:
            self._profile_writer.save()
        self._engine.turn()

    def submit(self, request: Submit | Embed) -> None:
        """Callable from any thread. Raises BadRequest."""
        if not isinstance(request, Submit):
            raise BadRequest("this model was loaded for text")
        if request.render_only:
            rendered = Delta(request.id, self._input.render(request), done=Done("render"))
            self._send(Step((rendered,)))
        else:
            self._engine.submit(self._input.prepare(request))


class Runner:
    """Two threads: this one decodes, the other takes in requests."""

    def __init__(self, front: FrontConnection) -> None:
        self._front = front
        self._messages = front.messages()

    def run(self) -> None:
        load = next(self._messages)
        assert isinstance(load, Load)
        threading.Thread(target=self._take_in, name="intake", daemon=True).start()
        try:
            self._worker, ready = self._start(load)
        except OutriderError as error:
            self._front.send(Failed(None, type(error).__name__, str(error)))
            return
        self._front.send(ready)
        self._work()

    def _work(self) -> None:
        """The guard: a failed turn fails every request, then the process ends."""
        try:
            while True:
                self._worker.turn()
        except BrokenPipeError:
            log.info("the front is gone")
        except Exception as error:
            self._front.send(Failed(None, type(error).__name__, str(error)))
            raise

    def _start(self, load: Load) -> tuple[TextWorker | EmbeddingWorker, Ready]:
        """Load, and make what will work with it. Raises LoadFailed."""

        def report(fraction: float) -> None:
            self._front.send(Loading(fraction))

        send = self._front.send
        if load.embedding:
            encoder = load_embedding_model(load, report)
            return EmbeddingWorker(encoder.model, encoder.context, load, send), _ready(encoder.log)
        loaded = load_model(load, report)
        writer = TextWorker(loaded, load, send)
        return writer, _ready(loaded.log, writer.drafters, writer.refusal)

    def _take_in(self) -> None:
        """Until the front is gone; then nobody needs this process, whatever it is doing.

        The front sends nothing between `Load` and `Ready`, so the worker is there.
        """
        code = 1
        try:
            for message in self._messages:
                if isinstance(message, Submit | Embed):
                    self._submit(message)
                elif isinstance(message, Cancel):
                    self._worker.cancel(message)
            code = 0
        except ConnectionError:
            code = 0
        except Exception as error:
            log.exception("a request could not be taken in")
            self._front.send(Failed(None, type(error).__name__, str(error)))
        finally:
            os._exit(code)

    def _submit(self, request: Submit | Embed) -> None:
        try:
            self._worker.submit(request)
        except OutriderError as error:
            self._front.send(Failed(request.id, type(error).__name__, str(error)))


def _ready(log: LlamaLog, drafters: tuple[str, ...] = (), refusal: str = "") -> Ready:
    return Ready(log.size_bytes, log.size_vram_bytes, drafters, refusal)


def main() -> None:
    """Serve the front at the other end of the socket whose descriptor is the only argument."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        Runner(FrontConnection(connection)).run()


if __name__ == "__main__":
    main()
