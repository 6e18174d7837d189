"""What one runner process does: load a model, then decode for the front until it goes away."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

import msgspec

from ..chat.parse.json_call import JsonCallParser
from ..errors import BadRequest, LoadFailed
from ..protocol import (
    Cancel,
    Delta,
    DeviceBytes,
    Done,
    Embed,
    Failed,
    FrameReader,
    Hold,
    Load,
    Loading,
    Ready,
    Step,
    Submit,
    ToFront,
    ToRunner,
    encode,
)
from .constraint_plan import plan_constraint
from .embedding_worker import EmbeddingWorker
from .engine import Engine
from .faults import failed
from .grammar_queue import GrammarQueue
from .input_processor import InputProcessor
from .llama.context import EmbeddingContext, TextContext
from .llama.loading import LoadedContext, load_context, load_model
from .preparation import PREPARING_THREADS, PreparationQueue
from .priority import yield_to_others
from .rendering.messages import Render
from .rendering.process import RenderPool
from .request_log import logged
from .sampling.grammar_compiler import GrammarCompiler
from .speculation.calibration import prepare_speculation
from .speculation.profile_store import ProfileWriter

Send = Callable[[ToFront], None]

log = logging.getLogger("outrider.runner")


class FrontConnection:
    """The socket to the front; any thread writes, one reads."""

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
    """Serves text: requests become sequences, and the engine decodes them."""

    def __init__(
        self, loaded: LoadedContext[TextContext], load: Load, send: Send, render: Render
    ) -> None:
        self._input = InputProcessor(loaded.model, load.num_ctx, render)
        speculation = prepare_speculation(loaded, load)
        self.drafters, self.refusal = speculation.names, speculation.refusal
        self._engine = Engine(loaded.model, loaded.context, load, send, speculation)
        self._compiler = GrammarCompiler(loaded.model)
        self._grammars = GrammarQueue(
            self._compiler, self._engine.submit, lambda id_, fault: send(failed(id_, fault))
        )
        self._preparation = PreparationQueue(
            self._prepare, lambda id_, fault: send(failed(id_, fault))
        )
        path = load.profile if speculation.names else ""
        self._profile_writer = ProfileWriter(speculation.profile, path)
        self._send = send

    def turn(self) -> None:
        """Make one step, or wait for a request."""
        if self._engine.is_idle:
            self._profile_writer.save()
        self._engine.turn()

    def submit(self, request: Submit | Embed) -> None:
        """Queue a request. Raises BadRequest for one that asks for vectors."""
        if not isinstance(request, Submit):
            raise BadRequest("this model was loaded for text")
        self._preparation.add(request)

    def cancel(self, cancel: Cancel) -> None:
        """End a request, wherever it is."""
        if self._preparation.cancel(cancel.id) or self._grammars.cancel(cancel.id):
            self._end(cancel.id, "", Done("cancel"))
        else:
            self._engine.cancel(cancel)

    def hold(self, hold: Hold) -> None:
        """Pause a stream, or let it go on."""
        self._engine.hold(hold)

    def _prepare(self, request: Submit) -> Callable[[], None]:
        """Render and tokenize a request; returns what hands it on. Raises what is wrong with it.

        The log names a long request before native code sees it: should that code end the process,
        the line is the last one.
        """
        with logged(request):
            if request.render_only:
                text, num_tokens = self._input.render(request)
                done = Done("render", prompt_tokens=num_tokens)
                return lambda: self._end(request.id, text, done)
            sequence = self._input.prepare(request)
        source = plan_constraint(request, self._compiler)
        if not source:
            return lambda: self._engine.submit(sequence)
        if source.is_json_call:
            sequence.parser = JsonCallParser(sequence.parser)
        return lambda: self._grammars.add(sequence, source)

    def _end(self, request_id: int, text: str, done: Done) -> None:
        """Answer a request that never reaches the engine."""
        self._send(Step((Delta(request_id, text, done=done),)))


class Worker:
    """Two threads: the main one decodes, the other receives requests."""

    def __init__(self, front: FrontConnection) -> None:
        self._front = front
        self._messages = front.messages()

    def run(self) -> None:
        """Load, then decode until the front is gone.

        A failed load or step fails every request, then the process ends.
        """
        load = next(self._messages)
        assert isinstance(load, Load)
        if load.background:
            yield_to_others()
        threading.Thread(target=self._receive, name="input", daemon=True).start()
        try:
            self._worker, ready = self._start(load)
            self._front.send(ready)
            while True:
                self._worker.turn()
        except BrokenPipeError:
            log.info("the front is gone")
        except BaseException as error:
            self._front.send(Failed(None, type(error).__name__, str(error)))
            if not isinstance(error, LoadFailed):
                raise

    def _start(self, load: Load) -> tuple[TextWorker | EmbeddingWorker, Ready]:
        """Load the model, and make the worker for it. Raises LoadFailed."""
        send = self._front.send

        def report(fraction: float) -> None:
            send(Loading(fraction))

        if load.embedding:
            encoder = load_context(EmbeddingContext, load, report)
            worker = EmbeddingWorker(encoder.model, encoder.context, load, send)
            return worker, make_ready(encoder.measure())
        render = RenderPool(PREPARING_THREADS)
        loaded = load_model(load, report)
        texts = TextWorker(loaded, load, send, render)
        if load.adapters or load.draft:
            loaded.context.allocate()
        return texts, make_ready(loaded.measure(), texts.drafters, texts.refusal)

    def _receive(self) -> None:
        """Receive messages until the front is gone, then end the process at once.

        The front sends nothing between `Load` and `Ready`, so the worker exists.
        """
        code = 1
        try:
            for message in self._messages:
                if isinstance(message, Submit | Embed):
                    self._submit(message)
                elif isinstance(message, Cancel):
                    self._worker.cancel(message)
                elif isinstance(message, Hold) and isinstance(self._worker, TextWorker):
                    self._worker.hold(message)
            code = 0
        except ConnectionError:
            code = 0
        except BaseException as error:
            log.exception("the messages of the front cannot be read")
            self._front.send(Failed(None, type(error).__name__, str(error)))
        finally:
            os._exit(code)

    def _submit(self, request: Submit | Embed) -> None:
        """Receive one request; its fault is its own."""
        try:
            self._worker.submit(request)
        except BaseException as fault:
            self._front.send(failed(request.id, fault))


def make_ready(
    devices: Sequence[DeviceBytes], drafters: tuple[str, ...] = (), refusal: str = ""
) -> Ready:
    """The end of a load that has allocated this much on each device."""
    sums = {device: sum_parts(device) for device in devices}
    vram_bytes = sum(size for device, size in sums.items() if device.is_gpu)
    return Ready(sum(sums.values()), vram_bytes, drafters, refusal, tuple(devices))


def sum_parts(device: DeviceBytes) -> int:
    """All bytes of a device."""
    return (
        device.weights_bytes
        + device.cache_bytes
        + device.compute_bytes
        + device.adapter_bytes
        + device.drafter_bytes
    )
