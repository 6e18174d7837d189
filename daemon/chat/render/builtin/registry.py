"""Which built-in renderer has which name (CONTRACT 8.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..renderer import Renderer
from .cogito import CogitoRenderer
from .deepseek import DeepSeek31Renderer
from .functiongemma import FunctionGemmaRenderer
from .gemma4 import Gemma4Renderer
from .glm import GlmOcrRenderer, GlmRenderer
from .harmony import HarmonyRenderer
from .lfm2 import Lfm2Renderer
from .nemotron3 import Nemotron3Renderer
from .nemotron35 import Nemotron35Renderer
from .olmo3 import OLMO3, OLMO3_32B_THINK, OLMO3_THINK, OLMO31, Olmo3Renderer
from .qwen3 import Qwen3Renderer
from .qwen3_coder import Qwen3CoderRenderer, Qwen35Renderer

RENDERERS: Mapping[str, Callable[[], Renderer]] = {
    "qwen3-vl-instruct": lambda: Qwen3Renderer(thinks=False),
    "qwen3-vl-thinking": lambda: Qwen3Renderer(thinks=True),
    "qwen3-coder": Qwen3CoderRenderer,
    "qwen3.5": Qwen35Renderer,
    "lfm2": Lfm2Renderer,
    "lfm2-thinking": Lfm2Renderer,
    "glm-4.7": GlmRenderer,
    "glm-ocr": GlmOcrRenderer,
    "deepseek3.1": DeepSeek31Renderer,
    "cogito": CogitoRenderer,
    "nemotron-3-nano": Nemotron3Renderer,
    "nemotron-3.5-nano": Nemotron35Renderer,
    "olmo3": lambda: Olmo3Renderer(OLMO3),
    "olmo3.1": lambda: Olmo3Renderer(OLMO31),
    "olmo3-think": lambda: Olmo3Renderer(OLMO3_THINK),
    "olmo3-32b-think": lambda: Olmo3Renderer(OLMO3_32B_THINK),
    "gemma4": lambda: Gemma4Renderer(large=False),  # where the size of the model is unknown
    "gemma4-small": lambda: Gemma4Renderer(large=False),
    "gemma4-large": lambda: Gemma4Renderer(large=True),
    "functiongemma": FunctionGemmaRenderer,
    "harmony": HarmonyRenderer,
}
