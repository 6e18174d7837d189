"""Go templates: the prompts that Go's own engine would give, worked out by hand (CONTRACT 8.2)."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from outrider.daemon.chat.conversation import Conversation, Infill, Message, Tool, ToolCall
from outrider.daemon.chat.format import UnreadableTemplate
from outrider.daemon.chat.render.go_template import GoTemplate
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit

LLAMA3 = """{{- if or .System .Tools }}<|start_header_id|>system<|end_header_id|>
{{- if .System }}

{{ .System }}
{{- end }}
{{- if .Tools }}

Cutting Knowledge Date: December 2023
{{- end }}<|eot_id|>
{{- end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}<|start_header_id|>user<|end_header_id|>
{{- if and $.Tools $last }}

Functions:
{{ range $.Tools }}
{{- . }}
{{ end }}
{{ .Content }}<|eot_id|>
{{- else }}

{{ .Content }}<|eot_id|>
{{- end }}{{ if $last }}<|start_header_id|>assistant<|end_header_id|>

{{ end }}
{{- else if eq .Role "assistant" }}<|start_header_id|>assistant<|end_header_id|>
{{- if .ToolCalls }}
{{ range .ToolCalls }}
{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}
{{- else }}

{{ .Content }}
{{- end }}{{ if not $last }}<|eot_id|>{{ end }}
{{- else if eq .Role "tool" }}<|start_header_id|>ipython<|end_header_id|>

{{ .Content }}<|eot_id|>{{ if $last }}<|start_header_id|>assistant<|end_header_id|>

{{ end }}
{{- end }}
{{- end }}"""

QWEN3 = """{{- $lastUserIdx := -1 -}}
{{- range $idx, $msg := .Messages -}}
{{- if eq $msg.Role "user" }}{{ $lastUserIdx = $idx }}{{ end -}}
{{- end }}
{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}
{{- if and $.IsThinkSet (eq $i $lastUserIdx) }}
   {{- if $.Think -}}
      {{- " "}}/think
   {{- else -}}
      {{- " "}}/no_think
   {{- end -}}
{{- end }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ if (and $.IsThinkSet (and .Thinking (or $last (gt $i $lastUserIdx)))) -}}
<think>{{ .Thinking }}</think>
{{ end -}}
{{ if .Content }}{{ .Content }}{{ end }}
{{- if not $last }}<|im_end|>
{{ end }}
{{- end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ if and $.IsThinkSet (not $.Think) -}}
<think>

</think>

{{ end -}}
{{ end }}
{{- end }}"""

MISTRAL = """{{- range $index, $_ := .Messages }}
{{- if eq .Role "user" }}
{{- if and (eq (len (slice $.Messages $index)) 1) $.Tools }}[AVAILABLE_TOOLS] {{ $.Tools -}}
[/AVAILABLE_TOOLS]
{{- end }}[INST] {{ if and $.System (eq (len (slice $.Messages $index)) 1) }}{{ $.System }}

{{ end }}{{ .Content }}[/INST]
{{- else if eq .Role "assistant" }}
{{- if .Content }} {{ .Content }}</s>
{{- else if .ToolCalls }}[TOOL_CALLS] [
{{- range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{- end }}]</s>
{{- end }}
{{- else if eq .Role "tool" }}[TOOL_RESULTS] {"content": {{ .Content }}}[/TOOL_RESULTS]
{{- end }}
{{- end }}"""

GEMMA3 = """{{- $systemPromptAdded := false }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}<start_of_turn>user
{{- if (and (not $systemPromptAdded) $.System) }}
{{- $systemPromptAdded = true }}
{{ $.System }}
{{ end }}
{{ .Content }}<end_of_turn>
{{ if $last }}<start_of_turn>model
{{ end }}
{{- else if eq .Role "assistant" }}<start_of_turn>model
{{ .Content }}{{ if not $last }}<end_of_turn>
{{ end }}
{{- end }}
{{- end }}"""

LEGACY = """{{ if .System }}<|system|>{{ .System }}<|end|>
{{ end }}{{ if .Prompt }}<|user|>{{ .Prompt }}<|end|>
{{ end }}<|assistant|>{{ .Response }}<|end|>
"""

SYSTEM, QUESTION = Message("system", "Be brief."), Message("user", "Hi")
CHAT = (SYSTEM, QUESTION, Message("assistant", "Hello."), Message("user", "Bye"))
WEATHER = Tool(
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <now>",
            "parameters": {
                "type": "object",
                "properties": {
                    "unit": {"type": ["string", "null"], "enum": ["C", "F"], "default": "C"},
                    "city": {"description": "A city", "type": "string"},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
)
WEATHER_FUNCTION = (
    '{"name":"weather","description":"The weather \\u003cnow\\u003e","parameters":'
    '{"type":"object","required":["city"],"properties":{"city":{"type":"string",'
    '"description":"A city"},"unit":{"type":["string","null"],"enum":["C","F"]}}}}'
)
WEATHER_JSON = f'{{"type":"function","function":{WEATHER_FUNCTION}}}'
CALL = Message(
    "assistant", tool_calls=(ToolCall("weather", {"unit": "C", "city": "Köln & Bonn", "days": 2}),)
)
ARGUMENTS = '{"city":"Köln \\u0026 Bonn","days":2,"unit":"C"}'
RESULT = Message("tool", "rain", tool_name="weather")


def render(
    source: str, *messages: Message, tools: tuple[Tool, ...] = (), think: bool | str | None = None
) -> str:
    return GoTemplate(source).render(Conversation(messages, tools, think))


def header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>"


def test_llama3() -> None:
    assert render(LLAMA3, *CHAT) == (
        f"{header('system')}\n\nBe brief.<|eot_id|>{header('user')}\n\nHi<|eot_id|>"
        f"{header('assistant')}\n\nHello.<|eot_id|>{header('user')}\n\nBye<|eot_id|>"
        f"{header('assistant')}\n\n"
    )


def test_llama3_with_tools() -> None:
    prompt = render(LLAMA3, QUESTION, CALL, RESULT, QUESTION, tools=(WEATHER,))
    assert prompt == (
        f"{header('system')}\n\nCutting Knowledge Date: December 2023<|eot_id|>"
        f"{header('user')}\n\nHi<|eot_id|>{header('assistant')}\n\n"
        f'{{"name": "weather", "parameters": {ARGUMENTS}}}<|eot_id|>'
        f"{header('ipython')}\n\nrain<|eot_id|>{header('user')}\n\nFunctions:\n{WEATHER_JSON}\n"
        f"\nHi<|eot_id|>{header('assistant')}\n\n"
    )


@pytest.mark.parametrize(
    ("think", "mark", "end"),
    [
        (None, "", ""),
        (True, " /think", ""),
        ("high", " /think", ""),
        (False, " /no_think", "<think>\n\n</think>\n\n"),
    ],
)
def test_qwen3_and_its_switch_for_thinking(think: bool | str | None, mark: str, end: str) -> None:
    assert render(QWEN3, *CHAT, think=think) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n"
        f"<|im_start|>user\nBye{mark}<|im_end|>\n<|im_start|>assistant\n{end}"
    )


def test_qwen3_shows_the_thought_of_the_last_turn_only() -> None:
    answer = Message("assistant", "Hello.", thinking="Greet.")
    earlier = render(QWEN3, QUESTION, answer, QUESTION, think=True)
    assert "Greet." not in earlier
    assert render(QWEN3, QUESTION, answer, think=True).endswith(
        "<|im_start|>assistant\n<think>Greet.</think>\nHello."
    )


def test_mistral() -> None:
    assert render(MISTRAL, *CHAT, tools=(WEATHER,)) == (
        f"[INST] Hi[/INST] Hello.</s>[AVAILABLE_TOOLS] [{WEATHER_JSON}][/AVAILABLE_TOOLS]"
        "[INST] Be brief.\n\nBye[/INST]"
    )
    assert render(MISTRAL, QUESTION, CALL, RESULT) == (
        f'[INST] Hi[/INST][TOOL_CALLS] [{{"name": "weather", "arguments": {ARGUMENTS}}}]</s>'
        '[TOOL_RESULTS] {"content": rain}[/TOOL_RESULTS]'
    )


def test_gemma3_assigns_a_variable_of_an_outer_scope() -> None:
    assert render(GEMMA3, *CHAT) == (
        "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello."
        "<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_legacy_template_runs_once_per_exchange_and_is_cut_after_the_response() -> None:
    assert render(LEGACY, *CHAT) == (
        "<|system|>Be brief.<|end|>\n<|user|>Hi<|end|>\n<|assistant|>Hello.<|end|>\n"
        "<|user|>Bye<|end|>\n<|assistant|>"
    )


def test_a_system_message_in_the_middle_begins_an_exchange_of_a_legacy_template() -> None:
    assert render(LEGACY, QUESTION, SYSTEM, Message("user", "Bye")) == (
        "<|user|>Hi<|end|>\n<|assistant|><|end|>\n"
        "<|system|>Be brief.<|end|>\n<|user|>Bye<|end|>\n<|assistant|>"
    )


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("{{ .Prompt }}", "HiHello.Bye"),
        ("{{ .System }}:{{ .Prompt }}|", "Be brief.:Hi|Hello.:Bye|"),
        ("no variable at all|", "no variable at all|Hello.no variable at all|"),
        ("{{ if .Prompt }}Q{{ .Response }}A{{ else }}-{{ end }}Z", "QHello.AZQ"),
        ("{{ with .Response }}[{{ $.Response }}]{{ end }}.", "[Hello.]."),
        ('{{ .Prompt | printf "%q" }}{{ .Response | print "> " }}!', '"Hi"> Hello.!"Bye"> '),
    ],
)
def test_the_response_of_legacy_templates(source: str, prompt: str) -> None:
    assert render(source, *CHAT) == prompt


CLOSED = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}</{{ .Role }}>\n{{ end }}<assistant>"


@pytest.mark.parametrize(
    ("source", "end"),
    [
        (LLAMA3, f"{header('assistant')}\n\nWell, "),
        (QWEN3, "<|im_start|>assistant\nWell, "),
        (MISTRAL, "[/INST] Well, "),
        (GEMMA3, "<start_of_turn>model\nWell, "),
        (LEGACY, "<|assistant|>Well, "),
        (CLOSED, "\n<assistant>Well, "),
    ],
)
def test_the_last_message_of_the_assistant_is_continued(source: str, end: str) -> None:
    assert render(source, QUESTION, Message("assistant", "Well, ")).endswith(end)


def test_a_pending_call_is_not_continued() -> None:
    assert render(CLOSED, QUESTION, CALL) == (
        "<user>Hi</user>\n<assistant></assistant>\n<assistant>"
    )


def test_neighbours_of_one_role_are_merged_except_results() -> None:
    asked = (
        SYSTEM,
        Message("system", "Be kind."),
        QUESTION,
        Message("user", "Bye"),
        RESULT,
        RESULT,
    )
    source = "{{ .System }}!{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}"
    assert render(source, *asked) == (
        "Be brief.\n\nBe kind.!<system>Be brief.\n\nBe kind.<user>Hi\n\nBye<tool>rain<tool>rain"
    )


def test_merged_messages_keep_thoughts_and_calls() -> None:
    source = "{{ range .Messages }}{{ .Thinking }}|{{ .Content }}|{{ len .ToolCalls }}{{ end }}"
    thought = Message("assistant", thinking="Look.")
    assert render(source, thought, CALL, Message("assistant", "So.")) == "Look.|So.|1"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ range .Tools }}{{ . }};{{ end }}", f"{WEATHER_JSON};"),
        ("{{ .Tools }}", f"[{WEATHER_JSON}]"),
        ("{{ json .Tools }}", f"[{WEATHER_JSON}]"),
        ("{{ print .Tools }}", f"[{WEATHER_JSON}]"),
        ('{{ printf "<%s|%v>" .Tools 3 }}', f"<[{WEATHER_JSON}]|3>"),
        ("{{ println .Tools 1 }}", f"[{WEATHER_JSON}] 1\n"),
        ("{{ range .Tools }}{{ .Function }}{{ end }}", WEATHER_FUNCTION),
        ("{{ with (index .Tools 0).Function }}{{ .Name }}{{ end }}", "weather"),
        ("{{ (index .Tools 0).Function.Parameters.Required }}", "[city]"),
        ("{{ json (index .Tools 0).Function.Parameters.Required }}", '["city"]'),
        ("{{ len .Tools }}{{ if .Tools }}+{{ end }}{{ if not .Tools }}-{{ end }}", "1+"),
        (
            "{{ range $k, $v := (index .Tools 0).Function.Parameters.Properties }}"
            "{{ $k }}: {{ $v.Type }} {{ $v | toTypeScriptType }} {{ $v.ToTypeScriptType }}"
            '{{ if eq $v.Type "string" }} text{{ end }};{{ end }}',
            "city: string string string text;unit: [string null] string | null string | null;",
        ),
    ],
)
def test_tools_print_as_json(source: str, text: str) -> None:
    assert render(source + "{{ if .Messages }}{{ end }}", QUESTION, tools=(WEATHER,)) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ .Function.Arguments }}", ARGUMENTS),
        ("{{ json .Function.Arguments }}", ARGUMENTS),
        ("{{ print .Function.Arguments }}", ARGUMENTS),
        ('{{ printf "%s" .Function.Arguments }}', ARGUMENTS),
        ("{{ .Function.Name }}{{ .Function.Index }}", "weather0"),
        (
            "{{ range $k, $v := .Function.Arguments }}{{ $k }}={{ $v }} {{ end }}",
            "city=Köln & Bonn days=2 unit=C ",
        ),
        ("{{ index .Function.Arguments `city` }}", "Köln & Bonn"),
        ('{"name": "{{ .Function.Name }}"}', '{"name": "weather"}'),
    ],
)
def test_calls_print_as_json(source: str, text: str) -> None:
    ranged = (
        f"{{{{ range .Messages }}}}{{{{ range .ToolCalls }}}}{source}{{{{ end }}}}{{{{ end }}}}"
    )
    assert render(ranged, CALL, RESULT) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        # What is missing is empty.
        ("[{{ .Nothing }}{{ .No.Thing }}{{ print .Nothing }}]", "[]"),
        ("{{ if .Nothing }}1{{ else }}2{{ end }}{{ range .Nothing }}3{{ else }}4{{ end }}", "24"),
        ('{{ eq .Nothing "a" }} {{ ne .Nothing "a" }} {{ json .Nothing }}', "false true null"),
        # Trimmed blanks reach over lines, and only on the marked side.
        ("a \n\t{{- 1 }} b", "a1 b"),
        ("a {{ 1 -}} \n b", "a 1b"),
        ("a {{- /* note */ -}} b", "ab"),
        ("{{`{{`}}", "{{"),
        # Scopes, loops.
        ("{{ range $i, $e := .Messages }}{{ $i }}{{ $e.Role }} {{ end }}", "0system 1user "),
        ("{{ range 5 }}{{ if eq . 2 }}{{ break }}{{ end }}{{ . }}{{ end }}!", "01!"),
        ("{{ range 5 }}{{ if eq . 2 }}{{ continue }}{{ end }}{{ . }}{{ end }}!", "0134!"),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x = 3 }}{{ end }}{{ $x }}", "1"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ with .System }}{{ . }}{{ $.System }}{{ else }}none{{ end }}", "Be brief.Be brief."),
        ("{{ with .Nothing }}1{{ else with .System }}{{ . }}{{ end }}", "Be brief."),
        ("{{ if .Nothing }}1{{ else if .Tools }}2{{ else }}3{{ end }}", "3"),
        # Functions.
        ("{{ and 1 0 2 }}{{ or 0 `` `x` }}{{ not 0 }}", "0xtrue"),
        ("{{ and .Nothing (index .Messages 9) }}", ""),
        ("{{ or true (index .Messages 9) }}", "true"),
        ("{{ lt 1 2 }}{{ le 2 2 }}{{ gt 1 2 }}{{ ge 1 2 }}", "truetruefalsefalse"),
        ("{{ eq 1 2 1 }}{{ ne `a` `b` }}{{ eq 1 `1` }}", "truetruefalse"),
        ("{{ len `aß` }}{{ slice `abcd` 1 3 }}{{ (index .Messages 1).Content }}", "3bcHi"),
        ('{{ print 1 2 "a" "b" 3 }}', "1 2ab3"),
        ('{{ printf "%03d %q %5.2f %t" 7 "x" 1.5 true }}', '007 "x"  1.50 true'),
        ("{{ html `<a>` }}{{ urlquery `a b` }}", "&lt;a&gt;a+b"),
        ('{{ define "x" }}<{{ .System }}{{ $.A }}>{{ end }}{{ template "x" . }}', "<Be brief.>"),
        ('{{ block "y" .System }}[{{ . }}]{{ end }}', "[Be brief.]"),
        ('{{ json "a<b>\\u2028é\\n" }}', '"a\\u003cb\\u003e\\u2028é\\n"'),
    ],
)  # fmt: skip
def test_the_language(source: str, text: str) -> None:
    assert render(source + "{{ if .Messages }}{{ end }}", SYSTEM, QUESTION) == text


def test_dates() -> None:
    today, yesterday = date.today(), date.today() - timedelta(days=1)
    prompt = render(
        "{{ currentDate `x` 1 }} {{ yesterdayDate }}{{ if .Messages }}{{ end }}", QUESTION
    )
    assert prompt == f"{today:%Y-%m-%d} {yesterday:%Y-%m-%d}"


@pytest.mark.parametrize(
    ("think", "text"),
    [
        (None, "falsefalse"),
        (True, "truetruemedium"),
        (False, "falsetrue"),
        ("low", "truetruelow"),
    ],
)
def test_the_wish_for_thinking(think: bool | str | None, text: str) -> None:
    source = "{{ .Think }}{{ .IsThinkSet }}{{ .ThinkLevel }}"
    assert render(source + "{{ if .Messages }}{{ end }}", QUESTION, think=think) == text
    assert render(source, QUESTION, think=think) == text


FIM = "{{- if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}"


def test_a_gap_is_filled() -> None:
    template = GoTemplate(FIM + "{{ .Response }}")
    assert template.render_infill(Infill("def f(", "): pass")) == "<PRE>def f(<SUF>): pass<MID>"
    assert template.render(Conversation((QUESTION,))) == "Hi"


def test_a_template_without_a_suffix_fills_no_gap() -> None:
    with pytest.raises(BadRequest, match="leave out the suffix"):
        GoTemplate(LEGACY).render_infill(Infill("a", "b"))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ if }}", "missing value for command"),
        ("{{ .Prompt", "unclosed"),
        ("{{ if .Prompt }}", "^template:1:"),
        ("{{ nosuch .Prompt }}", "'nosuch' not defined"),
        ("{{ $x }}", "undefined variable"),
        ("{% if messages %}{{ messages[0]['content'] }}{% endif %}", "^template:1:"),
    ],
)
def test_what_is_no_template(source: str, reason: str) -> None:
    with pytest.raises(UnreadableTemplate, match=reason):
        GoTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ slice .Messages 9 }}",
        "{{ index .Messages 9 }}",
        "{{ len .Nothing }}{{ .Messages }}",
        "{{ range .Messages }}{{ .Role.upper }}{{ end }}",
        "{{ range .Messages }}{{ .Content.__class__ }}{{ end }}",
        '{{ template "nosuch" .Messages }}',
        '{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" .Messages }}',
    ],
)
def test_a_template_that_fails_is_a_bad_request(source: str) -> None:
    template = GoTemplate(source)
    with pytest.raises(BadRequest, match="the template of the model failed: template: "):
        template.render(Conversation((QUESTION,)))


def test_a_template_that_multiplies_text_is_stopped() -> None:
    long = Message("system", 1_000_000 * "x")
    with pytest.raises(BadRequest, match="output character budget exceeded"):
        render("{{ range .Messages }}{{ range 100 }}{{ $.System }}{{ end }}{{ end }}", long)


def test_odd_definitions_of_tools_are_rendered() -> None:
    odd = [{}, {"function": None}, {"function": {"name": "f", "parameters": {"properties": []}}}]
    tools = tuple(Tool(definition) for definition in odd)
    prompt = render("{{ .Tools }}{{ if .Messages }}{{ end }}", QUESTION, tools=tools)
    assert prompt.startswith('[{"type":"function","function":{"name":"","parameters":')


@pytest.mark.parametrize(("source", "can"), [(LLAMA3, True), (CLOSED, False), (LEGACY, False)])
def test_whether_a_call_and_its_result_are_worded(source: str, can: bool) -> None:
    assert GoTemplate(source).round_trips is can


LONG = '{{ $s := "\\\\x" }}' + "{{ $s = STEP }}" * 40 + "{{ $s }}"


@pytest.mark.parametrize(
    "template",
    [
        '{{ printf "%2147483647d" 3 }}',
        '{{ printf "%-999999999999999999s" "x" }}',
        '{{ printf "%.999999999f" 1.5 }}',
        '{{ printf "%*d" 2147483647 3 }}',
        LONG.replace("STEP", 'printf "%s%s" $s $s'),
        LONG.replace("STEP", 'printf "%[1]s%[1]s%[1]s" $s'),
        LONG.replace("STEP", "print $s $s"),
        LONG.replace("STEP", "println $s $s"),
        LONG.replace("STEP", "js $s"),
        LONG.replace("STEP", "js (html (urlquery $s $s))"),
    ],
)
def test_functions_make_no_text_without_bounds(template: str) -> None:
    with pytest.raises(BadRequest, match=r"longer than|larger than"):
        GoTemplate(template).render(Conversation((Message("user", "hi"),)))


def test_texts_are_escaped_as_by_go() -> None:
    text = "<a href='x'>\"1 & 2\" = \\ü\n</a> ~+/"
    template = "{{ html .Prompt }}|{{ js .Prompt }}|{{ urlquery .Prompt }}"
    html, js, query = GoTemplate(template).render(Conversation((Message("user", text),))).split("|")
    assert html == "&lt;a href=&#39;x&#39;&gt;&#34;1 &amp; 2&#34; = \\ü\n&lt;/a&gt; ~+/"
    assert js == (r"\u003Ca href\u003D\'x\'\u003E\"1 \u0026 2\" \u003D \\ü\u000A\u003C/a\u003E ~+/")
    assert query == "%3Ca+href%3D%27x%27%3E%221+%26+2%22+%3D+%5C%C3%BC%0A%3C%2Fa%3E+~%2B%2F"


def test_a_template_is_refused_that_takes_seconds_to_read() -> None:
    with pytest.raises(UnreadableTemplate, match="longer than"):
        GoTemplate("{{ .Prompt }}" * 30_000)
