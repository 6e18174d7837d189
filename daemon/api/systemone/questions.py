"""Which questions does a request ask, and which of them cannot be asked? (CONTRACT 2.8)"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...errors import BadRequest
from .wire import DecisionQuestion

CHOICE, NOUL, SCORE = "choice", "noul", "score"  # the types
CODES = string.ascii_uppercase  # of the options, in their order; the model answers with one
MIN_OPTIONS, MAX_OPTIONS = 2, len(CODES)
MAX_QUESTIONS = 64  # of one request
NO, YES = "No", "Yes"  # how the answers of a noul are described unless the client does


@dataclass(frozen=True, slots=True)
class Option:
    """One of the answers that a question allows."""

    value: str | bool  # a client's key, a level as text, or the truth value
    description: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its 2 to 26 options."""

    name: str
    kind: str  # CHOICE, NOUL or SCORE
    instructions: str
    options: tuple[Option, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The letter of each option."""
        return tuple(CODES[: len(self.options)])


def read_questions(given: Mapping[str, DecisionQuestion]) -> list[Question]:
    """The questions in their order. Raises BadRequest, which names the wrong one."""
    if not 1 <= len(given) <= MAX_QUESTIONS:
        raise BadRequest(f"questions must contain 1\N{EN DASH}{MAX_QUESTIONS} fields")
    return [_read(name, question) for name, question in given.items()]


def read_content(value: object, wrong: str) -> str:
    """Text as it is, and a JSON object or array as compact JSON.

    Raises BadRequest with the text `wrong` for anything else, and for blank text.
    """
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(wrong)
    return value


def _read(name: str, given: DecisionQuestion) -> Question:
    try:
        if not name.strip():
            raise BadRequest("field name must not be empty")
        instructions = read_content(
            given.instructions, "instructions must be a nonempty string, object, or array"
        )
        if given.type not in READERS:
            raise BadRequest("type must be choice, noul, or score")
        options = READERS[given.type](given.criteria)
        if not MIN_OPTIONS <= len(options) <= MAX_OPTIONS:
            raise BadRequest(
                f"criteria must contain {MIN_OPTIONS}\N{EN DASH}{MAX_OPTIONS} candidates"
            )
    except BadRequest as error:
        raise BadRequest(f'question "{name}": {error}') from None
    return Question(name, given.type, instructions, options)


def _choices(criteria: object) -> tuple[Option, ...]:
    """A key without a description describes itself."""
    wrong = "choice criteria must map option keys to descriptions or null"
    if not isinstance(criteria, dict):
        raise BadRequest(wrong)
    if not all(key.strip() for key in criteria):
        raise BadRequest("choice keys must not be empty")
    described = {key: key if text is None else text for key, text in criteria.items()}
    return tuple(Option(key, _text(text, wrong)) for key, text in described.items())


def _truth_values(criteria: object) -> tuple[Option, ...]:
    criteria = {} if criteria is None else criteria
    if not isinstance(criteria, dict):
        raise BadRequest("noul criteria must be an object of true/false descriptions")
    for key in criteria.keys() - {"false", "true"}:
        raise BadRequest(f'unknown noul criterion "{key}"')
    wrong = "noul descriptions must be strings"
    no, yes = (_text(text, wrong) for text in ({"false": NO, "true": YES} | criteria).values())
    return Option(False, no), Option(True, yes)


def _levels(criteria: object) -> tuple[Option, ...]:
    if not isinstance(criteria, list):
        raise BadRequest("score criteria must be an array of descriptions")
    wrong = "score descriptions must be strings"
    return tuple(Option(str(level), _text(text, wrong)) for level, text in enumerate(criteria))


READERS: Mapping[str, Callable[[object], tuple[Option, ...]]] = {
    CHOICE: _choices,
    NOUL: _truth_values,
    SCORE: _levels,
}
"""How the criteria of each type of question become options."""


def _text(value: object, wrong: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(wrong)
    return value
