"""Which tools does a request to /v1/responses offer, and which must be called (CONTRACT 2.6)?"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...chat.conversation import REQUIRED, Tool
from ...errors import BadRequest, Unsupported
from ..request import read_tools
from ..wire_model import JsonObject

CHOICES = {"auto": "", "none": "", "required": REQUIRED}
EMPTY_PARAMETERS = {"type": "object", "properties": {}}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResponseTool:
    """A function, and the namespace that it stands in; "": none."""

    tool: Tool
    name: str
    namespace: str = ""

    @property
    def full_name(self) -> str:
        """What the model calls it."""
        return full_name(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """The tools that the model may call, and the `tool_choice` of the conversation."""

    tools: tuple[ResponseTool, ...]
    choice: str = ""

    def split(self, name: str) -> tuple[str, str]:
        """Namespace and name of the tool that the model has called."""
        for tool in self.tools:
            if tool.full_name == name:
                return tool.namespace, tool.name
        return "", name


def full_name(namespace: str, name: str) -> str:
    """Members of a namespace have its name in front of their own (CONTRACT 2.6)."""
    return f"{namespace}.{name}" if namespace else name


def read_offer(tools: Sequence[JsonObject], choice: str | JsonObject) -> ToolOffer:
    """What the model may call and what it must. Raises BadRequest and Unsupported."""
    if choice == "none":
        return ToolOffer(())
    offered = _offered(tools)
    if isinstance(choice, str):
        if choice not in CHOICES:
            raise BadRequest(f'invalid tool_choice: "{choice}"')
        return _demand(offered, CHOICES[choice])
    if choice.get("type") == "allowed_tools":
        return _allowed(offered, choice)
    if choice.get("type") != "function":
        raise Unsupported(f'tool_choice of type "{choice.get("type")}" is not supported')
    return _demand(offered, _known(offered, choice).full_name)


def _offered(tools: Sequence[JsonObject]) -> tuple[ResponseTool, ...]:
    """The functions.

    A tool that OpenAI's servers would run is left out if there are functions, because agents offer
    it always. Raises Unsupported if there is none besides.
    """
    offered = tuple(tool for item in tools for tool in _functions(item))
    for item in tools:
        if item.get("type") not in ("function", "namespace"):
            text = f'the tool type "{item.get("type")}" is not supported'
            if not offered:
                raise Unsupported(f"{text}; define a function and run it yourself")
            log.info("%s; the tool is left out", text)
    return offered


def _functions(item: JsonObject, namespace: str = "") -> Iterator[ResponseTool]:
    name = item.get("name")
    if item.get("type") not in ("function", "namespace"):
        return
    if not isinstance(name, str) or not name:
        raise BadRequest("a tool has no name")
    if item["type"] == "function":
        yield ResponseTool(_tool(item, full_name(namespace, name)), name, namespace)
        return
    members = item.get("tools")
    for member in members if isinstance(members, list) else ():
        if isinstance(member, dict):
            yield from _functions(member, name)


def _tool(item: JsonObject, name: str) -> Tool:
    """OpenAI's flat definition in the form that templates know (CONTRACT 1.9)."""
    function = {key: item[key] for key in ("description", "parameters") if item.get(key)}
    named = {"name": name, "parameters": EMPTY_PARAMETERS, **function}
    (tool,) = read_tools([{"type": "function", "function": named}])
    return tool


def _allowed(offered: tuple[ResponseTool, ...], choice: Mapping[str, object]) -> ToolOffer:
    """Only some of the tools."""
    named = choice.get("tools")
    items = [item for item in named if isinstance(item, dict)] if isinstance(named, list) else []
    functions = [item for item in items if item.get("type") == "function"]
    allowed = {_known(offered, item).full_name for item in functions}
    kept = tuple(tool for tool in offered if tool.full_name in allowed)
    return _demand(kept, CHOICES.get(str(choice.get("mode")), ""))


def _known(offered: tuple[ResponseTool, ...], choice: Mapping[str, object]) -> ResponseTool:
    name = full_name(str(choice.get("namespace") or ""), str(choice.get("name") or ""))
    for tool in offered:
        if name in (tool.full_name, tool.name):
            return tool
    raise BadRequest(f'tool_choice names "{name}", which is not among the tools')


def _demand(offered: tuple[ResponseTool, ...], choice: str) -> ToolOffer:
    if choice and not offered:
        raise BadRequest(f'tool_choice "{choice}" needs tools')
    return ToolOffer(offered, choice)
