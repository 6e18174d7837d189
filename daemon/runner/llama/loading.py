"""How do a model and its context get into memory?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from llama_cpp import llama_cpp as lib

from ...protocol import DeviceBytes, Load
from .adapter import load_adapters
from .context import LlamaContext, TextContext
from .devices import read_devices
from .log import LlamaLog
from .memory_check import MemoryCheck
from .model import LlamaModel
from .placement import place_target

C = TypeVar("C", bound=LlamaContext)


@dataclass(frozen=True, slots=True)
class LoadedContext(Generic[C]):
    """A model that is ready to decode, its context, and the log of llama.cpp."""

    model: LlamaModel
    context: C
    log: LlamaLog
    check: MemoryCheck

    def measure(self) -> tuple[DeviceBytes, ...]:
        """What is allocated by now, a drafter's buffers included; logs what the system says."""
        sizes = self.log.measure([device for device in read_devices() if device.is_gpu])
        self.check.report(sizes)
        return sizes


def load_model(load: Load, progress: Callable[[float], None]) -> LoadedContext[TextContext]:
    """Weights and a context for text. Raises LoadFailed."""
    return load_context(TextContext, load, progress)


def load_context(
    kind: Callable[[LlamaModel, Load], C], load: Load, progress: Callable[[float], None]
) -> LoadedContext[C]:
    """Weights, adapters, and a context of this kind. Raises LoadFailed with llama.cpp's reason."""
    log = LlamaLog()
    log.listen()
    lib.llama_backend_init()
    placement = place_target(load)
    check = MemoryCheck(placement)
    model = LlamaModel(load.model, load, log, placement, progress)
    adapters = load_adapters(model, load, log)
    context = kind(model, load)
    adapters.apply(context)
    return LoadedContext(model, context, log, check)
