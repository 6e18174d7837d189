"""Which tokens does a grammar allow next (GUIDE 7.4)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from ...chat.schema_keywords import invalid_format
from ...errors import InvalidFormat

SIMPLIFY: Final = "simplify it (fewer optional properties, fewer alternatives)"
STUCK: Final = ("NoExtension", "NoExtensionBias")  # errors of a matcher that can go nowhere
NO_TOKEN: Final = "the schema allows no further token"
PANICKED: Final = (
    "the schema cannot be compiled: a keyword has a value of the wrong type, or it is too large"
)
PANIC: Final = "panic:"  # begins the error of a matcher whose Rust code panicked
LIMITED: Final = ("max is", "too big", "too large", "limit", "too many")  # in errors about limits


class Grammar:
    """Follows one answer through a grammar; ends when the answer is complete."""

    def __init__(self, matcher: LLMatcher, num_tokens: int) -> None:
        self._matcher = matcher
        self._num_tokens = num_tokens
        self._mask = np.zeros((num_tokens + 31) // 32, np.int32)

    def copy(self) -> Grammar:
        """The same place in the same grammar, for another answer."""
        return Grammar(self._matcher.deep_copy(), self._num_tokens)

    def allowed(self) -> NDArray[np.bool_]:
        """For each token, whether it may come next. Raises InvalidFormat if none may, or at a
        limit of the parser."""
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if self._matcher.is_error():  # its mask would end the answer as if it were complete
            raise error_of(self._matcher)
        if not self._mask.any():
            raise invalid_format(NO_TOKEN)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little")
        return bits[: self._num_tokens].view(np.bool_)

    def num_possible(self, tokens: Sequence[int]) -> int:
        """How many of these tokens could come next, one after the other."""
        return int(self._matcher.validate_tokens(list(tokens)))

    def accept(self, token: int) -> None:
        """Advance by an allowed token. Raises InvalidFormat at a limit of the parser."""
        if not self._matcher.consume_token(token):
            raise error_of(self._matcher)


def error_of(matcher: LLMatcher) -> InvalidFormat:
    """Why a matcher is in an error state: for a user, and for the log as the cause."""
    problem = problem_of(matcher)
    reason = problem
    if problem.startswith(PANIC):
        reason = PANICKED
    elif problem in STUCK:
        reason = NO_TOKEN
    elif any(sign in problem for sign in LIMITED):
        reason = f"the schema is too complex: {problem.partition('; consider')[0]}; {SIMPLIFY}"
    error = invalid_format(reason)
    error.__cause__ = RuntimeError(problem)
    return error


def problem_of(matcher: LLMatcher) -> str:
    """The error of a matcher in llguidance's words, without the parser's state."""
    return str(matcher.get_error()).partition("\n<")[0].strip()
