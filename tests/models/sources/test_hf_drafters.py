"""When does a drafter fit a model, and which drafters does a model card name?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from outrider.models.sources.hf_drafters import TOKENS, find_misfit, is_model, named_drafters
from outrider.quant.gguf import Header, Value, read_header
from tiny import write_llama
from tiny_eagle import write_eagle3
from tiny_gemma import write_gemma4, write_gemma4_assistant

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gemma4(tmp_path_factory.mktemp("target") / "gemma.gguf")


def read(path: Path) -> Header:
    return read_header(path, arrays={TOKENS})


def changed(header: Header, **values: Value) -> Header:
    keys = {key.replace("__", "."): value for key, value in values.items()}
    return replace(header, values={**header.values, **keys})


@pytest.fixture
def assistant(tmp_path: Path, target: Path) -> Header:
    return read(write_gemma4_assistant(tmp_path / "drafter.gguf", target, layers=1))


def test_drafters_that_fit(target: Path, assistant: Header, tmp_path: Path) -> None:
    assert find_misfit(read(target), assistant) == ""
    assert find_misfit(read(target), read(write_eagle3(tmp_path / "e.gguf", target))) == ""


def test_drafters_that_do_not_fit(target: Path, assistant: Header, tmp_path: Path) -> None:
    model = read(target)
    tokens = model.values[TOKENS]
    assert isinstance(tokens, list)
    short = replace(assistant, values={**assistant.values, TOKENS: tokens[:-2]})
    other = replace(assistant, values={**assistant.values, TOKENS: ["?", *tokens[1:]]})
    none = replace(assistant, values={k: v for k, v in assistant.values.items() if k != TOKENS})
    wide = replace(
        assistant, values={**assistant.values, "gemma4-assistant.embedding_length_out": 2816}
    )
    llama = read(write_llama(tmp_path / "llama.gguf"))
    assert find_misfit(model, wide) == (
        "it drafts for a hidden width of 2816, and the model's is 64"
    )
    assert find_misfit(model, short) == (
        f"its vocabulary has {len(tokens) - 2} tokens, and the model's {len(tokens)}"
    )
    assert find_misfit(model, other).startswith("token 0 is '?' in its vocabulary, and ")
    assert find_misfit(model, none) == "it states no vocabulary"
    assert find_misfit(llama, assistant) == "it drafts for gemma4, and the model is llama"
    assert find_misfit(model, changed(assistant, general__type="adapter")) == "it is no model"
    assert find_misfit(model, model) == "it is not smaller than the model"


def test_projectors_are_no_models(assistant: Header) -> None:
    assert is_model(assistant)
    assert not is_model(changed(assistant, general__architecture="clip"))


@pytest.mark.parametrize(
    ("card", "readme", "expected"),
    [
        ({}, "", ()),
        ({"drafter": "a/b"}, "", ("a/b",)),
        ({"draft_model": ["a/b", "c/d", 5, "no id"]}, "", ("a/b", "c/d")),
        ({"base_model": "google/gemma-4"}, "https://huggingface.co/google/gemma-4", ()),
        ({}, "see https://huggingface.co/u/m-assistant-GGUF.", ("u/m-assistant-GGUF",)),
        ({}, "[x](https://hf.co/u/M-EAGLE3) and https://hf.co/u/x-DFlash/tree/main",
         ("u/M-EAGLE3", "u/x-DFlash")),
        ({}, "https://huggingface.co/u/m-MTP-GGUF", ("u/m-MTP-GGUF",)),
        ({}, "https://huggingface.co/datasets/eagle3-data", ()),
        ({"drafter": "u/self"}, "https://huggingface.co/u/Self", ()),
        ({"drafter": "a/b"}, "https://hf.co/c/d-draft https://hf.co/A/eagle3 https://hf.co/e/eagle3",
         ("a/b", "c/d-draft", "A/eagle3")),
    ],
)  # fmt: skip
def test_drafters_that_a_card_names(
    card: dict[str, object], readme: str, expected: tuple[str, ...]
) -> None:
    assert named_drafters("u/self", card, readme) == expected
