"""Jinja chat templates as renderers: what they see, prefill, and what their failures become."""

from __future__ import annotations

import json
from datetime import datetime

import chat_templates as templates
import pytest
from outrider.daemon.chat.conversation import Conversation, Infill, Message, Tool, ToolCall
from outrider.daemon.chat.render.jinja import JinjaTemplate
from outrider.daemon.errors import BadRequest, TemplateFailed
from tiny import CHATML

pytestmark = pytest.mark.unit

HELLO = (Message("user", "hello"),)
TOOL = Tool({"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}})
THOUGHT = Message("assistant", thinking="hm")
THOUGHT_AND_ANSWER = Message("assistant", "It is", "hm")


OPENS_THOUGHT = CHATML.replace("assistant\n", "assistant\n<think>") + "{# </think> #}"


def opened(source: str) -> JinjaTemplate:
    return JinjaTemplate(source, bos="<s>", eos="</s>")


def render(source: str, *messages: Message, think: bool | str | None = None) -> str:
    return opened(source).render(Conversation(messages or HELLO, think=think))


def test_chatml_ends_where_the_assistant_begins() -> None:
    assert render(CHATML, Message("system", "be brief"), *HELLO) == (
        "<|im_start|>system\nbe brief<|im_end|>\n"
        "<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_template_knows_the_special_tokens_and_the_date() -> None:
    source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ date_string }}"
    assert render(source) == f"<s>hello</s>{datetime.now():%d %b %Y}"


def test_tools_are_none_or_the_definitions_of_the_client() -> None:
    source = "{{ tools|tojson }}{{ documents }}{{ messages[0].content }}"
    assert render(source) == "nullNonehello"
    text = opened(source).render(Conversation(HELLO, (TOOL,)))
    assert text == json.dumps([TOOL.definition]) + "Nonehello"


def test_tools_are_undefined_for_a_template_that_refuses_none() -> None:
    assert render("{% for tool in tools %}{% endfor %}{{ tools is defined }}") == "False"


@pytest.mark.parametrize(
    ("think", "text"),
    [
        (None, "unset unset unset"),
        (True, "True True unset"),
        (False, "False False unset"),
        ("high", "True True high"),
    ],
)
def test_the_template_sees_the_think_option_only_if_it_is_set(
    think: bool | str | None, text: str
) -> None:
    names = ("enable_thinking", "thinking", "reasoning_effort")
    source = " ".join(f"{{{{ {name}|default('unset') }}}}" for name in names)
    assert render(source, think=think) == text


def test_earlier_thoughts_go_to_templates_that_name_them() -> None:
    turns = (*HELLO, THOUGHT_AND_ANSWER, Message("user", "on"))
    every = "{% for m in messages %}{{ m.content }}{{ m.keys()|list }}{% endfor %}"
    assert "hm" not in render(every, *turns)
    for key in ("reasoning_content", "thinking"):
        shown = render(every + f"{{{{ messages[1].{key} }}}}{{# {key} #}}", *turns)
        assert shown.endswith("hm")
        assert shown.count(key) == 1


def test_a_call_and_its_result_are_worded_as_hugging_face_has_them() -> None:
    turns = (
        *HELLO,
        Message("assistant", tool_calls=(ToolCall("f", {"x": 1}, "c1"),)),
        Message("tool", "3", tool_call_id="c1"),
    )
    source = "{% for m in messages %}{{ m|tojson }}{% if not loop.last %},{% endif %}{% endfor %}"
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert json.loads(f"[{render(source, *turns)}]") == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "3", "name": "f", "tool_call_id": "c1"},
    ]


def test_a_template_may_refuse() -> None:
    with pytest.raises(BadRequest, match="refused the messages: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ ().__class__.__bases__[0].__subclasses__() }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__self__ }}{{ strftime_now.__globals__.x }}",
        "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='system') }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ range(999999999) }}",
    ],
)
def test_a_template_cannot_reach_out_of_its_sandbox(source: str) -> None:
    with pytest.raises(BadRequest, match="chat template"):
        render(source)
    assert (Message("user", "hello"),) == HELLO


def test_attributes_of_the_interpreter_are_not_shown() -> None:
    assert "class" not in render("{{ ''.__class__ }}{{ strftime_now.__self__ }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ 'x'.index('y') }}",
        "{{ '{1}'.format(1) }}",
        "{{ '{a}'.format(1) }}",
        "{{ messages[9].role.upper() }}",
        "{{ none.x.y }}",
        "{{ 1 + 'a' }}",
        "{{ missing() }}",
        "{{ nothing|tojson }}",
        "{{ '{'|from_json }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% include 'other' %}",
        "{{ 2.0 ** 9999 }}",
        "{{ 'x' * 9999999999 }}",
        "{{ 'x'.encode('no such codec') }}",
        "{{ iter(messages) }}",
        "{{ messages|map('nothing')|list }}",
        "{{ 'x'.center() }}",
    ],
)
def test_whatever_a_template_does_wrong_is_one_clear_error(source: str) -> None:
    with pytest.raises(BadRequest, match=r"^the model's chat template refused the messages: \S"):
        render(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% if %}", "Expected an expression"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ messages|nothing }}", "No filter named 'nothing'"),
        ("{{ " + "(" * 9999 + " }}", "."),
        ("{{ .Prompt }}{{ if .System }}{{ .System }}{{ end }}", "it is a Go template"),
        ("{{- range .Messages }}{{ .Content }}{{ end }}", "it is a Go template"),
        ("{{ $last := index .Messages 0 }}", "it is a Go template"),
    ],
)
def test_a_template_that_cannot_be_read_fails_when_it_is_compiled(source: str, reason: str) -> None:
    with pytest.raises(TemplateFailed, match=f"^the chat template cannot be read: .*{reason}"):
        opened(source)


def test_a_chat_template_fills_no_gap() -> None:
    with pytest.raises(BadRequest, match="suffix"):
        opened(CHATML).render_infill(Infill("a", "b"))


@pytest.mark.parametrize("name", templates.ALL)
@pytest.mark.parametrize("content", ['{"a":', "One\n\ntwo", "ends with a word", "é👋"])
def test_a_trailing_answer_is_continued(name: str, content: str) -> None:
    prompt = render(templates.ALL[name], *HELLO, Message("assistant", content))
    assert prompt.endswith(content)
    assert prompt.count(content) == 1
    assert "\ue000" not in prompt


def test_an_empty_trailing_answer_is_the_header_of_an_answer() -> None:
    assert render(CHATML, *HELLO, Message("assistant")) == render(CHATML)


def test_blanks_at_the_end_stay_unless_the_template_trims() -> None:
    assert render(CHATML, *HELLO, Message("assistant", "a: ")).endswith("assistant\na: ")
    assert render(templates.GEMMA_2, *HELLO, Message("assistant", " a: ")).endswith("model\na:")


def test_an_answer_that_the_template_refuses_or_drops_follows_the_header() -> None:
    refuses = (
        "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    )
    drops = CHATML.replace("message['content']", "message['content'].split('#')[-1]")
    prefill = Message("assistant", "a#b")
    for source in (refuses, drops):
        assert render(source, *HELLO, prefill) == render(CHATML) + "a#b"


def test_a_trailing_turn_with_calls_is_not_continued() -> None:
    call = Message("assistant", "so", tool_calls=(ToolCall("f", {}),))
    assert render(templates.QWEN3, *HELLO, call).endswith(
        'so\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("source", "message", "end"),
    [
        (templates.QWEN3, THOUGHT, "assistant\n<think>\nhm"),
        (templates.QWEN3, THOUGHT_AND_ANSWER, "assistant\n<think>\nhm\n</think>\n\nIt is"),
        (templates.DEEPSEEK_R1, THOUGHT, "<｜Assistant｜><think>\nhm"),
        (
            templates.DEEPSEEK_R1,
            THOUGHT_AND_ANSWER,
            "<｜Assistant｜><think>\nhm\n</think>\n\nIt is",
        ),
        (
            templates.DEEPSEEK_R1,
            Message("assistant", "<think>\nhm\n</think>\n\nIt"),
            "<｜Assistant｜><think>\nhm\n</think>\n\nIt",
        ),
        (CHATML, THOUGHT, "assistant\n"),
        (OPENS_THOUGHT, THOUGHT, "assistant\n<think>\nhm"),
        (OPENS_THOUGHT, THOUGHT_AND_ANSWER, "assistant\n<think>\nhm\n</think>\n\nIt is"),
        (CHATML, THOUGHT_AND_ANSWER, "assistant\nIt is"),
    ],
)
def test_a_trailing_thought_is_continued(source: str, message: Message, end: str) -> None:
    prompt = render(source, *HELLO, message)
    assert prompt.endswith(end)
    assert prompt.count("<think>") == end.count("<think>")
