"""Which parser reads the output of a model: a registry by name."""

from __future__ import annotations

from collections.abc import Mapping

from .bare_calls import JSON_FAMILY
from .command_r import COHERE_FAMILY, COMMAND_R_FAMILY
from .deepseek import DEEPSEEK_FAMILY
from .functiongemma import FUNCTION_GEMMA_FAMILY
from .gemma4 import GEMMA4_FAMILY, GEMMA4_NO_THINKING_FAMILY
from .generic import GENERIC_FAMILY
from .glm import GLM_FAMILY
from .granite import GRANITE_FAMILY
from .harmony import HARMONY_FAMILY
from .hermes import HERMES_FAMILY, QWEN3_FAMILY
from .kimi import KIMI_FAMILY
from .lfm2 import LFM2_FAMILY, LFM2_THINKING_FAMILY
from .llama3 import LLAMA3_FAMILY
from .mistral import MINISTRAL_FAMILY, MISTRAL_FAMILY
from .nemotron import NEMOTRON_FAMILY
from .olmo3 import OLMO3_FAMILY, OLMO3_THINK_FAMILY
from .parser import ContentParser, ParserFamily
from .phi4 import PHI4_FAMILY
from .thinking import THINKING_FAMILY
from .xml_calls import QWEN3_CODER_FAMILY, QWEN35_FAMILY

CONTENT, THINKING, GENERIC = "content", "thinking", "generic"

CONTENT_FAMILY = ParserFamily(lambda _start: ContentParser())

FAMILIES: Mapping[str, ParserFamily] = {
    CONTENT: CONTENT_FAMILY,
    THINKING: THINKING_FAMILY,
    GENERIC: GENERIC_FAMILY,
    "json": JSON_FAMILY,
    "llama3": LLAMA3_FAMILY,
    "mistral": MISTRAL_FAMILY,
    "ministral": MINISTRAL_FAMILY,
    "deepseek3": DEEPSEEK_FAMILY,
    "cogito": DEEPSEEK_FAMILY,
    "granite": GRANITE_FAMILY,
    "phi-4": PHI4_FAMILY,
    "cohere": COHERE_FAMILY,
    "command-r": COMMAND_R_FAMILY,
    "olmo3": OLMO3_FAMILY,
    "olmo3-think": OLMO3_THINK_FAMILY,
    "nemotron": NEMOTRON_FAMILY,
    "kimi-k2": KIMI_FAMILY,
    "hermes": HERMES_FAMILY,
    "qwen3": QWEN3_FAMILY,
    "qwen3-thinking": HERMES_FAMILY,
    "qwen3-vl-instruct": QWEN3_FAMILY,
    "qwen3-vl-thinking": HERMES_FAMILY,
    "qwen3-coder": QWEN3_CODER_FAMILY,
    "qwen3.5": QWEN35_FAMILY,
    "nemotron-3-nano": QWEN35_FAMILY,
    "nemotron-3.5-nano": QWEN35_FAMILY,
    "glm-4.7": GLM_FAMILY,
    "laguna": GLM_FAMILY,
    "poolside-v1": GLM_FAMILY,
    "lfm2": LFM2_FAMILY,
    "lfm2-thinking": LFM2_THINKING_FAMILY,
    "passthrough": CONTENT_FAMILY,
    "glm-ocr": CONTENT_FAMILY,
    "gemma4": GEMMA4_FAMILY,
    "gemma4-no-thinking": GEMMA4_NO_THINKING_FAMILY,
    "functiongemma": FUNCTION_GEMMA_FAMILY,
    "harmony": HARMONY_FAMILY,
}


def family_of(parser: str) -> ParserFamily:
    """The family of that name; an unknown name is treated as no parser (CONTRACT 8.5)."""
    return FAMILIES.get(parser, FAMILIES[CONTENT])
