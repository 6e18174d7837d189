"""What in the log of a daemon shows a fault that no client may cause?"""

from __future__ import annotations

import re
from pathlib import Path

# A traceback of Python is never a line of an orderly log, and neither are these words.
UNWANTED = re.compile(
    r"Traceback \(most recent|Task exception was never retrieved|was never awaited"
    r"|Unclosed |Unhandled exception|ERROR (?:GET|POST|PUT|DELETE|HEAD) \S* failed"
)
MAX_SHOWN = 5  # of each kind
AROUND = 40  # lines that are shown of each


def find_faults(log: Path) -> list[str]:
    """The first unwanted places of a log, with the lines that follow."""
    lines = log.read_text(errors="replace").splitlines()
    at = [number for number, line in enumerate(lines) if UNWANTED.search(line)]
    return ["\n".join(lines[max(0, number - 2) : number + AROUND]) for number in at[:MAX_SHOWN]]
