"""How a model and its context come into memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from llama_cpp import llama_cpp as lib

from ..protocol import Load
from .context import Context, Decoder, EmbeddingContext
from .llama import Log, Model

C = TypeVar("C", bound=Decoder)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[C]):
    """A model that is ready to decode."""

    model: Model
    context: C
    log: Log


def load_model(load: Load, progress: Callable[[float], None]) -> Loaded[Context]:
    """Weights and context. Raises LoadFailed with llama.cpp's own reason."""
    return _load(Context, load, progress)


def load_embedding_model(load: Load, progress: Callable[[float], None]) -> Loaded[EmbeddingContext]:
    """The same for embeddings."""
    return _load(EmbeddingContext, load, progress)


def _load(
    kind: Callable[[Model, Load], C], load: Load, progress: Callable[[float], None]
) -> Loaded[C]:
    log = Log()
    lib.llama_backend_init()
    model = Model(load.model, load, log, progress)
    return Loaded(model, kind(model, load), log)
