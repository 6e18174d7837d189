"""What does a Go template see of a conversation (CONTRACT 8.2)?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..conversation import Conversation, Infill, Message, Tool, ToolCall
from ..tool_definition import mapping, sequence
from .go_values import GoList, GoStruct, GoTypes, to_json, to_object

MEDIUM = "medium"  # the level of `think: true` (CONTRACT 1.7)
TYPESCRIPT = {  # the names of JSON schema types in TypeScript; others are `any`
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def of_conversation(conversation: Conversation, messages: Sequence[Message]) -> dict[str, object]:
    """The variables of a template that goes through `.Messages`."""
    return {
        "System": system_of(messages),
        "Messages": [_message(message) for message in messages],
        "Tools": _tools(conversation.tools),
        "Response": "",
        **of_think(conversation.think),
    }


def of_infill(infill: Infill) -> dict[str, object]:
    """The variables of a template that fills a gap."""
    texts = {"Prompt": infill.prompt, "Suffix": infill.suffix, "Response": ""}
    return {**texts, **of_think(infill.think)}


def of_think(think: bool | str | None) -> dict[str, object]:
    level = think if isinstance(think, str) else MEDIUM if think else ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


def system_of(messages: Iterable[Message]) -> str:
    """All system messages, with blank lines between."""
    return "\n\n".join(message.content for message in messages if message.role == "system")


def to_typescript(value: object) -> str:
    """`toTypeScriptType`: the type of a property."""
    if not isinstance(value, GoStruct):
        return "any"
    parts = value["AnyOf"] or value["Type"]
    if not isinstance(parts, list) or not parts:
        return "any"
    return " | ".join(
        to_typescript(part) if isinstance(part, GoStruct) else TYPESCRIPT.get(str(part), "any")
        for part in parts
    )


def _message(message: Message) -> dict[str, object]:
    calls = [_call(call) for call in message.tool_calls]
    return {
        "Role": message.role,
        "Content": message.content,
        "Thinking": message.thinking,
        "Images": [],
        "ToolCalls": GoList(calls, to_json(calls)),
        "ToolName": message.tool_name,
        "ToolCallID": message.tool_call_id,
    }


def _call(call: ToolCall) -> GoStruct:
    arguments = GoStruct(call.arguments, to_json(call.arguments))
    fields = {"Index": call.index, "Name": call.name, "Arguments": arguments}
    function = GoStruct(fields, _encode(fields))
    known = {"ID": call.id, "Function": function}
    return GoStruct(known, _encode({"id": call.id or None, "function": function}))


def _tools(tools: Iterable[Tool]) -> GoList:
    known = [_tool(tool.definition) for tool in tools]
    return GoList(known, to_json(known))


def _tool(definition: Mapping[str, object]) -> GoStruct:
    fields = {
        "Type": definition.get("type", "function"),
        "Items": definition.get("items"),
        "Function": _function(mapping(definition.get("function"))),
    }
    return GoStruct(fields, _encode(fields))


def _function(function: Mapping[str, object]) -> GoStruct:
    fields = {
        "Name": function.get("name", ""),
        "Description": function.get("description") or "",
        "Parameters": _parameters(mapping(function.get("parameters"))),
    }
    return GoStruct(fields, _encode({**fields, "Description": fields["Description"] or None}))


def _parameters(schema: Mapping[str, object]) -> GoStruct:
    properties = _properties(schema.get("properties"))
    fields = {
        "Type": schema.get("type", "object"),
        "Defs": schema.get("$defs"),
        "Items": schema.get("items"),
        "Required": sequence(schema.get("required")),
        "Properties": GoStruct(properties, to_json(properties)),
    }
    written = {
        "type": fields["Type"],
        "$defs": fields["Defs"] or None,
        "items": fields["Items"] or None,
        "required": fields["Required"] or None,
        "properties": fields["Properties"],
    }
    return GoStruct(fields, _encode(written))


def _properties(schemas: object) -> dict[str, object]:
    return {name: _property(mapping(schema)) for name, schema in mapping(schemas).items()}


def _property(schema: Mapping[str, object]) -> GoStruct:
    """Only these keywords reach a template (CONTRACT 1.9)."""
    nested = _properties(schema.get("properties"))
    fields = {
        "AnyOf": [_property(mapping(part)) for part in sequence(schema.get("anyOf"))],
        "Type": _types(schema.get("type")),
        "Items": schema.get("items"),
        "Description": schema.get("description") or "",
        "Enum": sequence(schema.get("enum")),
        "Properties": GoStruct(nested, to_object(nested.items())),
        "Required": sequence(schema.get("required")),
    }
    written = {key: value or None for key, value in fields.items()}
    property_ = GoStruct(fields, _encode(written))
    property_["ToTypeScriptType"] = to_typescript(property_)
    return property_


def _encode(fields: Mapping[str, object]) -> str:
    """The fields as JSON, in this order and named as clients name them; None is left out."""
    return to_object(
        (key[0].lower() + key[1:], value) for key, value in fields.items() if value is not None
    )


def _types(value: object) -> GoTypes:
    return GoTypes([value] if isinstance(value, str) else map(str, sequence(value)))
