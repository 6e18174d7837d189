"""Gemma 4's prompts: the reference vectors of CONTRACT 8.6, and the rules around them."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Conversation, Infill, Message, Tool, ToolCall
from outrider.daemon.chat.render.builtin.gemma4 import Gemma4Renderer
from outrider.daemon.chat.render.builtin.registry import RENDERERS
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit

Q = '<|"|>'
SMALL, LARGE = Gemma4Renderer(large=False), Gemma4Renderer(large=True)
HI = Message("user", "Hi")
LS = Message("assistant", tool_calls=(ToolCall("bash", {"command": "ls"}, id="1"),))
LS_TEXT = f"<|tool_call>call:bash{{command:{Q}ls{Q}}}<tool_call|>"
F1 = Message("tool", "f1", tool_call_id="1")
F1_TEXT = f"<|tool_response>response:bash{{value:{Q}f1{Q}}}<tool_response|>"


def said(*messages: Message, think: bool = False, renderer: Gemma4Renderer = SMALL) -> str:
    return renderer.render(Conversation(messages, think=think))


def declared(function: dict[str, object]) -> str:
    tool = Tool({"type": "function", "function": function})
    text = SMALL.render(Conversation((HI,), tools=(tool,)))
    before, after = "<bos><|turn>system\n", "<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"
    assert text.startswith(before)
    assert text.endswith(after)
    return text.removeprefix(before).removesuffix(after)


def declared_property(name: str, schema: dict[str, object]) -> str:
    parameters = {"type": "object", "properties": {name: schema}}
    text = declared({"name": "f", "description": "D", "parameters": parameters})
    before = f"<|tool>declaration:f{{description:{Q}D{Q},parameters:{{properties:{{"
    assert text.startswith(before)
    after = f"}},type:{Q}OBJECT{Q}}}}}<tool|>"
    assert text.endswith(after)
    return text.removeprefix(before).removesuffix(after)


@pytest.mark.parametrize(
    ("messages", "think", "text"),
    [
        ([Message("user", "Hello")], False,
         "<bos><|turn>user\nHello<turn|>\n<|turn>model\n"),
        ([HI], True,
         "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"),
        ([Message("system", "S"), HI], True,
         "<bos><|turn>system\n<|think|>\nS<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"),
        ([Message("system", " S \n"), Message("user", "\n Hi ")], False,
         "<bos><|turn>system\nS<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"),
        ([Message("developer", "S"), HI, Message("developer", "T")], False,
         "<bos><|turn>system\nS<turn|>\n<|turn>user\nHi<turn|>\n"
         "<|turn>developer\nT<turn|>\n<|turn>model\n"),
        ([], False, "<bos><|turn>model\n"),
    ],
)  # fmt: skip
def test_turns(messages: list[Message], think: bool, text: str) -> None:
    assert said(*messages, think=think) == text


def test_a_large_model_is_shown_an_empty_thought() -> None:
    start = "<bos><|turn>user\nHi<turn|>\n<|turn>model\n"
    assert said(HI, renderer=LARGE) == f"{start}<|channel>thought\n<channel|>"
    assert said(HI, renderer=LARGE, think=True).endswith("<|turn>model\n")
    assert said(HI, Message("assistant", "Yes"), renderer=LARGE) == f"{start}Yes"


@pytest.mark.parametrize(
    ("after", "think", "text"),
    [
        ([LS, F1], False, f"{LS_TEXT}{F1_TEXT}"),
        ([LS, F1], True, f"{LS_TEXT}{F1_TEXT}<|channel>thought\n"),
        ([LS, F1, Message("user", "Thanks!")], False,
         f"{LS_TEXT}{F1_TEXT}<turn|>\n<|turn>user\nThanks!<turn|>\n<|turn>model\n"),
        ([LS, F1, Message("assistant", "One file."), Message("user", "Thanks!")], False,
         f"{LS_TEXT}{F1_TEXT}One file.<turn|>\n<|turn>user\nThanks!<turn|>\n<|turn>model\n"),
        ([LS, F1, LS, F1], False, f"{LS_TEXT}{F1_TEXT}{LS_TEXT}{F1_TEXT}"),
        ([LS, F1, Message("assistant", "There")], False, f"{LS_TEXT}{F1_TEXT}There"),
        ([Message("assistant", "Let me check.", tool_calls=LS.tool_calls)], False,
         f"{LS_TEXT}Let me check.<|tool_response>"),
        ([Message("assistant", "Let me check.", tool_calls=LS.tool_calls), F1], True,
         f"{LS_TEXT}{F1_TEXT}Let me check.<turn|>\n<|turn>model\n"),
        ([Message("assistant", "One."), Message("assistant", "Two."), HI], False,
         "One.Two.<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"),
        ([Message("assistant", "One."), F1], False, "One.<turn|>\n<|turn>model\n"),
        ([Message("assistant", "One."), F1, HI], False,
         "One.<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"),
        ([Message("assistant", " <|channel>old<channel|> a<|channel>b<channel|>c "), HI], False,
         "ac<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"),
        ([Message("assistant", '\n{"a": ')], False, '{"a": '),
        ([Message("assistant", "Yes", thinking="hm")], True,
         "<|channel>thought\nhm\n<channel|>Yes"),
        ([Message("assistant", "Yes", thinking="hm"), HI], True,
         "Yes<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"),
    ],
)  # fmt: skip
def test_turns_of_the_model(after: list[Message], think: bool, text: str) -> None:
    prompt = said(Message("system", "S"), HI, *after, think=think)
    think_text = "<|think|>\n" if think else ""
    start = f"<bos><|turn>system\n{think_text}S<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"
    assert prompt == start + text


def test_a_result_is_named_by_its_call_or_by_the_client() -> None:
    calls = (ToolCall("a", {}, id="1"), ToolCall("b", {}, id="2"))
    results = (
        Message("tool", "x", tool_call_id="2"),
        Message("tool", "y", tool_name="c"),
        Message("tool", "z", tool_name="c", tool_call_id="1"),
        Message("tool", "w"),
    )
    text = said(HI, Message("assistant", tool_calls=calls), *results)
    for name, content in (("b", "x"), ("c", "y"), ("a", "z"), ("unknown", "w")):
        assert f"<|tool_response>response:{name}{{value:{Q}{content}{Q}}}<tool_response|>" in text


def test_arguments_are_sorted_and_typed() -> None:
    arguments: dict[str, object] = {
        "z": [1, 2.0, 2.5, "a"], "b": True, "n": None, "m": {"y": {}, "x": 'q"\n'}, "a": -1,
    }  # fmt: skip
    text = said(HI, Message("assistant", tool_calls=(ToolCall("f", arguments),)))
    expected = f'call:f{{a:-1,b:true,m:{{x:{Q}q"\n{Q},y:{{}}}},n:null,z:[1,2,2.5,{Q}a{Q}]}}'
    assert f"<|tool_call>{expected}<tool_call|>" in text


def test_a_declaration() -> None:
    command = {"type": "string", "description": "Cmd"}
    parameters = {"type": "object", "properties": {"command": command}, "required": ["command"]}
    bash: dict[str, object] = {"name": "bash", "description": "Run", "parameters": parameters}
    assert declared(bash) == (
        f"<|tool>declaration:bash{{description:{Q}Run{Q},parameters:{{properties:{{command:{{"
        f"description:{Q}Cmd{Q},type:{Q}STRING{Q}}}}},required:[{Q}command{Q}],"
        f"type:{Q}OBJECT{Q}}}}}<tool|>"
    )


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"type": "object"}, f",parameters:{{type:{Q}OBJECT{Q}}}"),
        ({"type": "object", "properties": {}, "required": []},
         f",parameters:{{type:{Q}OBJECT{Q}}}"),
        ({}, ""),
        (None, ""),
        ({"required": ["a"]}, ""),
    ],
)  # fmt: skip
def test_a_declaration_with_few_parameters(parameters: object, text: str) -> None:
    function: dict[str, object] = {
        "name": "raw", "description": "Raw input", "parameters": parameters,
    }  # fmt: skip
    assert declared(function) == (
        f"<|tool>declaration:raw{{description:{Q}Raw input{Q}{text}}}<tool|>"
    )


@pytest.mark.parametrize(
    ("name", "schema", "text"),
    [
        ("mode", {"type": "string", "description": "The mode", "enum": ["fast", "slow"]},
         f"mode:{{description:{Q}The mode{Q},enum:[{Q}fast{Q},{Q}slow{Q}],type:{Q}STRING{Q}}}"),
        ("commands", {"type": "array", "description": "Commands", "items": {"type": "string"}},
         f"commands:{{description:{Q}Commands{Q},items:{{type:{Q}STRING{Q}}},type:{Q}ARRAY{Q}}}"),
        ("n", {"type": "integer", "enum": [1]}, f"n:{{type:{Q}INTEGER{Q}}}"),
        ("n", {"type": "string", "nullable": True}, f"n:{{nullable:true,type:{Q}STRING{Q}}}"),
        ("o", {"type": "object"}, f"o:{{properties:{{}},type:{Q}OBJECT{Q}}}"),
        ("o", {"type": "object", "required": ["b"], "properties": {
            "b": {"type": "number"}, "a": {"type": "boolean"}, "type": {"type": "string"}}},
         f"o:{{properties:{{a:{{type:{Q}BOOLEAN{Q}}},b:{{type:{Q}NUMBER{Q}}}}},"
         f"required:[{Q}b{Q}],type:{Q}OBJECT{Q}}}"),
        ("u", {"type": ["string", "null"]}, f"u:{{type:{Q}['STRING', 'NULL']{Q}}}"),
        ("u", {"type": ["string"]}, f"u:{{type:{Q}STRING{Q}}}"),
        ("u", {"anyOf": [{"type": "string"}, {"type": "null"}]},
         f"u:{{type:{Q}['STRING', 'NULL']{Q}}}"),
        ("u", {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}, "u:{}"),
        ("a", {"type": "array", "items": {"type": ["string", "null"]}},
         f"a:{{items:{{type:[{Q}STRING{Q},{Q}NULL{Q}]}},type:{Q}ARRAY{Q}}}"),
        ("a", {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
         f"a:{{items:{{type:[{Q}STRING{Q},{Q}NULL{Q}]}},type:{Q}ARRAY{Q}}}"),
        ("a", {"type": "array", "items": {
            "type": "object", "required": ["k"], "properties": {"k": {"type": "string"}},
            "x": {"b": 1, "a": "s"}, "maxLength": 3}},
         f"a:{{items:{{maxLength:3,properties:{{k:{{type:{Q}STRING{Q}}}}},required:[{Q}k{Q}],"
         f"type:{Q}OBJECT{Q},x:{{{Q}a{Q}:{Q}s{Q},{Q}b{Q}:1}}}},type:{Q}ARRAY{Q}}}"),
        ("x", True, "x:{}"),
    ],
)  # fmt: skip
def test_a_declared_property(name: str, schema: dict[str, object], text: str) -> None:
    assert declared_property(name, schema) == text


def test_a_declaration_follows_the_system_text() -> None:
    tool = Tool({"type": "function", "function": {"name": "f"}})
    text = SMALL.render(Conversation((Message("system", "S"), HI), tools=(tool,), think=True))
    assert text.startswith(
        f"<bos><|turn>system\n<|think|>\nS<|tool>declaration:f{{description:{Q}{Q}}}<tool|><turn|>\n"
    )


def test_names_of_the_variants() -> None:
    prompts = {
        name: RENDERERS[name]().render(Conversation((HI,)))
        for name in ("gemma4", "gemma4-small", "gemma4-large")
    }
    assert prompts["gemma4"] == prompts["gemma4-small"] == said(HI)
    assert prompts["gemma4-large"] == said(HI, renderer=LARGE)


def test_there_is_no_infill() -> None:
    with pytest.raises(BadRequest, match="fill a gap"):
        SMALL.render_infill(Infill("a", "b"))
