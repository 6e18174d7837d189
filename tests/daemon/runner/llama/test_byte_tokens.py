"""A text that a vocabulary cannot write is refused; llama.cpp would end the process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from gguf import TokenType
from harness import load_spec
from outrider.daemon.errors import BadRequest
from outrider.daemon.runner.llama.loading import load_model
from outrider.daemon.runner.llama.model import LlamaModel
from tiny import vocabulary, write_llama

pytestmark = pytest.mark.model

SPACE = "\u2581"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def load_sentencepiece(folder: Path, byte_tokens: Sequence[str] = ()) -> LlamaModel:
    """A model of SentencePiece's kind with letters and these tokens for bytes."""
    plain, types = vocabulary()
    tokens = [token.replace("Ġ", SPACE) for token in plain] + list(byte_tokens)
    extra = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [*types, *([TokenType.BYTE] * len(byte_tokens))],
        "tokenizer.ggml.scores": [0.0] * len(tokens),
    }
    path = write_llama(folder / "m.gguf", vocab=len(tokens), extra=extra)
    return load_model(load_spec(path), lambda _fraction: None).model


@pytest.fixture
def without_bytes(tmp_path: Path) -> LlamaModel:
    return load_sentencepiece(tmp_path)


@pytest.mark.parametrize("text", ["the in", "é", "<|im_start|>", "", "<|im_start|>the"])
def test_what_has_tokens_is_tokenized(without_bytes: LlamaModel, text: str) -> None:
    tokens = without_bytes.tokenize(text, add_bos=False)
    written = b"".join(without_bytes.piece(token, special=True) for token in tokens).decode()
    assert written.replace(" ", "") == text.replace(" ", "")  # a blank is put before each text


@pytest.mark.parametrize(("text", "character"), [("a日", "'日'"), ("the\n", r"'\\n'")])
def test_what_has_none_is_refused(without_bytes: LlamaModel, text: str, character: str) -> None:
    with pytest.raises(
        BadRequest, match=f"the vocabulary of this model has no token for {character}"
    ):
        without_bytes.tokenize(text, add_bos=False)


def test_no_format_is_enforced_with_such_a_vocabulary(without_bytes: LlamaModel) -> None:
    with pytest.raises(ValueError, match="cannot write every character"):
        without_bytes.grammar_tokenizer()


def test_a_vocabulary_with_all_bytes_writes_everything(tmp_path: Path) -> None:
    model = load_sentencepiece(tmp_path, BYTES)
    assert model.tokenize("日\n", add_bos=False)
    assert model.grammar_tokenizer()
