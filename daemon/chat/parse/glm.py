"""Tool calls as a name, `<arg_key>` and `<arg_value>`: GLM 4.5 to 4.7, Laguna (CONTRACT 8.8)."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence

from ..conversation import Tool, ToolCall
from ..tool_definition import function_of, mapping, parameters_of
from .call_blocks import BlockSyntax
from .call_grammar import join_calls, literal, text_or_enum, value_of
from .coercion import coerce, types_of
from .hermes import CALL, CALL_END, TAGS, make_calls_parser, read_json_calls
from .parser import ParserFamily
from .thinking import CLOSE, OPEN

KEY, KEY_END, VALUE, VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"
MARKERS = (*TAGS, KEY, KEY_END, VALUE, VALUE_END)
_NAME = re.compile(r"\s*([\w.:/-]+)\s*(?=<arg_key>|\Z)")
_ARGUMENT = re.compile(
    r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)(?:</arg_value>|(?=<arg_key>)|\Z)", re.DOTALL
)


def glm_syntax(tools: Sequence[Tool]) -> BlockSyntax:
    """The marks of these calls."""

    def read(block: str, ended: bool) -> Sequence[ToolCall]:
        return _read_glm_call(block, tools, ended) or read_json_calls(block, ended)

    return BlockSyntax(CALL, CALL_END, read, _in_value, strays=(CLOSE,))


def _in_value(block: str) -> bool:
    return block.rfind(VALUE) > block.rfind(VALUE_END)


def _read_glm_call(block: str, tools: Sequence[Tool], ended: bool) -> Sequence[ToolCall]:
    """One call. If the output was cut off, only a block that ends with a value is one."""
    name = _NAME.match(block)
    if not name or (not ended and not block.rstrip().endswith(VALUE_END)):
        return ()
    schema = parameters_of(name[1], tools)
    pairs = ((pair[1].strip(), pair[2]) for pair in _ARGUMENT.finditer(block))
    return [ToolCall(name[1], {key: coerce(value, key, schema) for key, value in pairs})]


def glm_grammar(tools: Sequence[Tool], special: Container[str]) -> str:
    """A Lark grammar of calls of these tools (ParserFamily.call_grammar).

    Required arguments are demanded; all come in the order of the schema.
    """
    calls = [_function_grammar(function_of(tool), special) for tool in tools]
    return join_calls(calls, CALL, CALL_END, MARKERS, special, between="", text_end=VALUE_END)


def _function_grammar(function: Mapping[str, object], special: Container[str]) -> str:
    schema = mapping(function.get("parameters"))
    required = schema.get("required")
    parts = [literal(str(function.get("name")))]
    for name, described in mapping(schema.get("properties")).items():
        head = literal(f"{KEY}{name}{KEY_END}{VALUE}", MARKERS, special)
        part = f"{head} {_value_grammar(described, schema, special)}"
        is_required = isinstance(required, list) and name in required
        parts.append(part if is_required else f"({part})?")
    return " ".join(parts)


def _value_grammar(described: object, schema: Mapping[str, object], special: Container[str]) -> str:
    types = set(types_of(described, schema))
    if types and "string" not in types:
        return f"{value_of(described, schema)} {literal(VALUE_END, MARKERS, special)}"
    return text_or_enum(described, VALUE_END, special)


GLM_FAMILY = ParserFamily(
    make_calls_parser(glm_syntax, thinks=True),
    markers=MARKERS,
    openings=(OPEN, CALL),
    thinks=True,
    calls=True,
    call_grammar=glm_grammar,
)
