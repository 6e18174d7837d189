"""How texts become vectors for any dialect."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..options import Options
from ..protocol import Embed
from ..request_note import current_note
from ..runners.model_info import ModelInfo
from .recent import current_record
from .state import AppState


@dataclass(frozen=True, slots=True)
class EmbeddingTexts:
    """A request for vectors, as every dialect reads it."""

    info: ModelInfo
    texts: tuple[str, ...]  # none: the model is only loaded
    options: Options
    truncate: bool  # cut a text that is too long; otherwise it is refused
    keep_alive_s: float | None


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """The vectors of the texts; the methods raise BadRequest for some that JSON cannot express."""

    rows: bytes  # as the model pools them: little-endian float32, a row for each text
    width: int  # floats of one row
    prompt_tokens: int
    load_ns: int  # until the model was ready
    warnings: tuple[str, ...] = ()  # what clients of the model are told, a sentence each

    def pooled(self) -> list[float]:
        """All floats as the model pools them, not normalised; none without texts."""
        from . import vectors  # numpy takes a while

        return list(vectors.unpack(self.rows, self.width).reshape(-1).tolist()) if self.rows else []

    def normalised(self, dimensions: int) -> list[list[float]]:
        """Each vector cut to `dimensions` (0: all), and scaled to length 1."""
        from . import vectors

        return list(vectors.normalise(vectors.unpack(self.rows, self.width), dimensions).tolist())

    def encoded(self, dimensions: int) -> list[str]:
        """As `normalised`, each vector as base64 of little-endian float32."""
        from . import vectors

        found = vectors.unpack(self.rows, self.width)
        return vectors.encode(vectors.normalise(found, dimensions))


async def embed(state: AppState, request: EmbeddingTexts) -> EmbeddingResult:
    """Load the model, and embed the texts if there are any.

    Raises Busy, LoadFailed, BadRequest and RunnerError.
    """
    start_ns = time.monotonic_ns()
    options = request.options
    spec = state.runner_spec(request.info, options, embedding=True)
    texts, note, record = request.texts, current_note(), current_record()
    record.model = spec.name
    if note:
        note.model = spec.name
    async with state.pool.lease(spec, request.keep_alive_s) as runner:
        load_ns, warnings = time.monotonic_ns() - start_ns, state.pool.warnings(runner)
        if not texts:
            return EmbeddingResult(b"", 0, 0, load_ns, warnings)
        # A model is loaded with 4 tokens or more; a request for fewer is served as asked.
        asked = max(options.num_ctx, 0) or state.settings.context_length
        num_ctx = min(asked, spec.load.num_ctx)  # 0: all that is loaded
        embedded = await runner.embed(Embed(0, texts, num_ctx, request.truncate))
    record.prompt_tokens = embedded.prompt_tokens
    if note:
        note.add_tokens(embedded.prompt_tokens, 0, 0)
    vectors, width = embedded.vectors, embedded.width
    return EmbeddingResult(vectors, width, embedded.prompt_tokens, load_ns, warnings)
