"""The sandbox of chat templates: what they may use, and how much one operation may make."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from outrider.daemon.chat.render.sandbox import MAX_CHARS, bounded_join, make_environment

pytestmark = pytest.mark.unit

FAST_S = 2.0  # far above what a refusal takes, far below what the operation would take
HUGE = 10**10
LOOP = "{%% set n = namespace(x=%s) %%}{%% for i in range(99) %%}%s{%% endfor %%}"


def render(source: str, **names: object) -> str:
    return make_environment().from_string(source).render(names)


def test_contents_are_not_escaped() -> None:
    assert render("{{ text }}", text="<&'\">{{ 1 }}") == "<&'\">{{ 1 }}"


def test_blocks_leave_no_blank_lines() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


def test_loops_may_break_and_continue() -> None:
    source = (
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}"
        "{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    )
    assert render(source) == "023"


def test_the_generation_tag_changes_nothing() -> None:
    source = "a{% generation %}{% set x = 'b' %}{{ x }}{% endgeneration %}{{ x }}"
    assert render(source) == "abb"
    assert render("a\n{%- generation -%}\n b \n{%- endgeneration %}\nc") == "abc"


def test_json_is_plain_json_with_the_options_of_hugging_face() -> None:
    assert render("{{ {'b': \"<b>&'ü👋\", 'a': [1, none]}|tojson }}") == (
        '{"b": "<b>&\'ü👋", "a": [1, null]}'
    )
    assert render("{{ {'a': 1}|tojson(indent=2) }}") == '{\n  "a": 1\n}'
    assert render("{{ {'b': 'ü', 'a': 1}|tojson(true, none, (',', ':'), true) }}") == (
        '{"a":1,"b":"\\u00fc"}'
    )
    assert render("{{ {'a': 1}|tojson(separators=(',', ':'), sort_keys=true) }}") == '{"a":1}'
    assert render("{{ ('[1, 2]'|from_json)[1] }}") == "2"


def test_the_clock_goes_on_after_the_template_was_compiled() -> None:
    template = make_environment().from_string("{{ strftime_now('%Y-%m-%d %H:%M:%S.%f') }}")
    before, first, second = datetime.now(), *(template.render() for _ in range(2))
    assert before.isoformat(" ", "microseconds") <= first < second


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'ab' * 3 }}{{ 2 * 3 }}{{ 2 ** 10 }}{{ [1] * 2 }}", "ababab61024[1, 1]"),
        ("{{ 'a' + 'b' }}{{ 1 + 2 }}{{ [1] + [2] }}", "ab3[1, 2]"),
        ("{{ 'a' ~ 1 ~ none ~ missing ~ [2] }}", "a1None[2]"),
        ("{{ '%s is %5.1f%%' % ('x', 2) }}{{ 7 % 4 }}", "x is   2.0%3"),
        ("{{ '{} {x:>3}'.format(1, x=2) }}{{ '%s!'|format('a') }}", "1   2a!"),
        ("{{ 'a-b'.replace('-', '+') }}{{ 'aaa'|replace('a', 'b', 2) }}", "a+bbba"),
        ("{{ ', '.join(['a', 'b']) }}{{ ['c', 'd']|join('-') }}", "a, bc-d"),
        ("{{ ','.join(messages|map(attribute='role')) }}", "user"),
        ("{{ messages|join(';', attribute='role') }}", "user"),
        ("{{ 'a'.center(3) }}{{ 'b'|center(3) }}{{ '1'.zfill(3) }}", " a  b 001"),
        ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
        (
            "{% for m in messages %}{% set r = m.role.replace('u', 'U') %}{{ r }}{% endfor %}",
            "User",
        ),
        ("{{ messages|map(attribute='role')|tojson }}", '["user"]'),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
    ],
)
def test_what_templates_use_works(source: str, text: str) -> None:
    assert render(source, messages=[{"role": "user"}]) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * %d }}",
        "{{ %d * 'x' }}",
        "{{ [1] * %d }}",
        "{{ 9 ** %d }}",
        "{{ '%%%dd' %% 1 }}",
        "{{ '%%*d' %% (%d, 1) }}",
        "{{ '{:>%d}'.format(1) }}",
        "{{ '{:>{}}'.format(1, %d) }}",
        "{{ 'x'.center(%d) }}",
        "{{ 'x'.ljust(%d) }}",
        "{{ 'x'.encode().rjust(%d) }}",
        "{{ '1'.zfill(%d) }}",
        "{{ '\t'.expandtabs(%d) }}",
        "{{ (1).to_bytes(%d, 'big') }}",
        "{{ 'x'|center(%d) }}",
        "{{ 'x\ny'|indent(%d, true) }}",
        "{{ '%%%dd'|format(1) }}",
        "{{ [1]|tojson(indent=%d) }}",
        "{{ range(%d)|list }}",
    ],
)
def test_one_operation_cannot_make_something_large(source: str) -> None:
    start = time.perf_counter()
    with pytest.raises(OverflowError):
        render(source % HUGE)
    assert time.perf_counter() - start < FAST_S


@pytest.mark.parametrize(
    "source",
    [
        LOOP % ("'xx'", "{% set n.x = n.x + n.x %}"),
        LOOP % ("'xx'", "{% set n.x = n.x ~ n.x %}"),
        LOOP % ("'xx'", "{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}"),
        LOOP % ("[1]", "{% set n.x = n.x + n.x %}"),
        LOOP % ("9", "{% set n.x = n.x * n.x %}"),
        "{% set x = 'x' * 9999 %}{{ x.replace('x', x) }}",
        "{% set x = 'x' * 9999 %}{{ x|replace('x', x) }}",
        "{% set x = 'x' * 9999 %}{{ x.join(x) }}{{ x|join(x) }}",
        "{% set x = 'x' * 9999 %}{{ ([x] * 9999)|join }}",
        "{% set x = 'x' * 9999 %}{{ x.translate({120: x}) }}",
        "{% set x = 'x' * 9999 %}{{ ('{0}' * 9999).format(x) }}",
        "{% set x = 'x' * 9999 %}{{ ('%(a)s' * 9999) % {'a': x} }}",
        "{% set x = 'x' * 9999 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    ],
)
def test_many_operations_cannot_multiply(source: str) -> None:
    start = time.perf_counter()
    with pytest.raises(OverflowError):
        render(source)
    assert time.perf_counter() - start < FAST_S


@pytest.mark.parametrize("source", ["{{ lipsum(9) }}", "{{ 'x'|wordwrap(1, true, 'y') }}"])
def test_what_chat_templates_do_not_need_is_not_there(source: str) -> None:
    with pytest.raises(Exception, match=r"lipsum|wordwrap"):
        render(source)


def test_a_join_stops_at_the_bound() -> None:
    pieces = iter(["x" * MAX_CHARS, "", "y", "z"])
    with pytest.raises(OverflowError):
        bounded_join(pieces)
    assert list(pieces) == ["z"]
