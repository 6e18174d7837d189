"""How does a drafter get an output head that holds only the commonest tokens?

A drafter computes a logit for each token of the vocabulary: with 262,144 tokens the head is most of
its work. A head of the N commonest tokens drafts the others never, which costs drafts but no
answer: the target verifies every token. What the rows stand for is stored in the file:

- An EAGLE-3 head has the tensor `d2t`, the token of each row. llama.cpp reads it (GUIDE 2.4).
- A Gemma 4 assistant has no such tensor. Its embeddings are its head, and it looks tokens up in the
  target's embeddings. The rows are written as its whole vocabulary, and the metadata
  `outrider.draft_vocab.tokens` name the target's tokens (GUIDE 2.1).
- Other models look their own embeddings up with the vocabulary of their head, so theirs stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, ReaderField
from gguf.constants import TokenType
from numpy.typing import NDArray

from .gguf import GGUFError, Header, read_header

ASSISTANT: Final = "gemma4-assistant"
EAGLE: Final = "eagle3"
TOKENS_KEY: Final = "outrider.draft_vocab.tokens"  # the target's token of each row, ascending
SIZE_KEY: Final = "outrider.draft_vocab.size"  # tokens of the target

# The tensor whose rows are the head.
HEADS: Final[Mapping[str, str]] = {ASSISTANT: "token_embd.weight", EAGLE: "output.weight"}
ROW_TOKENS: Final = "d2t"  # of EAGLE-3
# Tables of an assistant over its whole vocabulary, which llama.cpp does not use.
MASKED: Final = "masked_embd_"

TEXTS: Final = "tokenizer.ggml.tokens"
TYPES: Final = "tokenizer.ggml.token_type"
SCORES: Final = "tokenizer.ggml.scores"
MODEL: Final = "tokenizer.ggml.model"
NO_TOKENIZER: Final = "none"  # llama.cpp then takes the size of the vocabulary from `vocab_size`

Ids = NDArray[np.int64]


class DraftVocabError(Exception):
    """A drafter's head cannot be trimmed so; the text says why."""


@dataclass(frozen=True, slots=True)
class StoredVocabulary:
    """What a GGUF file says about its tokens."""

    types: Sequence[int]
    scores: Sequence[float]  # empty, if the tokens have none
    special: frozenset[int]  # such as the end of a turn

    @property
    def size(self) -> int:
        return len(self.types)


def read_vocabulary(header: Header) -> StoredVocabulary:
    """Of a header that was read with `arrays={TYPES, SCORES}`. Raises DraftVocabError."""
    types, scores = header.values.get(TYPES), header.values.get(SCORES)
    if not isinstance(types, list):
        raise DraftVocabError(f"{header.path} has no vocabulary of its own")
    numbered = (key for key in header.values if key.endswith("_token_id"))
    special = {number for key in numbered if (number := header.number(key)) is not None}
    ranks = [float(score) for score in scores] if isinstance(scores, list) else []
    return StoredVocabulary([int(kind) for kind in types], ranks, frozenset(special))


def commonest(vocabulary: StoredVocabulary, count: int, counts: Mapping[int, int]) -> list[int]:
    """The `count` tokens that are kept, ascending.

    Tokens with a part of their own, such as the end of a turn, come first; then the tokens of the
    text that was counted; then the others in the order in which the tokenizer learnt them, for what
    is frequent is merged first: by score, where SentencePiece has stored one, else by their ids.
    """
    if not 0 < count < vocabulary.size:
        raise DraftVocabError(
            f"a head of {count} tokens is none: the vocabulary has {vocabulary.size}, and fewer "
            "are kept"
        )
    unused = {int(TokenType.UNUSED), int(TokenType.UNKNOWN)}
    has_scores = len(set(vocabulary.scores)) > 1

    def rank(token: int) -> tuple[bool, bool, int, float, int]:
        learnt = -vocabulary.scores[token] if has_scores else 0.0
        is_unused = vocabulary.types[token] in unused
        return token not in vocabulary.special, is_unused, -counts.get(token, 0), learnt, token

    return sorted(sorted(range(vocabulary.size), key=rank)[:count])


def trim(source: Path, target: Path, kept: Sequence[int]) -> None:
    """Writes the drafter with a head of these tokens. Raises DraftVocabError and GGUFError."""
    header = read_header(source)
    check_drafter(header)
    try:
        reader = GGUFReader(source)
    except ValueError as error:
        raise GGUFError(f"{source} cannot be used: {error}") from error
    writer = GGUFWriter(target, header.architecture)
    try:
        write = _write_assistant if header.architecture == ASSISTANT else _write_eagle
        write(reader, writer, np.array(kept, np.int64))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def check_drafter(header: Header) -> None:
    """Raises DraftVocabError unless the head of this file can be trimmed."""
    head = HEADS.get(header.architecture)
    if head is None:
        raise DraftVocabError(
            f"the head of {header.architecture} cannot be trimmed: it looks its embeddings up with "
            f"the same vocabulary; those of {' and '.join(HEADS)} can"
        )
    if TOKENS_KEY in header.values:
        raise DraftVocabError(f"{header.path} has a trimmed head already; begin with the whole one")
    if head not in {tensor.name for tensor in header.tensors}:
        raise DraftVocabError(
            f"{header.path} has no head of its own: it predicts with that of its target"
        )


def _write_assistant(reader: GGUFReader, writer: GGUFWriter, kept: Ids) -> None:
    texts = reader.fields[TEXTS]
    for field in reader.fields.values():
        if not field.name.startswith(("tokenizer.", "GGUF.")):
            _copy_field(writer, field)
    writer.add_string(MODEL, NO_TOKENIZER)
    writer.add_array(TEXTS, [bytes(texts.parts[texts.data[row]]) for row in kept])
    writer.add_vocab_size(len(kept))
    writer.add_uint32(SIZE_KEY, len(texts.data))
    writer.add_key_value(
        TOKENS_KEY, kept.tolist(), GGUFValueType.ARRAY, sub_type=GGUFValueType.INT32
    )
    for tensor in reader.tensors:
        if tensor.name == HEADS[ASSISTANT]:
            _add_tensor(writer, tensor.name, tensor.data[kept], tensor.tensor_type)
        elif not tensor.name.startswith(MASKED):
            _add_tensor(writer, tensor.name, tensor.data, tensor.tensor_type)


def _write_eagle(reader: GGUFReader, writer: GGUFWriter, kept: Ids) -> None:
    """The kept tokens that the head has; one that was trimmed before lacks some."""
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    head = tensors[HEADS[EAGLE]]
    tokens = np.asarray(tensors[ROW_TOKENS].data) if ROW_TOKENS in tensors else None
    tokens = np.arange(len(head.data)) if tokens is None else tokens
    rows = np.flatnonzero(np.isin(tokens, kept))
    for field in reader.fields.values():
        if not field.name.startswith("GGUF."):
            _copy_field(writer, field)
    for tensor in reader.tensors:
        if tensor.name == head.name:
            _add_tensor(writer, tensor.name, tensor.data[rows], tensor.tensor_type)
        elif tensor.name != ROW_TOKENS:
            _add_tensor(writer, tensor.name, tensor.data, tensor.tensor_type)
    writer.add_tensor(ROW_TOKENS, tokens[rows].astype(np.int64))


def _copy_field(writer: GGUFWriter, field: ReaderField) -> None:
    if field.name == "general.architecture":  # the writer has put it first
        return
    kind = field.types[0]
    if kind != GGUFValueType.ARRAY:
        writer.add_key_value(field.name, field.contents(), kind)
    elif field.types[-1] == GGUFValueType.STRING:  # bytes, since some are no UTF-8
        texts = [bytes(field.parts[part]) for part in field.data]
        writer.add_key_value(field.name, texts, kind, sub_type=field.types[-1])
    else:
        writer.add_key_value(field.name, field.contents(), kind, sub_type=field.types[-1])


def _add_tensor(
    writer: GGUFWriter, name: str, data: NDArray[np.generic], kind: GGMLQuantizationType
) -> None:
    """Quantised tensors are rows of bytes."""
    writer.add_tensor(name, np.ascontiguousarray(data), raw_dtype=kind)
