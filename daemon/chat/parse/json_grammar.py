"""What may a model write that must call a tool, in the formats that word arguments as JSON?"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence

from ..conversation import Tool
from ..tool_definition import function_of, name_of
from .call_grammar import json_value, literal

CallGrammar = Callable[[Sequence[Tool], Container[str]], str]  # ParserFamily.call_grammar
NUMBER = "/[0-9]{1,4}/"  # of a call; a grammar without a bound could fill the whole context


def object_grammar(
    *,
    before: str = "",
    between: str = ", ",
    after: str = "",
    markers: Sequence[str] = (),
    keys: tuple[str, str] = ("name", "arguments"),
) -> CallGrammar:
    """Calls as JSON objects with these keys for the name and the arguments."""

    def grammar(tools: Sequence[Tool], special: Container[str]) -> str:
        first, last = literal(before, markers, special), literal(after, markers, special)
        return grammar_of([call(tool) for tool in tools], first, between, last)

    def call(tool: Tool) -> str:
        name = json.dumps(name_of(tool), ensure_ascii=False)
        head = f'{{"{keys[0]}": {name}, "{keys[1]}": '
        return f"{literal(head)} {arguments_of(tool)} {literal('}')}"

    return grammar


def grammar_of(calls: Sequence[str], before: str, between: str, after: str) -> str:
    """A grammar of one call or more. `between` is a text, the others are of the grammar."""
    rules = [f"call_{number}: {call}" for number, call in enumerate(calls)]
    names = " | ".join(f"call_{number}" for number in range(len(calls)))
    more = f"({literal(between)} call)*" if between else "call*"
    return "\n".join([f"start: {before} call {more} {after}", f"call: {names}", *rules])


def arguments_of(tool: Tool) -> str:
    """A JSON object of the arguments of a tool, as a part of a grammar."""
    return json_value(function_of(tool).get("parameters"))
