"""How do a model and its context get into memory?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from llama_cpp import llama_cpp as lib

from ...protocol import Load
from .adapter import load_adapters
from .context import LlamaContext, TextContext
from .model import LlamaLog, LlamaModel

C = TypeVar("C", bound=LlamaContext)


@dataclass(frozen=True, slots=True)
class LoadedContext(Generic[C]):
    """A model that is ready to decode, its context, and the log of llama.cpp."""

    model: LlamaModel
    context: C
    log: LlamaLog


def load_model(load: Load, progress: Callable[[float], None]) -> LoadedContext[TextContext]:
    """Weights and a context for text. Raises LoadFailed."""
    return load_context(TextContext, load, progress)


def load_context(
    kind: Callable[[LlamaModel, Load], C], load: Load, progress: Callable[[float], None]
) -> LoadedContext[C]:
    """Weights, adapters, and a context of this kind. Raises LoadFailed with llama.cpp's reason."""
    log = LlamaLog()
    lib.llama_backend_init()
    model = LlamaModel(load.model, load, log, progress)
    adapters = load_adapters(model, load, log)
    context = kind(model, load)
    adapters.apply(context)
    return LoadedContext(model, context, log)
