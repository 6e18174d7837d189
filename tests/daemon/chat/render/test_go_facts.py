"""What a Go template tells of its model (CONTRACT 8.2, 8.4)."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.render.go_template import GoTemplate

pytestmark = pytest.mark.unit


def ranged(body: str) -> str:
    return f"{{{{ range .Messages }}}}{body}{{{{ end }}}}"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{{ .Prompt }}", {"Prompt"}),
        ("{{ if and (not .System) (eq (len $.Tools) 1) }}{{ else }}{{ .Suffix }}{{ end }}",
         {"System", "Tools", "Suffix"}),
        ("{{ with $x := (index .Messages 0).Role }}{{ $x.Y }}{{ end }}", {"Messages", "Role", "Y"}),
        ('{{ define "a" }}{{ .A }}{{ end }}{{ template "a" .B }}', {"A", "B"}),
        ('{{ block "c" .C }}{{ .D }}{{ end }}', {"C", "D"}),
    ],
)  # fmt: skip
def test_names(source: str, names: set[str]) -> None:
    assert GoTemplate(source).facts.names == names


@pytest.mark.parametrize(
    ("source", "tags"),
    [
        (ranged("{{ if .Thinking }}<t>{{ .Thinking }}</t>\n{{ end }}"), ("<t>", "</t>")),
        (ranged("a\n<think>\n{{ .Thinking }}\n</think>\n\nb"), ("<think>", "</think>")),
        (ranged("{{ if .A }}{{ else }}[T]{{ .Thinking }}[/T]{{ end }}"), ("[T]", "[/T]")),
        ("{{ range $i, $m := $.Messages }}<t>{{ $m.Thinking }}</t>{{ end }}", ("<t>", "</t>")),
        ("<think>{{ .Thinking }}</think>", ("", "")),
        (ranged("<think>{{ .Thinking }}"), ("", "")),
        (ranged("{{ .Thinking }}"), ("", "")),
        (ranged("<think>{{ .Content }}</think>"), ("", "")),
    ],
)  # fmt: skip
def test_thinking_tags(source: str, tags: tuple[str, str]) -> None:
    facts = GoTemplate(source).facts
    assert (facts.think_open, facts.think_close) == tags


CALLS = '{{ range .ToolCalls }}{"name": "{{ .Function.Name }}"}{{ end }}'


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        ("{{ .Prompt }}", "{"),
        (ranged("{{ if .ToolCalls }}<call>\n" + CALLS + "</call>{{ end }}"), "<call>"),
        (ranged("{{ if .A }}x{{ else if .ToolCalls }}[CALLS] [" + CALLS + "{{ end }}"), "[CALLS]"),
        (ranged("{{ with .ToolCalls }} <|python_tag|>" + CALLS + "{{ end }}"), "<|python_tag|>"),
        (ranged("{{ if .ToolCalls }}\n" + CALLS + "{{ end }}"), "{"),
        (ranged(CALLS), "{"),
        (ranged("{{ if .ToolCalls }}[" + CALLS + "]{{ end }}"), "["),
        (ranged("{{ if not .ToolCalls }}x{{ end }}{{ if .ToolCalls }}<c>{{ end }}"), "<c>"),
        (ranged("{{ if .ToolCalls }}A: ```json\n[" + CALLS + "]```{{ end }}"), "A: ```json"),
    ],
)  # fmt: skip
def test_the_tag_of_calls(source: str, tag: str) -> None:
    assert GoTemplate(source).facts.call_tag == tag
