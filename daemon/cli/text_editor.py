"""How is a message edited in another program?"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path


def edit_text(command: str, text: str) -> str:
    """The text as `command` leaves it in a file. If the editor fails, the text stays as it was, and
    a line on stderr says why."""
    with tempfile.TemporaryDirectory(prefix="outrider-") as folder:
        file = Path(folder) / "message.txt"
        file.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(command), str(file)])
            if done.returncode == 0:
                return file.read_text("utf-8").rstrip("\n")
            reason = f"it ended with {done.returncode}"
        except (OSError, ValueError) as error:
            reason = str(error)
    print(f"Error: the editor {command!r} failed: {reason}", file=sys.stderr)
    return text
