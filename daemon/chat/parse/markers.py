"""Where does a marker stand in a text, and how much of its end may become one?"""

from __future__ import annotations

from collections.abc import Iterable


def split_at(text: str, markers: Iterable[str]) -> tuple[str, str, str]:
    """The text before the first marker, the marker, and the rest.

    Of markers at one place the longest counts. Without a marker the last two are "" and the part
    that may still become one: "ab<to" and the marker "<tool>" give ("ab", "", "<to").
    """
    markers = tuple(markers)
    found = [(at, -len(marker), marker) for marker in markers if (at := text.find(marker)) >= 0]
    if found:
        at, _, marker = min(found)
        return text[:at], marker, text[at + len(marker) :]
    keep = max((overlap(text, marker) for marker in markers), default=0)
    return text[: len(text) - keep], "", text[len(text) - keep :]


def split_blanks(text: str) -> tuple[str, str]:
    """The text, and the blanks at its end, which a parser holds back until more text follows."""
    kept = text.rstrip()
    return kept, text[len(kept) :]


def overlap(text: str, marker: str) -> int:
    """How many characters at the end of the text could begin the marker."""
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0
