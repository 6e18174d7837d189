"""Which part of FunctionGemma's output is content or a tool call (CONTRACT 8.8)."""

from __future__ import annotations

from .gemma4 import GemmaMarkers, gemma_family

FUNCTION_GEMMA_MARKERS = GemmaMarkers(
    call_open="<start_function_call>",
    call_close="<end_function_call>",
    response_open="<start_function_response>",
    quote="<escape>",
)


FUNCTION_GEMMA_FAMILY = gemma_family(FUNCTION_GEMMA_MARKERS, thinks=False)
