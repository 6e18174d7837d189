"""Which tokens count as a word whose score is asked for, whatever the tokenizer does to blanks?"""

from __future__ import annotations

import msgspec
import pytest
from fake_llama import FakeModel
from harness import text_request
from outrider.daemon.runner.input_processor import InputProcessor
from outrider.daemon.runner.rendering.local import LocalRenderer

pytestmark = pytest.mark.unit

BLANK_A = 200  # a token " A" beside the "A" of FakeModel
BLANK, A = FakeModel().tokenize(" A", add_bos=False)


class MergingModel(FakeModel):
    """A vocabulary with the token " A", as byte-pair encoders have it."""

    def __init__(self, *, starts_with_blank: bool) -> None:
        """`starts_with_blank`: a text gets a blank in front, as SentencePiece does it."""
        super().__init__()
        self._start = " " if starts_with_blank else ""

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return b" A" if token == BLANK_A else super().piece(token, special=special)

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        tokens = super().tokenize(self._start + text, add_bos=add_bos)
        merged: list[int] = []
        for token in tokens:
            if token == A and merged[-1:] == [BLANK]:
                merged[-1] = BLANK_A
            else:
                merged.append(token)
        return merged


@pytest.mark.parametrize("starts_with_blank", [False, True])
def test_a_word_counts_with_and_without_a_blank(starts_with_blank: bool) -> None:
    model = MergingModel(starts_with_blank=starts_with_blank)
    request = msgspec.structs.replace(text_request(0, "x"), scored=("A", "b"))
    words = InputProcessor(model, 512, LocalRenderer()).prepare(request).scored
    assert words == ((A, BLANK_A), (model.tokenize("b", add_bos=False)[-1],))
