"""Which tokens does a trimmed head keep, and what does its file say about them?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, TokenType
from outrider.quant.draft_vocab import (
    SCORES,
    TYPES,
    DraftVocabError,
    StoredVocabulary,
    commonest,
    read_vocabulary,
    trim,
)
from outrider.quant.gguf import EveryArray, read_header
from tiny import write_llama
from tiny_eagle import write_eagle3
from tiny_gemma import write_gemma4, write_gemma4_assistant

pytestmark = pytest.mark.unit

NORMAL, UNUSED = int(TokenType.NORMAL), int(TokenType.UNUSED)


def plain(size: int, special: frozenset[int] = frozenset()) -> StoredVocabulary:
    return StoredVocabulary([NORMAL] * size, [], special)


def test_what_was_merged_first_is_kept_and_what_ends_a_turn() -> None:
    assert commonest(plain(10), 3, {}) == [0, 1, 2]
    assert commonest(plain(10, frozenset({8})), 3, {}) == [0, 1, 8]


def test_scores_rank_the_tokens_of_sentencepiece() -> None:
    scores = [0.0, -3.0, -1.0, -2.0]
    assert commonest(StoredVocabulary([NORMAL] * 4, scores, frozenset()), 3, {}) == [0, 2, 3]
    assert commonest(StoredVocabulary([NORMAL] * 4, [0.0] * 4, frozenset()), 3, {}) == [0, 1, 2]


def test_the_tokens_of_a_text_come_before_the_order_of_the_vocabulary() -> None:
    assert commonest(plain(10, frozenset({8})), 4, {7: 2, 5: 9}) == [0, 5, 7, 8]


def test_unused_tokens_are_kept_last() -> None:
    types = [UNUSED, NORMAL, UNUSED, NORMAL]
    assert commonest(StoredVocabulary(types, [], frozenset()), 3, {}) == [0, 1, 3]


@pytest.mark.parametrize("count", [0, 10, 11])
def test_a_head_keeps_some_tokens_and_not_all(count: int) -> None:
    with pytest.raises(DraftVocabError, match="the vocabulary has 10, and fewer are kept"):
        commonest(plain(10), count, {})


def test_the_vocabulary_of_a_file(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "m.gguf")
    vocabulary = read_vocabulary(read_header(path, arrays={TYPES, SCORES}))
    assert vocabulary.size == 264
    assert vocabulary.special == {261, 263}
    with pytest.raises(DraftVocabError, match="no vocabulary of its own"):
        read_vocabulary(read_header(path))


def test_an_assistant_has_the_kept_rows_and_names_their_tokens(tmp_path: Path) -> None:
    whole = write_gemma4_assistant(tmp_path / "a.gguf", write_gemma4(tmp_path / "t.gguf"))
    kept = [3, 65, 263]
    trim(whole, tmp_path / "b.gguf", kept)
    before, after = (read_header(p, arrays=EveryArray()) for p in (whole, tmp_path / "b.gguf"))
    assert after.values["outrider.draft_vocab.tokens"] == kept
    assert after.values["outrider.draft_vocab.size"] == 264
    assert after.values["gemma4-assistant.vocab_size"] == 3
    assert after.values["tokenizer.ggml.model"] == "none"
    texts = before.values["tokenizer.ggml.tokens"]
    assert isinstance(texts, list)
    assert after.values["tokenizer.ggml.tokens"] == [texts[token] for token in kept]
    others = {key: v for key, v in before.values.items() if not key.startswith("tokenizer.")}
    assert {key: after.values[key] for key in others} == others
    old, new = (_tensors(p) for p in (whole, tmp_path / "b.gguf"))
    assert np.array_equal(new["token_embd.weight"], old["token_embd.weight"][kept])
    del old["token_embd.weight"], new["token_embd.weight"]
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[name], new[name]) for name in old)


def test_an_eagle_head_maps_its_rows_and_can_be_trimmed_again(tmp_path: Path) -> None:
    target = write_gemma4(tmp_path / "t.gguf")
    whole = write_eagle3(tmp_path / "e.gguf", target, own_output=True)
    trim(whole, tmp_path / "b.gguf", [3, 65, 70, 263])
    trim(tmp_path / "b.gguf", tmp_path / "c.gguf", [65, 66, 263])
    head = _tensors(whole)["output.weight"]
    for path, kept in (("b.gguf", [3, 65, 70, 263]), ("c.gguf", [65, 263])):
        tensors = _tensors(tmp_path / path)
        assert tensors["d2t"].tolist() == kept
        assert np.array_equal(tensors["output.weight"], head[kept])


def test_what_cannot_be_trimmed_is_refused(tmp_path: Path) -> None:
    target = write_gemma4(tmp_path / "t.gguf")
    assistant = write_gemma4_assistant(tmp_path / "a.gguf", target)
    trim(assistant, tmp_path / "b.gguf", [1, 2])
    for source, text in (
        (target, "the head of gemma4 cannot be trimmed"),
        (tmp_path / "b.gguf", "has a trimmed head already"),
        (write_eagle3(tmp_path / "e.gguf", target), "predicts with that of its target"),
    ):
        with pytest.raises(DraftVocabError, match=text):
            trim(source, tmp_path / "c.gguf", [1])
    assert not (tmp_path / "c.gguf").exists()


def _tensors(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}
