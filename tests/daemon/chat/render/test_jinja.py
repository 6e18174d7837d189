"""Chat templates: what they may use, what they may not, and what their failures become."""

from __future__ import annotations

from datetime import datetime

import jinja2
import pytest
from outrider.daemon.chat.render.jinja import ChatTemplate, PlainTemplate
from outrider.daemon.errors import BadRequest
from tiny import CHATML

pytestmark = pytest.mark.unit

HELLO = [{"role": "user", "content": "hello"}]


def render(source: str, *, think: bool | str | None = None) -> str:
    return ChatTemplate(source, bos="<s>", eos="</s>").render(HELLO, think=think)


def test_chatml_ends_where_the_assistant_begins() -> None:
    turns = [{"role": "system", "content": "be brief"}, *HELLO]
    assert ChatTemplate(CHATML, bos="", eos="").render(turns, think=None) == (
        "<|im_start|>system\nbe brief<|im_end|>\n"
        "<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_template_knows_the_special_tokens() -> None:
    assert render("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}") == "<s>hello</s>"


def test_tools_are_undefined_and_may_be_asked_about() -> None:
    source = "{% if tools %}tools{% else %}none{% endif %}{% if tools is defined %}!{% endif %}"
    assert render(source) == "none"


def test_contents_are_not_escaped() -> None:
    source = "{{ messages[0].content }}"
    text = ChatTemplate(source, bos="", eos="").render([{"content": "<&'\">{{ 1 }}"}], think=None)
    assert text == "<&'\">{{ 1 }}"


@pytest.mark.parametrize(
    ("think", "text"),
    [(None, "unset unset"), (True, "True unset"), (False, "False unset"), ("high", "True high")],
)
def test_the_template_sees_the_think_option_only_if_it_is_set(
    think: bool | str | None, text: str
) -> None:
    source = "{{ enable_thinking|default('unset') }} {{ reasoning_effort|default('unset') }}"
    assert render(source, think=think) == text


@pytest.mark.parametrize(
    ("source", "thinks"),
    [
        ("<think>\n{{ x }}</think>", True),
        ("{{ content.split('</think>')[-1] }}<think>", True),
        ("<think>", False),
        ("</think>", False),
        (CHATML, False),
    ],
)
def test_a_template_with_both_tags_thinks(source: str, thinks: bool) -> None:
    assert ChatTemplate(source, bos="", eos="").thinks is thinks


def test_blocks_leave_no_blank_lines() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


def test_loops_may_break_and_continue() -> None:
    source = (
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}"
        "{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    )
    assert render(source) == "023"


def test_json_is_plain_json() -> None:
    assert render("{{ {'a': \"<b>&'ü👋\", 'c': [1, none]}|tojson }}") == (
        '{"a": "<b>&\'ü👋", "c": [1, null]}'
    )
    assert render("{{ {'a': 1}|tojson(indent=2) }}") == '{\n  "a": 1\n}'
    assert render("{{ ('[1, 2]'|from_json)[1] }}") == "2"


def test_the_clock_goes_on_after_the_template_was_compiled() -> None:
    template = ChatTemplate("{{ strftime_now('%Y-%m-%d %H:%M:%S.%f') }}", bos="", eos="")
    before, first, second = datetime.now(), *(template.render([], think=None) for _ in range(2))
    assert before.isoformat(" ", "microseconds") <= first < second


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
    assert HELLO == [{"role": "user", "content": "hello"}]


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
    ],
)
def test_whatever_a_template_does_wrong_is_one_clear_error(source: str) -> None:
    with pytest.raises(BadRequest, match=r"^the model's chat template refused the messages: "):
        render(source)


def test_a_template_that_cannot_be_read_fails_when_it_is_compiled() -> None:
    with pytest.raises(jinja2.TemplateSyntaxError):
        ChatTemplate("{% if %}", bos="", eos="")


def test_without_a_template_the_contents_stand_one_after_another() -> None:
    turns = [{"role": "system", "content": "one"}, {"role": "user", "content": "two"}]
    plain = PlainTemplate()
    assert plain.render(turns, think=None) == "one\n\ntwo"
    assert plain.render([], think=True) == ""
    assert not plain.thinks
