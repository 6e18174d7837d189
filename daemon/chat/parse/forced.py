"""Which tool must an answer call, and how is the call worded for a format without a grammar?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ...errors import BadRequest
from ..conversation import REQUIRED, Conversation, Tool
from ..tool_definition import function_of, name_of


def forced_tools(chat: Conversation) -> tuple[Tool, ...]:
    """The tools of which the answer must call one; none: it need not.

    Raises BadRequest for a tool choice that names no tool of the request.
    """
    if not chat.tool_choice:
        return ()
    if chat.tool_choice == REQUIRED:
        chosen = chat.tools
    else:
        chosen = tuple(tool for tool in chat.tools if name_of(tool) == chat.tool_choice)
    if not chosen:
        demand = "a call" if chat.tool_choice == REQUIRED else f"a call of {chat.tool_choice!r}"
        raise BadRequest(f"tool_choice demands {demand}, but the request has no such tool")
    return chosen


def calls_schema(tools: Sequence[Tool]) -> str:
    """The JSON schema of one call: the tool's name, then its arguments."""
    calls = [_call_schema(number, tool) for number, tool in enumerate(tools)]
    return json.dumps(calls[0] if len(calls) == 1 else {"anyOf": calls})


def _call_schema(number: int, tool: Tool) -> dict[str, object]:
    given = function_of(tool).get("parameters")
    arguments: dict[str, object] = {"type": "object"}
    if isinstance(given, Mapping):  # an address of its own, because `#` means this schema in it
        arguments |= {"$id": f"tool:/{number}", **given}
    parts = {"name": {"const": name_of(tool)}, "arguments": arguments}
    return {"type": "object", "properties": parts, "required": [*parts]}
