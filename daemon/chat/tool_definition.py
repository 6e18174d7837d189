"""What does the client's definition of a tool say, whatever is missing or of a wrong type in it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .conversation import Tool


def mapping(value: object) -> Mapping[str, object]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[object]:
    """The value as a list if it is one, else an empty list."""
    return list(value) if isinstance(value, list | tuple) else []


def function_of(tool: Tool) -> Mapping[str, object]:
    """The description of the function, whether or not it is wrapped in {"function": ...}."""
    return mapping(tool.definition.get("function")) or tool.definition


def name_of(tool: Tool) -> str:
    """The name of a tool, or "" if it has none."""
    return str(function_of(tool).get("name", ""))


def schema_of(tool: Tool) -> Mapping[str, object]:
    """The JSON schema of the arguments, empty if there is none."""
    return mapping(function_of(tool).get("parameters"))


def parameters_of(name: str, tools: Sequence[Tool]) -> Mapping[str, object]:
    """The JSON schema of the arguments of the tool of that name, empty if it is unknown."""
    return next((schema_of(tool) for tool in tools if name_of(tool) == name), {})


def resolve(reference: str, schema: Mapping[str, object]) -> object:
    """What a reference such as "#/$defs/Colour" in a schema points to; None if to nothing."""
    if not reference.startswith("#"):
        return None
    place: object = schema
    for step in reference.split("/")[1:]:
        place = mapping(place).get(step.replace("~1", "/").replace("~0", "~"))
    return place
