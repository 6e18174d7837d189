"""What one runner process does: load a model, then decode for the front until it goes away."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Sequence

from ..chat.parse.json_call import JsonCallParser
from ..errors import BadRequest, DecodeFailed, LoadFailed
from ..heap import MemoryReturn
from ..protocol import (
    Cancel,
    Delta,
    DeviceBytes,
    Done,
    Embed,
    Failed,
    Hold,
    Load,
    Loading,
    Ready,
    Step,
    Submit,
    ToFront,
    Working,
)
from .connection import FrontConnection
from .constraint_plan import plan_constraint
from .embedding_worker import EmbeddingWorker
from .engine import Engine
from .faults import failed, shortened
from .grammar_queue import GrammarQueue
from .input_processor import InputProcessor
from .llama.context import EmbeddingContext, TextContext
from .llama.loading import LoadedContext, load_context, load_model
from .preparation import PREPARING_THREADS, PreparationQueue
from .priority import yield_to_others
from .rendering.messages import Render
from .rendering.process import RenderPool
from .request_log import expected_preparation_s, logged
from .sampling.grammar_compiler import GrammarCompiler
from .sandbox.limits import relax_after_load
from .speculation.calibration import prepare_speculation
from .speculation.controller import SpeculationController
from .speculation.profile_store import ProfileWriter
from .threads.binding import ThreadBinding
from .threads.control import FixedThreads, StepThreads, ThreadControl

Send = Callable[[ToFront], None]

log = logging.getLogger("outrider.runner")


class TextWorker:
    """Serves text: requests become sequences, and the engine decodes them."""

    def __init__(
        self,
        loaded: LoadedContext[TextContext],
        load: Load,
        send: Send,
        render: Render,
        binding: ThreadBinding,
    ) -> None:
        self._input = InputProcessor(loaded.model, load.num_ctx, render)
        speculation = prepare_speculation(loaded, load)
        self.drafters, self.refusal = speculation.names, speculation.refusal
        threads = _threads_of(loaded, load, speculation, binding)
        self._engine = Engine(loaded.model, loaded.context, load, send, speculation, threads)
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

    @property
    def is_idle(self) -> bool:
        """Whether `turn` would wait for a request."""
        return self._engine.is_idle

    def turn(self) -> None:
        """Make one step, or wait for a request."""
        if self.is_idle:
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

    def __init__(self, front: FrontConnection, cpus: frozenset[int] = frozenset()) -> None:
        """`cpus`: those of the process before OpenMP was loaded; empty: not known."""
        self._front = front
        self._binding = ThreadBinding(cpus)
        self._memory = MemoryReturn()

    def run(self, load: Load) -> None:
        """Load, then decode until the front is gone.

        A failed load or step fails every request, then the process ends.
        """
        if load.background:
            yield_to_others()
        self._binding.free_all()  # threads and processes inherit it
        self._memory.start()
        threading.Thread(target=self._receive, name="input", daemon=True).start()
        try:
            self._worker, ready = self._start(load)
            relax_after_load()
            gc.freeze()  # what is loaded never becomes garbage, so nobody need look through it
            gc.enable()
            self._front.send(ready)
            while True:
                if self._worker.is_idle:
                    self._memory.note()
                self._worker.turn()
        except BrokenPipeError:
            log.info("the front is gone")
        except BaseException as error:
            self._front.send(Failed(None, type(error).__name__, shortened(str(error))))
            if not isinstance(error, LoadFailed):
                raise

    def _start(self, load: Load) -> tuple[TextWorker | EmbeddingWorker, Ready]:
        """Load the model, and make the worker for it. Raises LoadFailed."""
        send = self._front.send

        def report(fraction: float) -> None:
            send(Loading(fraction))

        if load.embedding:
            self._binding.bind_decoding()
            encoder = load_context(EmbeddingContext, load, report)
            return _start_embedding(encoder, load, send), make_ready(encoder.measure())
        render = RenderPool(PREPARING_THREADS, confined=load.confined)
        self._binding.bind_decoding()
        loaded = load_model(load, report)
        texts = TextWorker(loaded, load, send, render, self._binding)
        if load.adapters or load.draft:
            loaded.context.allocate()
        return texts, make_ready(loaded.measure(), texts.drafters, texts.refusal)

    def _receive(self) -> None:
        """Receive messages until the front is gone, then end the process at once.

        The front sends nothing between `Load` and `Ready`, so the worker exists.
        """
        code = 1
        try:
            for message in self._front.messages():
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
        self._front.send(Working(expected_preparation_s(request), request.id))
        self._memory.note()
        try:
            self._worker.submit(request)
        except BaseException as fault:
            self._front.send(failed(request.id, fault))


def _start_embedding(
    encoder: LoadedContext[EmbeddingContext], load: Load, send: Callable[[ToFront], None]
) -> EmbeddingWorker:
    """A worker that has embedded a short text. Raises LoadFailed."""
    try:
        worker = EmbeddingWorker(encoder.model, encoder.context, load, send)
        worker.try_out()
    except (BadRequest, DecodeFailed) as error:
        raise LoadFailed(f"the model cannot embed a text: {error}") from None
    return worker


def _threads_of(
    loaded: LoadedContext[TextContext],
    load: Load,
    speculation: SpeculationController,
    binding: ThreadBinding,
) -> StepThreads:
    """Who decides the number of threads: fixed if the user has said it, or a GPU decodes."""
    if not load.adapts_threads or load.threads < 2 or loaded.model.is_on_gpu:
        return FixedThreads()

    def apply(threads: int) -> None:
        loaded.context.set_threads(threads)
        speculation.set_threads(threads)

    return ThreadControl(load.threads, apply, speculation.profile, binding)


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
