"""gpt-oss's prompts: the harmony format."""

from __future__ import annotations

from datetime import date

import pytest
from outrider.daemon.chat.conversation import Conversation, Infill, Message, Tool, ToolCall
from outrider.daemon.chat.render.builtin.harmony import HarmonyRenderer
from outrider.daemon.chat.render.builtin.registry import RENDERERS
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit

RENDERER = HarmonyRenderer(lambda: date(2025, 6, 28))
START = "<|start|>assistant"
ASK = Message("user", "What is 2 + 2?")
ASK_TEXT = "<|start|>user<|message|>What is 2 + 2?<|end|>"


def tool(name: str, description: str = "", **properties: dict[str, object]) -> Tool:
    parameters = {"type": "object", "properties": properties, "required": ["location"]}
    function = {"name": name, "description": description, "parameters": parameters}
    return Tool({"type": "function", "function": function})


def system(level: str = "medium") -> str:
    return (
        "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
        f"Knowledge cutoff: 2024-06\nCurrent date: 2025-06-28\n\nReasoning: {level}\n\n# Valid "
        "channels: analysis, commentary, final. Channel must be included for every message.<|end|>"
    )


def said(*messages: Message, think: bool | str | None = None) -> str:
    text = RENDERER.render(Conversation(messages, think=think))
    assert text.startswith(system())
    return text.removeprefix(system())


@pytest.mark.parametrize(
    ("think", "level"),
    [(None, "medium"), (True, "medium"), (False, "low"), ("low", "low"), ("high", "high"),
     ("max", "high")],
)  # fmt: skip
def test_levels(think: bool | str | None, level: str) -> None:
    text = RENDERER.render(Conversation((ASK,), think=think))
    assert text == f"{system(level)}{ASK_TEXT}{START}"


def test_tools_and_instructions() -> None:
    city: dict[str, object] = {"type": "string", "description": "The city, e.g. San Francisco, CA"}
    unit: dict[str, object] = {
        "type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius",
    }  # fmt: skip
    tools = (
        tool("get_location", "Gets the location of the user."),
        tool("get_current_weather", "Gets the weather.", location=city, format=unit),
    )
    messages = (Message("system", "Use a friendly tone."), ASK)
    text = RENDERER.render(Conversation(messages, tools, think="high"))
    assert text.startswith(system("high").replace(
        "<|end|>", "\nCalls to these tools must go to the commentary channel: 'functions'.<|end|>"
    ))  # fmt: skip
    assert text.endswith(f"""\
<|start|>developer<|message|># Instructions

Use a friendly tone.

# Tools

## functions

namespace functions {{

// Gets the location of the user.
type get_location = () => any;

// Gets the weather.
type get_current_weather = (_: {{
// The city, e.g. San Francisco, CA
location: string,
format?: "celsius" | "fahrenheit", // default: celsius
}}) => any;

}} // namespace functions<|end|>{ASK_TEXT}{START}""")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, "number"),
        ({"type": "boolean", "default": True}, "boolean, // default: true"),
        ({"type": "string", "default": "a"}, 'string, // default: "a"'),
        ({"type": ["string", "null"]}, "string | null"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "number"}]},
         "string | number"),
        ({"type": "string", "nullable": True}, "string | null"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array", "items": {"type": ["string", "null"]}}, "(string | null)[]"),
        ({"type": "array"}, "any[]"),
        ({"type": "object"}, "object"),
        ({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string", "description": "one\ntwo"}, "b": {"type": "null"}}},
         "{\n// one\n// two\na: string,\nb?: null,\n}"),
        ({"const": 1}, "1"),
        ({"enum": [1, "a", None]}, '1 | "a" | null'),
        ({"$ref": "#/$defs/A"}, "any"),
        ({"type": "strange"}, "any"),
        ({}, "any"),
    ],
)  # fmt: skip
def test_types(schema: dict[str, object], text: str) -> None:
    prompt = RENDERER.render(Conversation((ASK,), (tool("f", x=schema),)))
    text = text if "//" in text and "\n" not in text else f"{text},"
    assert f"\ntype f = (_: {{\nx?: {text}\n}}) => any;\n" in prompt


def test_thoughts_are_dropped_after_an_answer_and_kept_between_calls() -> None:
    calls = (ToolCall("add", {"a": 2, "b": "ü"}, id="1"),)
    call_text = (
        f"{START}<|channel|>analysis<|message|>hm<|end|>{START}<|channel|>commentary "
        'to=functions.add <|constrain|>json<|message|>{"a":2,"b":"ü"}<|call|>'
        "<|start|>functions.add to=assistant<|channel|>commentary<|message|>4<|end|>"
    )
    working = (ASK, Message("assistant", thinking="hm", tool_calls=calls),
               Message("tool", "4", tool_call_id="1"))  # fmt: skip
    assert said(*working) == f"{ASK_TEXT}{call_text}{START}"
    answer = Message("assistant", "4", thinking="done")
    final = f"{START}<|channel|>final<|message|>4"
    without = call_text.replace(f"{START}<|channel|>analysis<|message|>hm<|end|>", "")
    assert said(*working, answer, ASK) == f"{ASK_TEXT}{without}{final}<|end|>{ASK_TEXT}{START}"
    done = f"{START}<|channel|>analysis<|message|>done<|end|>"
    assert said(*working, answer) == f"{ASK_TEXT}{call_text}{done}{final}"


def test_each_call_stands_with_its_result() -> None:
    calls = (ToolCall("a", {}, id="1"), ToolCall("b-c", {}, id="2"))
    results = (Message("tool", "B", tool_call_id="2"), Message("tool", "A", tool_call_id="1"),
               Message("tool", "C", tool_name="c"))  # fmt: skip
    call = (
        "<|start|>assistant<|channel|>commentary to=functions.{} "
        "<|constrain|>json<|message|>{{}}<|call|>"
    )
    result = "<|start|>functions.{} to=assistant<|channel|>commentary<|message|>{}<|end|>"
    assert said(ASK, Message("assistant", "Look:", tool_calls=calls), *results) == (
        f"{ASK_TEXT}{START}<|channel|>commentary<|message|>Look:<|end|>"
        f"{call.format('a')}{result.format('a', 'A')}"
        f"{call.format('b_c')}{result.format('b_c', 'B')}{result.format('c', 'C')}{START}"
    )


def test_messages_in_an_unusual_order() -> None:
    late = (ASK, Message("system", "S"), Message("tool", "x", tool_name="t"), Message("tool", "y"))
    assert said(*late) == (
        f"{ASK_TEXT}<|start|>developer<|message|># Instructions\n\nS<|end|>"
        "<|start|>functions.t to=assistant<|channel|>commentary<|message|>x<|end|>"
        "<|start|>functions.unknown to=assistant<|channel|>commentary<|message|>y<|end|>"
        f"{START}"
    )
    assert said(ASK, Message("assistant", "")) == f"{ASK_TEXT}{START}"
    assert said() == START


def test_tool_names_become_identifiers() -> None:
    tools = (tool("a-b"), tool("a.b"), tool("3d"))
    messages = (ASK, Message("assistant", tool_calls=(ToolCall("a.b", {}),)))
    text = RENDERER.render(Conversation(messages, tools))
    for name in ("a_b", "a_b_2", "_3d"):
        assert f"type {name} = () => any;" in text
    assert "to=functions.a_b_2 " in text


def test_today_is_the_default() -> None:
    days = [date.today()]
    text = RENDERERS["harmony"]().render(Conversation((ASK,)))
    days.append(date.today())
    assert any(f"Current date: {day}\n" in text for day in days)


def test_there_is_no_infill() -> None:
    with pytest.raises(BadRequest, match="fill a gap"):
        RENDERER.render_infill(Infill("a", "b"))
