"""FunctionGemma's prompts: declarations, calls and results between its own tokens."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Conversation, Infill, Message, Tool, ToolCall
from outrider.daemon.chat.render.builtin.functiongemma import TRIGGER
from outrider.daemon.chat.render.builtin.registry import RENDERERS
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit

E = "<escape>"
RENDERER = RENDERERS["functiongemma"]()
WEATHER = Tool({"type": "function", "function": {
    "name": "get_current_weather",
    "description": "Gets the current weather in a given location.",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": 'The city, e.g. "Tokyo, JP"'},
            "unit": {"type": "string", "description": "The unit.",
                     "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["location"],
    }}})  # fmt: skip
DECLARATION = (
    "<start_function_declaration>declaration:get_current_weather{"
    f"description:{E}Gets the current weather in a given location.{E},"
    f'parameters:{{properties:{{location:{{description:{E}The city, e.g. "Tokyo, JP"{E},'
    f"type:{E}STRING{E}}},unit:{{description:{E}The unit.{E},"
    f"enum:[{E}celsius{E},{E}fahrenheit{E}],type:{E}STRING{E}}}}},"
    f"required:[{E}location{E}],type:{E}OBJECT{E}}}}}<end_function_declaration>"
)
TOKYO = Message("user", "Hey, what's the weather in Tokyo right now?")
TOKYO_TURN = f"<start_of_turn>user\n{TOKYO.content}<end_of_turn>\n"
ASKED = Message("assistant", tool_calls=(ToolCall("get_current_weather", {"location": "Tokyo"}),))
CALL = f"<start_function_call>call:get_current_weather{{location:{E}Tokyo{E}}}<end_function_call>"


def said(*messages: Message, tools: tuple[Tool, ...] = ()) -> str:
    return RENDERER.render(Conversation(messages, tools))


@pytest.mark.parametrize(
    ("system", "developer"),
    [(None, TRIGGER), (TRIGGER, TRIGGER), (" Be brief. ", f"Be brief.\n{TRIGGER}")],
)
def test_tools_are_declared_after_the_sentence_the_model_knows(
    system: str | None, developer: str
) -> None:
    messages = [Message("system", system)] if system else []
    assert said(*messages, TOKYO, tools=(WEATHER,)) == (
        f"<bos><start_of_turn>developer\n{developer}{DECLARATION}<end_of_turn>\n"
        f"{TOKYO_TURN}<start_of_turn>model\n"
    )


def test_without_tools() -> None:
    assert said(TOKYO) == f"<bos>{TOKYO_TURN}<start_of_turn>model\n"
    assert said(Message("system", "S"), TOKYO) == (
        f"<bos><start_of_turn>developer\nS<end_of_turn>\n{TOKYO_TURN}<start_of_turn>model\n"
    )


@pytest.mark.parametrize(
    ("result", "fields"),
    [
        ('{"temperature": 15, "weather": "sunny"}', f"temperature:15,weather:{E}sunny{E}"),
        ("15 degrees", f"value:{E}15 degrees{E}"),
        ("[1, 2]", f"value:{E}[1, 2]{E}"),
        ("{", f"value:{E}{{{E}"),
    ],
)
def test_a_result_continues_the_turn_of_the_model(result: str, fields: str) -> None:
    text = (
        f"<start_function_response>response:get_current_weather{{{fields}}}<end_function_response>"
    )
    messages = (TOKYO, ASKED, Message("tool", result, tool_name="get_current_weather"))
    start = f"<bos>{TOKYO_TURN}<start_of_turn>model\n{CALL}{text}"
    assert said(*messages) == start
    assert said(*messages, Message("assistant", "Sunny"), TOKYO) == (
        f"{start}Sunny<end_of_turn>\n{TOKYO_TURN}<start_of_turn>model\n"
    )
    assert said(*messages, TOKYO) == (f"{start}<end_of_turn>\n{TOKYO_TURN}<start_of_turn>model\n")


def test_an_answer_is_continued() -> None:
    assert said(TOKYO, Message("assistant", "It is ")) == (
        f"<bos>{TOKYO_TURN}<start_of_turn>model\nIt is "
    )
    assert said(TOKYO, ASKED) == (
        f"<bos>{TOKYO_TURN}<start_of_turn>model\n{CALL}<start_function_response>"
    )


def test_there_is_no_infill() -> None:
    with pytest.raises(BadRequest, match="fill a gap"):
        RENDERER.render_infill(Infill("a", "b"))
