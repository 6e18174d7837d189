"""What does an answer follow, and how is that worded for llguidance (GUIDE 7.4)?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from llguidance import LLMatcher

from ...chat.schema import INTERSECTIONS, prepare_schema
from ...chat.schema_keywords import invalid_format

# Without a bound, a model can repeat newlines without end (GUIDE 7.4).
WHITESPACE: Final = r"[ \n\t]{0,24}"
GUIDANCE: Final = {"whitespace_flexible": True, "whitespace_pattern": WHITESPACE}
# What an error of llguidance 1.9.1 says, and the keywords that cause it, the first one first.
CAUSES: Final = (
    ("multipleOf", ("multipleOf",)),
    ("min/maxProperties", ("minProperties", "maxProperties")),
    ("patternProperty", ("patternProperties",)),
    ("patternProperties", ("patternProperties",)),
    ("circular references with sibling", (INTERSECTIONS,)),
    ("intersection stack", (INTERSECTIONS,)),
    ("schema too large", (INTERSECTIONS,)),
    ("Regex is empty", ("format", "pattern")),
    ("regex", ("pattern", "format")),
)
ANY_TOKEN: Final = "<[*]>"
JSON_RULE: Final = "%json"  # begins a JSON schema in a Lark grammar


class Vocabulary(Protocol):
    """What the wording depends on."""

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, with special tokens recognised."""
        ...

    def is_special(self, token: int) -> bool:
        """Whether a grammar has to name this token by its number."""
        ...

    def piece(self, token: int) -> str:
        """The text of a token."""
        ...


@dataclass(frozen=True, slots=True)
class Wording:
    """A grammar as llguidance reads it, and the keywords of a schema that it does not follow."""

    grammar: str
    passed_over: tuple[str, ...] = ()


class GrammarSource(Protocol):
    """What an answer follows."""

    @property
    def digest(self) -> bytes:
        """The same for what is the same grammar."""
        ...

    def word(self, vocabulary: Vocabulary, leave_out: Iterable[str] = ()) -> Wording:
        """Word it for llguidance, without keywords that it refused. Raises InvalidFormat."""
        ...


@dataclass(frozen=True, slots=True)
class SchemaSource:
    """A JSON schema, as text."""

    text: str

    @property
    def digest(self) -> bytes:
        return _digest("schema", self.text)

    def word(self, vocabulary: Vocabulary, leave_out: Iterable[str] = ()) -> Wording:
        schema, passed_over = _prepare(_read(self.text), leave_out)
        return Wording(LLMatcher.grammar_from_json_schema(schema), passed_over)


@dataclass(frozen=True, slots=True)
class LarkSource:
    """A Lark grammar, as text. JSON schemas in it are prepared like any other."""

    text: str

    @property
    def digest(self) -> bytes:
        return _digest("lark", self.text)

    def word(self, vocabulary: Vocabulary, leave_out: Iterable[str] = ()) -> Wording:
        lark, passed_over = _prepare_lark(self.text, leave_out)
        return Wording(LLMatcher.grammar_from_lark(lark), passed_over)


@dataclass(frozen=True, slots=True)
class OpeningsSource:
    """One of the markers that begin a thought or a call, and then anything."""

    openings: tuple[str, ...]
    may_end: bool = False  # the output may also end instead

    @property
    def digest(self) -> bytes:
        return _digest("openings", str(self.may_end), *self.openings)

    def word(self, vocabulary: Vocabulary, leave_out: Iterable[str] = ()) -> Wording:
        alternatives = dict.fromkeys(
            worded for opening in self.openings for worded in _word_opening(opening, vocabulary)
        )
        start = "start: (opening rest)?" if self.may_end else "start: opening rest"
        lark = f"{start}\nopening: {' | '.join(alternatives)}\nrest: {ANY_TOKEN}*\n"
        return Wording(LLMatcher.grammar_from_lark(lark))


def _word_opening(opening: str, vocabulary: Vocabulary) -> Iterable[str]:
    """A marker as its tokens, and as text: a model may spell it."""
    tokens = vocabulary.tokens(opening)
    if any(map(vocabulary.is_special, tokens)):
        yield " ".join(
            f"<[{token}]>" if vocabulary.is_special(token) else _literal(vocabulary.piece(token))
            for token in tokens
        )
    yield _literal(opening)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def causes(problem: str) -> tuple[str, ...]:
    """The keywords that may have caused an error of llguidance."""
    return next((keywords for sign, keywords in CAUSES if sign in problem), ())


@lru_cache(maxsize=1024)
def accepts_pattern(pattern: str) -> bool:
    """Whether llguidance can follow a regular expression."""
    schema = {"type": "string", "pattern": pattern}
    return not LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(json.dumps(schema)))


def _read(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise invalid_format(str(error)) from error
    if not isinstance(parsed, dict):
        raise invalid_format("it is no JSON object")
    return parsed


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _prepare(schema: dict[str, Any], leave_out: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    try:
        prepared = prepare_schema(schema, accepts_pattern, leave_out)
        text = json.dumps({**prepared.schema, "x-guidance": GUIDANCE}, ensure_ascii=False)
    except RecursionError as error:
        raise invalid_format("the schema is nested too deeply") from error
    return text, prepared.passed_over


def _prepare_lark(lark: str, leave_out: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The grammar with all JSON schemas in it prepared."""
    worded: list[str] = []
    passed_over: list[str] = []
    at = 0
    decoder = json.JSONDecoder()
    for found in re.finditer(rf"{JSON_RULE}\s*(?=\{{)", lark):
        if found.start() < at:  # inside a schema
            continue
        schema, end = decoder.raw_decode(lark, found.end())
        text, passed = _prepare(schema, leave_out)
        worded += [lark[at : found.end()], text]
        passed_over += passed
        at = end
    return "".join([*worded, lark[at:]]), tuple(dict.fromkeys(passed_over))


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).digest()
