"""Prompts of Qwen, Nemotron 3, LFM2 and GLM, as the models' published templates word them."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Conversation, Infill, Message, Tool, ToolCall
from outrider.daemon.chat.render.builtin.registry import RENDERERS
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit

NAMES = (
    *("qwen3-vl-instruct", "qwen3-vl-thinking", "qwen3-coder", "qwen3.5"),
    *("nemotron-3-nano", "lfm2", "lfm2-thinking", "glm-4.7", "glm-ocr"),
)
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": " Où? "},
        "n": {"type": ["integer", "null"], "enum": [1, 2], "minimum": 0},
    },
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "Get it", "parameters": PARAMETERS}
TOOL = Tool({"type": "function", "function": FUNCTION})
TOOL_JSON = (
    '{"type": "function", "function": {"name": "weather", "description": "Get it", "parameters": '
    '{"type": "object", "properties": {"city": {"type": "string", "description": " Où? "}, '
    '"n": {"type": ["integer", "null"], "enum": [1, 2], "minimum": 0}}, "required": ["city"], '
    '"additionalProperties": false}}}'
)
SYSTEM, HI, AGAIN = Message("system", "S"), Message("user", "Hi"), Message("user", "Again")
THOUGHTFUL = Message("assistant", "Yo", thinking="hm")
CALLS = (
    ToolCall("weather", {"city": "Rome", "n": 3}),
    ToolCall("weather", {"tags": ["a"], "deep": {"x": None}, "ok": True}, index=1),
)
CALLING = Message("assistant", "Let me see.", thinking="hm", tool_calls=CALLS)
RESULTS = (Message("tool", "sunny", tool_name="weather"), Message("tool", "rain"))
PREFILL = Message("assistant", "It is ")
START, END = "<|im_start|>", "<|im_end|>\n"


def render(name: str, *messages: Message, tools: bool = False, think: bool | None = None) -> str:
    conversation = Conversation(messages, (TOOL,) if tools else (), think)
    return RENDERERS[name]().render(conversation)


CHATML = f"{START}user\nHi{END}{START}assistant\n"
EMPTY = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("name", "think", "prompt"),
    [
        ("qwen3-vl-instruct", None, CHATML),
        ("qwen3-vl-instruct", False, CHATML),
        ("qwen3-vl-thinking", None, f"{CHATML}<think>\n"),
        ("qwen3-vl-thinking", False, f"{CHATML}{EMPTY}"),
        ("qwen3-coder", True, CHATML),
        ("qwen3.5", None, f"{CHATML}<think>\n"),
        ("qwen3.5", True, f"{CHATML}<think>\n"),
        ("qwen3.5", False, f"{CHATML}{EMPTY}"),
        ("nemotron-3-nano", None, f"{START}system\n{END}{CHATML}<think>\n"),
        ("nemotron-3-nano", False, f"{START}system\n{END}{CHATML}<think></think>"),
        ("lfm2", None, f"<|startoftext|>{CHATML}"),
        ("lfm2-thinking", True, f"<|startoftext|>{CHATML}"),
        ("glm-4.7", None, "[gMASK]<sop><|user|>Hi<|assistant|><think>"),
        ("glm-4.7", False, "[gMASK]<sop><|user|>Hi<|assistant|></think>"),
        ("glm-ocr", None, "[gMASK]<sop><|user|>\nHi<|assistant|>\n"),
        ("glm-ocr", False, "[gMASK]<sop><|user|>\nHi<|assistant|>\n<think></think>\n"),
    ],
)
def test_a_prompt_ends_where_the_model_begins(name: str, think: bool | None, prompt: str) -> None:
    assert render(name, HI, think=think) == prompt


TURNS = f"{START}system\nS{END}{START}user\nHi{END}{START}assistant\n"


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("qwen3-vl-instruct", f"{TURNS}It is "),
        ("qwen3-vl-thinking", f"{TURNS}{EMPTY}It is "),
        ("qwen3-coder", f"{TURNS}It is "),
        ("qwen3.5", f"{TURNS}{EMPTY}It is "),
        ("nemotron-3-nano", f"{TURNS}<think></think>It is "),
        ("lfm2", f"<|startoftext|>{TURNS}It is "),
        ("glm-4.7", "[gMASK]<sop><|system|>S<|user|>Hi<|assistant|></think>It is "),
        ("glm-ocr", "[gMASK]<sop><|system|>\nS<|user|>\nHi<|assistant|>\n<think></think>\nIt is "),
    ],
)
def test_an_answer_at_the_end_is_continued(name: str, prompt: str) -> None:
    assert render(name, SYSTEM, HI, PREFILL) == prompt


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        ("qwen3.5", f"{START}assistant\nYo{END}"),
        ("qwen3-vl-thinking", f"{START}assistant\nYo{END}"),
        ("nemotron-3-nano", f"{START}assistant\n<think></think>\nYo{END}"),
        ("lfm2-thinking", f"{START}assistant\nYo{END}"),
        ("glm-4.7", "<|assistant|></think>Yo"),
    ],
)
@pytest.mark.parametrize(
    "answer", [THOUGHTFUL, Message("assistant", "<think>\nhm\n</think>\n\nYo")]
)
def test_a_thought_before_the_last_question_is_left_out(
    name: str, turn: str, answer: Message
) -> None:
    assert turn in render(name, HI, answer, AGAIN)


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        ("qwen3.5", f"{START}assistant\n<think>\nhm\n</think>\n\nLet me see."),
        ("qwen3-vl-thinking", f"{START}assistant\n<think>\nhm\n</think>\n\nLet me see."),
        ("qwen3-vl-instruct", f"{START}assistant\nLet me see."),
        ("nemotron-3-nano", f"{START}assistant\n<think>\nhm\n</think>\nLet me see."),
        ("lfm2-thinking", f"{START}assistant\n<think>hm</think>Let me see."),
        ("glm-4.7", "<|assistant|><think>hm</think>Let me see."),
    ],
)
def test_a_thought_of_the_open_question_is_kept(name: str, turn: str) -> None:
    assert turn in render(name, HI, CALLING, *RESULTS)


XML_CALLS = (
    "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=n>\n3\n"
    "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=weather>\n<parameter=tags>\n"
    '["a"]\n</parameter>\n<parameter=deep>\n{"x": null}\n</parameter>\n<parameter=ok>\ntrue\n'
    "</parameter>\n</function>\n</tool_call>"
)
JSON_CALLS = (
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "n": 3}}\n</tool_call>\n'
    '<tool_call>\n{"name": "weather", "arguments": '
    '{"tags": ["a"], "deep": {"x": null}, "ok": true}}\n</tool_call>'
)
RESULT_TURN = (
    f"{START}user\n<tool_response>\nsunny\n</tool_response>\n<tool_response>\nrain\n"
    "</tool_response>"
)


@pytest.mark.parametrize(
    ("name", "turns"),
    [
        ("qwen3.5", f"Let me see.\n\n{XML_CALLS}{END}{RESULT_TURN}{END}{START}"),
        ("qwen3-coder", f"Let me see.\n\n{XML_CALLS}{END}{RESULT_TURN}\n{END}{START}"),
        ("nemotron-3-nano", f"Let me see.\n{XML_CALLS}\n{END}{RESULT_TURN}\n{END}{START}"),
        ("qwen3-vl-instruct", f"Let me see.\n{JSON_CALLS}{END}{RESULT_TURN}{END}{START}"),
        (
            "lfm2",
            "Let me see.<|tool_call_start|>[weather(city='Rome', n=3), weather(tags=['a'], "
            f'deep={{"x": null}}, ok=True)]<|tool_call_end|>{END}{START}tool\nsunny{END}'
            f"{START}tool\nrain{END}{START}",
        ),
        (
            "glm-4.7",
            "Let me see.<tool_call>weather<arg_key>city</arg_key><arg_value>Rome</arg_value>"
            "<arg_key>n</arg_key><arg_value>3</arg_value></tool_call><tool_call>weather<arg_key>"
            'tags</arg_key><arg_value>["a"]</arg_value><arg_key>deep</arg_key><arg_value>{"x": null'
            "}</arg_value><arg_key>ok</arg_key><arg_value>true</arg_value></tool_call><|observation|>"
            "<tool_response>sunny</tool_response><tool_response>rain</tool_response><|assistant|>",
        ),
    ],
)
def test_calls_and_results_are_repeated(name: str, turns: str) -> None:
    assert turns in render(name, HI, CALLING, *RESULTS)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        (
            "qwen3-vl-instruct",
            f"{START}system\nS\n\n# Tools\n\nYou may call one or more functions to assist with the "
            "user query.\n\nYou are provided with function signatures within <tools></tools> XML "
            f"tags:\n<tools>\n{TOOL_JSON}\n</tools>\n\nFor each function call,",
        ),
        (
            "qwen3.5",
            f"{START}system\n# Tools\n\nYou have access to the following functions:\n\n<tools>\n"
            f"{TOOL_JSON}\n</tools>\n\nIf you choose to call a function ONLY",
        ),
        (
            "qwen3-coder",
            f"{START}system\nS\n\n# Tools\n\nYou have access to the following functions:\n\n<tools>"
            "\n<function>\n<name>weather</name>\n<description>Get it</description>\n<parameters>\n"
            "<parameter>\n<name>city</name>\n<type>string</type>\n<description>Où?</description>\n"
            '</parameter>\n<parameter>\n<name>n</name>\n<type>["integer", "null"]</type>\n'
            '<enum>[1, 2]</enum>\n<minimum>0</minimum>\n</parameter>\n<required>["city"]</required>'
            "\n<additionalProperties>False</additionalProperties>\n</parameters>\n</function>\n"
            "</tools>\n\nIf you choose to call a function ONLY",
        ),
        ("nemotron-3-nano", f"{START}system\nS\n\n# Tools\n\nYou have access to the following"),
        ("lfm2", f"<|startoftext|>{START}system\nS\nList of tools: [{TOOL_JSON}]{END}"),
        ("glm-4.7", "[gMASK]<sop><|system|>\n# Tools\n\nYou may call"),
    ],
)
def test_tools_are_declared_in_the_system_turn(name: str, start: str) -> None:
    assert render(name, SYSTEM, HI, tools=True).startswith(start)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("qwen3.5", f"</IMPORTANT>\n\nS{END}{START}user\nHi{END}"),
        ("qwen3-coder", f"</IMPORTANT>{END}{START}user\nHi{END}"),
        ("glm-4.7", "...</tool_call><|system|>S<|user|>Hi<|assistant|>"),
    ],
)
def test_where_the_text_of_the_system_stands(name: str, end: str) -> None:
    assert end in render(name, SYSTEM, HI, tools=True)


def test_a_developer_speaks_as_the_system_and_a_later_system_message_stays_in_place() -> None:
    prompt = render("qwen3.5", Message("developer", "D"), HI, THOUGHTFUL, SYSTEM, AGAIN)
    assert prompt.startswith(f"{START}system\nD{END}")
    assert f"Yo{END}{START}system\nS{END}{START}user\nAgain{END}" in prompt


@pytest.mark.parametrize("name", NAMES)
def test_calls_without_results_are_closed(name: str) -> None:
    prompt = render(name, HI, CALLING, tools=True)
    assert prompt.endswith(render(name, HI).partition("Hi")[2].removeprefix(END))


@pytest.mark.parametrize("name", NAMES)
def test_no_messages_are_no_error(name: str) -> None:
    assert render(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_chat_model_fills_no_gap(name: str) -> None:
    with pytest.raises(BadRequest, match="fill a gap"):
        RENDERERS[name]().render_infill(Infill("a", "b"))
