"""How is a `pattern` of a JSON schema (ECMA-262) worded for the regular expressions of a grammar?

These are Rust's (GUIDE 7.4): without lookaround, word boundaries and backreferences, and with other
rules about which characters stand for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TOKEN: Final = re.compile(
    r"\\c[A-Za-z] | \\k<\w+> | \\[1-9]\d? | \\."  # escapes
    r"| \[\^?\] | \[(?:\\.|[^\]\\])*\]"  # classes; the first two are empty ones
    r"| \(\?<?[=!] | \(\?P?<\w+> | \(\?: | \( | \)"  # groups; the first is a lookaround
    r"| \{\d+(?:,\d*)?\}[?+]? | [*+?][?+]?"  # quantifiers
    r"| .",
    re.VERBOSE | re.DOTALL,
)
QUANTIFIER: Final = re.compile(r"[*+?]|\{\d")
EMPTY_CLASSES: Final = {"[]": r"[^\s\S]", "[^]": r"[\s\S]"}
ANCHORS: Final = {"\\A": "^", "\\Z": "$", "\\z": "$"}
ANYTHING: Final = r"[\s\S]*"


@dataclass(frozen=True, slots=True)
class PatternWording:
    """A regular expression that matches what a pattern matches, or more."""

    text: str
    is_weaker: bool = False


def word_pattern(pattern: str) -> Iterator[PatternWording]:
    """The pattern in ever weaker wordings; a grammar takes the first that it can follow."""
    yield PatternWording(pattern)
    yield PatternWording("".join(map(_escape, TOKEN.findall(pattern))))
    yield PatternWording("".join(_weaken(pattern)), is_weaker=True)


def _escape(token: str) -> str:
    """The same meaning in Rust's words."""
    if token in EMPTY_CLASSES:
        return EMPTY_CLASSES[token]
    if token.startswith("[") and len(token) > 2:
        head = 2 if token.startswith("[^") else 1
        return token[:head] + re.sub(r"(?<!\\)[\[&~]", r"\\\g<0>", token[head:-1]) + "]"
    if token.startswith("\\c") and len(token) == 3:
        return f"\\x{ord(token[2].upper()) - 64:02x}"
    return "\\" + token if token in ("{", "}") else ANCHORS.get(token, token)


def _weaken(pattern: str) -> Iterator[str]:
    """The pattern without lookaround and word boundaries; backreferences match anything."""
    depth = 0  # of the groups inside a lookaround
    after_dropped = False
    for token in TOKEN.findall(pattern):
        if depth:
            depth += token.startswith("(") - (token == ")")
            after_dropped = not depth
        elif re.fullmatch(r"\(\?<?[=!]", token):
            depth = 1
        elif token in ("\\b", "\\B"):
            after_dropped = True
        elif re.fullmatch(r"\\k<\w+>|\\[1-9]\d?", token):
            yield ANYTHING
            after_dropped = True
        elif not (after_dropped and QUANTIFIER.match(token)):
            after_dropped = False
            yield _escape(token)
