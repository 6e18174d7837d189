"""How texts become vectors for any dialect."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import BadRequest
from ..options import Options
from ..protocol import Embed
from ..runners.model_info import ModelInfo
from .state import AppState

SMALLEST_NORM = 1e-12  # keeps a vector of zeros one of zeros

Vectors = NDArray[np.float32]  # a row for each text


@dataclass(frozen=True, slots=True)
class EmbeddingTexts:
    """A request for vectors, as every dialect reads it."""

    info: ModelInfo
    texts: tuple[str, ...]  # none: the model is only loaded
    options: Mapping[str, object]  # as in CONTRACT 1.5
    truncate: bool  # cut a text that is too long; otherwise it is refused
    keep_alive_s: float | None


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    vectors: Vectors  # as the model pools them: not normalised
    prompt_tokens: int
    load_ns: int  # until the model was ready
    warnings: tuple[str, ...] = ()  # what clients of the model are told, a sentence each


async def embed(state: AppState, request: EmbeddingTexts) -> EmbeddingResult:
    """Load the model, and embed the texts if there are any.

    Raises Busy, LoadFailed, BadRequest and RunnerError.
    """
    start_ns = time.monotonic_ns()
    options = Options.merge(request.info.model.params, request.options)
    spec = state.runner_spec(request.info, options, embedding=True)
    texts = request.texts
    async with state.pool.lease(spec, request.keep_alive_s) as runner:
        load_ns, warnings = time.monotonic_ns() - start_ns, state.pool.warnings(runner)
        if not texts:
            return EmbeddingResult(np.zeros((0, 0), np.float32), 0, load_ns, warnings)
        # A model is loaded with 4 tokens or more; a request for fewer is served as asked.
        asked = max(options.num_ctx, 0) or state.settings.context_length
        num_ctx = min(asked, spec.load.num_ctx)  # 0: all that is loaded
        embedded = await runner.embed(Embed(0, texts, num_ctx, request.truncate))
    rows = np.frombuffer(embedded.vectors, "<f4").reshape(len(texts), embedded.width)
    return EmbeddingResult(rows, embedded.prompt_tokens, load_ns, warnings)


def normalise(vectors: Vectors, dimensions: int) -> Vectors:
    """Each vector scaled to length 1, after it was cut to `dimensions` (0: all) floats.

    Raises BadRequest.
    """
    vectors = require_finite(vectors)
    if dimensions > 0:
        vectors = vectors[:, :dimensions]
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.maximum(norms, SMALLEST_NORM)).astype(np.float32)
    return scaled


def require_finite(vectors: Vectors) -> Vectors:
    """The same vectors. Raises BadRequest for numbers that JSON cannot express."""
    if not np.isfinite(vectors).all():
        raise BadRequest("embedding contains NaN or Inf values")
    return vectors
