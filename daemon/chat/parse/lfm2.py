"""Tool calls in Python's syntax between `<|tool_call_start|>` and its end: LFM2 (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Container, Sequence

from ..conversation import Tool
from ..tool_definition import mapping, name_of, schema_of, sequence
from .call_blocks import BlockFormat, CallBlock, SplitCalls
from .call_grammar import join_calls, literal, property_value
from .hermes import read_cut_json, read_json, tagged_family
from .thinking import CLOSE
from .tool_calls import split_python_calls
from .values import inside_string

CALL, CALL_END = "<|tool_call_start|>", "<|tool_call_end|>"


def lfm2_format(tools: Sequence[Tool]) -> BlockFormat:
    """The marks of these calls. The models can be asked to write JSON instead of Python."""

    def read(text: str) -> SplitCalls:
        return _read_python(text, tools) or read_json(text)

    def read_cut(text: str) -> SplitCalls:
        return _read_python(text, tools) or read_cut_json(text)

    return BlockFormat(
        (CallBlock(CALL, CALL_END, read, read_cut, ended_by=(CALL,), is_open=_in_string),),
        strays=(CLOSE,),
    )


def _read_python(text: str, tools: Sequence[Tool]) -> SplitCalls | None:
    calls, rest = split_python_calls(text, tools)
    return (calls, "") if calls and not rest else None


def _in_string(text: str) -> bool:
    return inside_string(text, quotes="\"'")


def lfm2_grammar(tools: Sequence[Tool], special: Container[str]) -> str:
    """A Lark grammar of calls of these tools (ParserFamily.call_grammar).

    Values are written as JSON, which differs from Python's literals in constants alone.
    """
    calls = [_call_grammar(tool) for tool in tools]
    return join_calls(calls, (CALL, CALL_END), special, each=(f"{CALL}[", f"]{CALL_END}"))


def _call_grammar(tool: Tool) -> str:
    """Optional arguments follow the required ones; they may come in any order."""
    schema = schema_of(tool)
    required = sequence(schema.get("required"))
    values = {
        name: f"{literal(f'{name}=')} {property_value(described, schema)}"
        for name, described in mapping(schema.get("properties")).items()
    }
    demanded = [value for name, value in values.items() if name in required]
    optional = " | ".join(value for name, value in values.items() if name not in required)
    comma = literal(", ")
    arguments = f" {comma} ".join(demanded)
    if demanded and optional:
        arguments += f" ({comma} ({optional}))*"
    elif optional:
        arguments = f"(({optional}) ({comma} ({optional}))*)?"
    return " ".join([literal(f"{name_of(tool)}("), arguments, literal(")")])


LFM2_FAMILY = tagged_family(lfm2_format, thinks=False, grammar=lfm2_grammar)
LFM2_THINKING_FAMILY = tagged_family(lfm2_format, thinks=True, grammar=lfm2_grammar)
