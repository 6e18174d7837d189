"""How does the benchmark report its progress? On stderr, apart from the results."""

from __future__ import annotations

import sys


def tell(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
