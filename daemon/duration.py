"""How a duration is parsed: Go's notation, as Ollama's clients send it (CONTRACT 1.6)."""

from __future__ import annotations

import math
import re

# Seconds of each unit of Go's time.ParseDuration.
UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
MAX_CHARS = 1000  # of a duration: a longer text is none
SHOWN_CHARS = 100  # of one, in an error
TERM = re.compile(r"(\d++\.?\d*+|\.\d++)([a-zµμ]++)")


def parse_duration(value: object) -> float:
    """Seconds of a JSON number or a Go duration string; anything negative means forever (inf).

    Raises ValueError with the contract's text.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"Unsupported type: '{_go_type(value)}'")
    try:
        seconds = parse_go(value) if isinstance(value, str) else float(value)
    except OverflowError:
        raise ValueError("a duration must fit a 64-bit float") from None
    if math.isnan(seconds):
        raise ValueError("a duration must be a number")
    return math.inf if seconds < 0 else seconds


def parse_go(text: str) -> float:
    """Seconds of a Go duration such as "1h30m" or "-500ms"; only "0" may go without a unit."""
    if len(text) > MAX_CHARS:
        raise ValueError(f'time: invalid duration "{text[:SHOWN_CHARS]}..."')
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    if rest.isdecimal():
        raise ValueError(f'time: missing unit in duration "{text}"')
    total_s, end = 0.0, 0
    while (term := TERM.match(rest, end)) and term[2] in UNITS_S:
        total_s, end = total_s + float(term[1]) * UNITS_S[term[2]], term.end()
    if not rest or end != len(rest):
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * total_s


def _go_type(value: object) -> str:
    names = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
    return names.get(type(value), "<nil>")
