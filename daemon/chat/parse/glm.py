"""Tool calls as a name, `<arg_key>` and `<arg_value>`: GLM 4.5 to 4.7, Laguna (CONTRACT 8.8)."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from ..conversation import Tool, ToolCall
from ..tool_definition import name_of, parameters_of, schema_of
from .call_blocks import BlockFormat, CallBlock, SplitCalls
from .call_grammar import in_order, join_calls, literal, text_value
from .coercion import coerce
from .hermes import CALL, CALL_END, read_cut_json, read_json, tagged_family
from .thinking import CLOSE

KEY, KEY_END, VALUE, VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"
MARKERS = (CALL, CALL_END, KEY, KEY_END, VALUE, VALUE_END)
_NAME = re.compile(r"\s*([\w.:/-]+)\s*(?=<arg_key>|\Z)")
_ARGUMENT = re.compile(
    r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)(?:</arg_value>|(?=<arg_key>)|\Z)", re.DOTALL
)


def glm_format(tools: Sequence[Tool]) -> BlockFormat:
    """The marks of these calls. Cut off, only a block that ends with a value is one."""

    def read(text: str) -> SplitCalls:
        return _read_call(text, tools) or read_json(text)

    def read_cut(text: str) -> SplitCalls:
        return read(text) if text.rstrip().endswith(VALUE_END) else read_cut_json(text)

    return BlockFormat(
        (CallBlock(CALL, CALL_END, read, read_cut, ended_by=(CALL,), is_open=_in_value),),
        strays=(CLOSE,),
    )


def _in_value(text: str) -> bool:
    return text.rfind(VALUE) > text.rfind(VALUE_END)


def _read_call(text: str, tools: Sequence[Tool]) -> SplitCalls | None:
    name = _NAME.match(text)
    if not name:
        return None
    schema = parameters_of(name[1], tools)
    pairs = ((pair[1].strip(), pair[2]) for pair in _ARGUMENT.finditer(text))
    return [ToolCall(name[1], {key: coerce(value, key, schema) for key, value in pairs})], ""


def glm_grammar(tools: Sequence[Tool], special: Container[str]) -> str:
    """A Lark grammar of calls of these tools (ParserFamily.call_grammar).

    Required arguments are demanded; all come in the order of the schema.
    """
    calls = [_call_grammar(tool, special) for tool in tools]
    return join_calls(calls, MARKERS, special, each=(CALL, CALL_END), text_end=VALUE_END)


def _call_grammar(tool: Tool, special: Container[str]) -> str:
    schema = schema_of(tool)

    def word(name: str, described: object) -> str:
        head = literal(f"{KEY}{name}{KEY_END}{VALUE}", MARKERS, special)
        return f"{head} {text_value(described, schema, VALUE_END, special)}"

    return " ".join([literal(name_of(tool)), *in_order(schema, word)])


GLM_FAMILY = tagged_family(
    glm_format, thinks=True, grammar=glm_grammar, inner=(KEY, KEY_END, VALUE, VALUE_END)
)
