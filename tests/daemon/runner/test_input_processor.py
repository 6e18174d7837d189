"""How a request becomes a sequence: its context length, and the tokens of words with scores."""

from __future__ import annotations

import msgspec
import pytest
from fake_llama import FakeModel
from harness import text_request
from outrider.daemon.errors import BadRequest
from outrider.daemon.protocol import Limits
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


@pytest.mark.parametrize(("asked", "num_ctx"), [(0, 512), (64, 64), (512, 512), (9999, 512)])
def test_a_request_may_have_a_smaller_context_than_the_model(asked: int, num_ctx: int) -> None:
    processor = InputProcessor(FakeModel(), 512, LocalRenderer())
    sequence = processor.prepare(text_request(0, "x", limits=Limits(num_ctx=asked)))
    assert sequence.num_ctx == num_ctx
    assert sequence.num_left == 10 * num_ctx, "of its own context (CONTRACT 1.4)"


def test_a_prompt_is_cut_to_the_context_of_its_request() -> None:
    processor = InputProcessor(FakeModel(), 512, LocalRenderer())
    limits = Limits(num_ctx=64, num_keep=4)
    cut = processor.prepare(text_request(0, "x" * 200, limits=limits))
    assert len(cut.tokens) < 64
    strict = text_request(0, "x" * 200, limits=msgspec.structs.replace(limits, shift=False))
    with pytest.raises(BadRequest, match=r"longer than the context .* the context 64"):
        processor.prepare(strict)
