"""Which characters can a vocabulary not write?

A SentencePiece vocabulary (LLAMA_VOCAB_TYPE_SPM) writes a character that is no token as its bytes,
<0x00> to <0xFF>. Where such a token is missing too, llama.cpp throws a C++ exception, which ends
the process (llama-cpp-python 0.3.36: llama_vocab::byte_to_token). Other kinds skip the character or
have a token for what is unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llama_cpp import llama_cpp as lib

from ...errors import BadRequest

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # as which SentencePiece writes it, also before a text
NUM_BYTES = 256
SPECIAL = (
    lib.LLAMA_TOKEN_ATTR_UNKNOWN | lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_USER_DEFINED
)


@dataclass(frozen=True, slots=True)
class WritableCharacters:
    """What a text may hold; by default everything."""

    missing_bytes: frozenset[int] = frozenset()  # those without a token
    characters: frozenset[str] = frozenset()  # those that are tokens; only if bytes are missing
    special: re.Pattern[str] = re.compile("")  # tokens that are found before characters are

    @property
    def are_all(self) -> bool:
        """Whether any text can be tokenized."""
        return not self.missing_bytes

    def check(self, text: str) -> None:
        """Raises BadRequest for a text that holds anything else."""
        if self.are_all:
            return
        plain = self.special.sub("", text)
        needed = {SPACE, *plain.replace(" ", SPACE)} if plain else set()
        for character in sorted(needed - self.characters):
            if not self.missing_bytes.isdisjoint(character.encode("utf-8", "replace")):
                shown = " " if character == SPACE else character
                raise BadRequest(f"the vocabulary of this model has no token for {shown!r}")


def read_characters(vocab: lib.llama_vocab_p, num_tokens: int) -> WritableCharacters:
    """The characters that a vocabulary can write."""
    if lib.llama_vocab_type(vocab) != lib.LLAMA_VOCAB_TYPE_SPM:
        return WritableCharacters()
    missing_bytes = frozenset(_missing_bytes(vocab, num_tokens))
    if not missing_bytes:
        return WritableCharacters()
    texts = [_text(vocab, token) for token in range(num_tokens)]
    special = [text for i, text in enumerate(texts) if text and _attributes(vocab, i) & SPECIAL]
    longest_first = sorted(special, key=len, reverse=True)
    return WritableCharacters(
        missing_bytes,
        frozenset(text for text in texts if len(text) == 1),
        re.compile("|".join(map(re.escape, longest_first))),
    )


def _missing_bytes(vocab: lib.llama_vocab_p, num_tokens: int) -> set[int]:
    """The bytes that have no token. Those of real vocabularies are among the first thousand."""
    missing = {f"<0x{byte:02X}>": byte for byte in range(NUM_BYTES)}
    for token in range(num_tokens):
        missing.pop(_text(vocab, token), None)
        if not missing:
            break
    return set(missing.values())


def _text(vocab: lib.llama_vocab_p, token: int) -> str:
    return (lib.llama_vocab_get_text(vocab, token) or b"").decode("utf-8", "replace")


def _attributes(vocab: lib.llama_vocab_p, token: int) -> int:
    return int(lib.llama_vocab_get_attr(vocab, token))
