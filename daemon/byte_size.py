"""How is a size in bytes parsed: a number, or one with a unit, such as "24GiB"?"""

from __future__ import annotations

import re

SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+) *([kmgt]i?b)?b?")  # of text in lower case
POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
BAD_SIZE = "{!r} is not a size such as 24GiB, 800MB or a number of bytes"


def parse_bytes(text: str) -> int:
    """Bytes; KiB, MiB, GiB and TiB are binary, KB, MB, GB and TB decimal. Raises ValueError."""
    found = SIZE.fullmatch(text.strip().lower())
    if not found:
        raise ValueError(BAD_SIZE.format(text))
    unit = found[2] or ""
    base = 1024 if "i" in unit else 1000
    return int(float(found[1]) * base ** POWERS.get(unit[:1], 0))
