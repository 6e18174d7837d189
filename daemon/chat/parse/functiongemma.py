"""Which part of FunctionGemma's output is content or a tool call (CONTRACT 8.8)."""

from __future__ import annotations

from .gemma4 import GemmaMarkers, GemmaParser
from .parser import OutputStart, ParserFamily

FUNCTION_GEMMA_MARKERS = GemmaMarkers(
    call_open="<start_function_call>",
    call_close="<end_function_call>",
    response_open="<start_function_response>",
    quote="<escape>",
)


def _make(start: OutputStart) -> GemmaParser:
    return GemmaParser(FUNCTION_GEMMA_MARKERS, start, thinks=False)


FUNCTION_GEMMA_FAMILY = ParserFamily(
    _make,
    markers=FUNCTION_GEMMA_MARKERS.all,
    openings=FUNCTION_GEMMA_MARKERS.openings,
    calls=True,
    call_grammar=FUNCTION_GEMMA_MARKERS.call_grammar,
)
