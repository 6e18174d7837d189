"""The sections of `outrider show`."""

from typing import Any

import pytest
from outrider.daemon.cli import show_view

pytestmark = pytest.mark.unit

SHOWN: dict[str, Any] = {
    "details": {"family": "llama", "parameter_size": "1.2B", "quantization_level": "Q8_0"},
    "model_info": {
        "general.architecture": "llama",
        "general.parameter_count": 1_235_814_432,
        "llama.context_length": 131072,
        "llama.embedding_length": 2048,
        "tokenizer.ggml.tokens": ["a", "b", "c", "d"],
        "tokenizer.ggml.merges": None,
    },
    "capabilities": ["completion", "tools"],
    "parameters": 'stop                           "<|end|>"\ntemperature                    0.5',
    "system": "Be kind.",
    "license": "LICENSE ONE\n\nline two\nline three",
    "tensors": [{"name": "token_embd.weight", "type": "Q8_0", "shape": [2048, 128256]}],
}

EXPECTED = """\
  Model
    architecture        llama
    parameters          1.2B
    context length      131072
    embedding length    2048
    quantization        Q8_0

  Capabilities
    completion
    tools

  Parameters
    stop           "<|end|>"
    temperature    0.5

  System
    Be kind.

  License
    LICENSE ONE
    line two
    ..."""


def test_sections() -> None:
    assert show_view.render(SHOWN, verbose=False) == EXPECTED


def test_verbose_adds_metadata_and_tensors() -> None:
    text = show_view.render(SHOWN, verbose=True)
    assert "    tokenizer.ggml.tokens      [a, b, c, ...] (4 items)\n" in text
    assert "  Tensors\n    token_embd.weight    Q8_0    [2048, 128256]\n" in text


def test_a_model_with_nothing_but_a_family() -> None:
    shown = {"details": {"family": "gemma4", "parameter_size": "4B"}, "model_info": {}}
    text = "  Model\n    architecture    gemma4\n    parameters      4B"
    assert show_view.render(shown, verbose=False) == text


def test_a_projector() -> None:
    info = {
        "general.architecture": "clip",
        "general.parameter_count": 420_000_000,
        "clip.vision.embedding_length": 1152,
        "clip.vision.projection_dim": 2560,
    }
    text = show_view.render({**SHOWN, "projector_info": info}, verbose=False)
    assert "  Projector\n    architecture        clip\n    parameters          420M\n" in text
    assert "    embedding length    1152\n    dimensions          2560\n" in text
