"""Which tokens a JSON schema allows next (GUIDE 7.4)."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from ...errors import BadRequest, InvalidFormat
from ..llama.interface import LanguageModel

SCHEMA = "a valid JSON Schema object"
# Without a bound, a model can repeat newlines without end (GUIDE 7.4).
WHITESPACE = r"[ \n\t]{0,24}"
# Schemas that compile at the same time: a large one leaves a thread to the small ones. llguidance
# releases the GIL, and its own limits end any compilation: 4,000 optional properties take 1 s.
COMPILE_THREADS = 2
# Compiled schemas that are kept; 4,000 optional properties take 22 MB (measured).
MAX_CACHED = 8
SIMPLIFY = "simplify it (fewer optional properties, fewer alternatives)"
STUCK = ("NoExtension", "NoExtensionBias")  # errors of a matcher that can go nowhere
PANICKED = (
    "the schema cannot be compiled: a keyword has a value of the wrong type, or it is too large"
)
PANIC = "panic:"  # begins the error of a matcher whose Rust code panicked
LIMITED = ("max is", "too big", "too large", "limit")  # in errors that name a limit of llguidance


class Grammar:
    """Follows one answer through a schema; ends when the answer is complete."""

    def __init__(self, matcher: LLMatcher, num_tokens: int) -> None:
        self._matcher = matcher
        self._num_tokens = num_tokens
        self._mask = np.zeros((num_tokens + 31) // 32, np.int32)

    def copy(self) -> Grammar:
        """The same place in the same schema, for another answer."""
        return Grammar(self._matcher.deep_copy(), self._num_tokens)

    def allowed(self) -> NDArray[np.bool_]:
        """For each token, whether it may come next. Raises InvalidFormat at a limit."""
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if self._matcher.is_error():  # its mask would end the answer as if it were complete
            raise _error_of(self._matcher)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little")
        return bits[: self._num_tokens].view(np.bool_)

    def num_possible(self, tokens: Sequence[int]) -> int:
        """How many of these tokens could come next, one after the other."""
        return int(self._matcher.validate_tokens(list(tokens)))

    def accept(self, token: int) -> None:
        """Advance by an allowed token. Raises InvalidFormat at a limit of the parser."""
        if not self._matcher.consume_token(token):
            raise _error_of(self._matcher)


class GrammarCompiler:
    """Compiles schemas in threads of its own, each one once as long as it is remembered."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._tokenizer: LLTokenizer | None = None  # the vocabulary; built when first used
        self._building = threading.Lock()
        self._threads = ThreadPoolExecutor(COMPILE_THREADS, "grammar")
        self._compiled: OrderedDict[bytes, Future[Grammar]] = OrderedDict()  # by SHA-256

    def start(self, schema: str) -> Future[Grammar]:
        """Compile a JSON schema to a grammar, of which each answer needs a copy.

        To be called from one thread. The result raises InvalidFormat with llguidance's reason,
        BadRequest if the model's vocabulary cannot follow any schema.
        """
        digest = hashlib.sha256(schema.encode("utf-8", "replace")).digest()
        known = self._compiled.get(digest)
        if known is None or (known.done() and known.exception()):
            known = self._compiled[digest] = self._threads.submit(self._compile, schema)
        self._compiled.move_to_end(digest)
        if len(self._compiled) > MAX_CACHED:
            self._compiled.popitem(last=False)
        return known

    def _compile(self, schema: str) -> Grammar:
        grammar = LLMatcher.grammar_from_json_schema(_bounded(schema))
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(self._vocabulary(), grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise _error_of(matcher)
        return Grammar(matcher, self._model.num_tokens)

    def _vocabulary(self) -> LLTokenizer:
        with self._building:
            try:
                self._tokenizer = self._tokenizer or self._model.grammar_tokenizer()
            except ValueError as error:
                raise BadRequest(f"this model cannot follow a format: {error}") from error
            return self._tokenizer


def _bounded(schema: str) -> str:
    guidance = {"whitespace_flexible": True, "whitespace_pattern": WHITESPACE}
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise _invalid(str(error)) from error
    if not isinstance(parsed, dict):
        raise _invalid("it is no JSON object")
    return json.dumps({**parsed, "x-guidance": guidance})


def _error_of(matcher: LLMatcher) -> InvalidFormat:
    """Why a matcher is in an error state: for a user, and for the log as the cause."""
    problem = str(matcher.get_error()).partition("\n<")[0].strip()  # then comes the parser's state
    reason = problem
    if problem.startswith(PANIC):
        reason = PANICKED
    elif problem in STUCK:
        reason = "the schema allows no further token"
    elif any(sign in problem for sign in LIMITED):
        reason = f"the schema is too complex: {problem.partition('; consider')[0]}; {SIMPLIFY}"
    error = _invalid(reason)
    error.__cause__ = RuntimeError(problem)
    return error


def _invalid(reason: str) -> InvalidFormat:
    return InvalidFormat(f'invalid format: {reason}; expected "json" or {SCHEMA}')
