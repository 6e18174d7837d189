"""Which built-in renderer has which name (CONTRACT 8.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..renderer import Renderer
from .functiongemma import FunctionGemmaRenderer
from .gemma4 import Gemma4Renderer
from .harmony import HarmonyRenderer

RENDERERS: Mapping[str, Callable[[], Renderer]] = {
    "gemma4": lambda: Gemma4Renderer(large=False),  # where the size of the model is unknown
    "gemma4-small": lambda: Gemma4Renderer(large=False),
    "gemma4-large": lambda: Gemma4Renderer(large=True),
    "functiongemma": FunctionGemmaRenderer,
    "harmony": HarmonyRenderer,
}
