"""Which JSON object does a text of a model say?"""

from __future__ import annotations

import json
from typing import NoReturn


def json_object(text: str) -> dict[str, object] | None:
    """The object; None if the text is none, or holds what JSON cannot send on.

    Line breaks in strings are accepted, because models write them.
    """
    try:
        value = json.loads(text, strict=False, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()  # refuses half a surrogate pair
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}")
