"""Which tokens a JSON schema allows next (GUIDE 7.4)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from ...errors import InvalidFormat
from ..llama.interface import LanguageModel

SCHEMA = "a valid JSON Schema object"
# Without a bound, a model can go on with newlines for ever.
WHITESPACE = r"[ \n\t]{0,24}"


class Grammar:
    """Follows one answer through a schema; ends when the answer is complete."""

    def __init__(self, matcher: LLMatcher, num_tokens: int) -> None:
        self._matcher = matcher
        self._num_tokens = num_tokens
        self._mask = np.zeros((num_tokens + 31) // 32, np.int32)

    def allowed(self) -> NDArray[np.bool_]:
        """For each token, whether it may come next."""
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little")
        return bits[: self._num_tokens].view(np.bool_)

    def num_possible(self, tokens: Sequence[int]) -> int:
        """How many of these tokens could come next, one after the other."""
        return int(self._matcher.validate_tokens(list(tokens)))

    def accept(self, token: int) -> None:
        """The token was drawn; it was allowed."""
        consumed = self._matcher.consume_token(token)
        assert consumed, self._matcher.get_error()


class GrammarCompiler:
    """Knows the vocabulary in the form that llguidance needs; built when first used."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._tokenizer: LLTokenizer | None = None

    def make(self, schema: str) -> Grammar:
        """A grammar for a JSON schema. Raises InvalidFormat with llguidance's reason."""
        if self._tokenizer is None:
            self._tokenizer = self._model.grammar_tokenizer()
        grammar = LLMatcher.grammar_from_json_schema(_bounded(schema))
        if problem := LLMatcher.validate_grammar(grammar, self._tokenizer):
            raise _invalid(problem)
        return Grammar(LLMatcher(self._tokenizer, grammar), self._model.num_tokens)


def _bounded(schema: str) -> str:
    guidance = {"whitespace_flexible": True, "whitespace_pattern": WHITESPACE}
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise _invalid(str(error)) from error
    if not isinstance(parsed, dict):
        raise _invalid("it is no JSON object")
    return json.dumps({**parsed, "x-guidance": guidance})


def _invalid(reason: str) -> InvalidFormat:
    return InvalidFormat(f'invalid format: {reason}; expected "json" or {SCHEMA}')
