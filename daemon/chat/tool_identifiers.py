"""Under which identifier does a model know a tool whose name is none? (CONTRACT 8.8, harmony)"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .conversation import Tool
from .tool_definition import name_of

SEPARATORS = re.compile(r"[\s.-]")
FOREIGN = re.compile(r"[^\w$]")


def identifiers(tools: Sequence[Tool]) -> Mapping[str, str]:
    """The identifier of each tool, by its name; the same tools give the same ones."""
    found: dict[str, str] = {}
    for tool in tools:
        name = name_of(tool)
        if name in found:
            continue
        base = identifier(name)
        taken = set(found.values())
        found[name], number = base, 1
        while found[name] in taken:
            number += 1
            found[name] = f"{base}_{number}"
    return found


def identifier(name: str) -> str:
    """A name as an identifier of TypeScript."""
    text = FOREIGN.sub("", SEPARATORS.sub("_", name)) or "_"
    return f"_{text}" if text[0].isdigit() else text
