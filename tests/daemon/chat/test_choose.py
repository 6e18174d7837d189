"""The choice of a format, and what it makes a model capable of (CONTRACT 8.1, 8.3)."""

from __future__ import annotations

import dataclasses

import pytest
from outrider.daemon.chat.choose import ChatChoice, ChatModel, choose, format_of
from outrider.daemon.chat.format import GO, JINJA, ChatFormat, UnreadableTemplate
from outrider.daemon.chat.parse.registry import FAMILIES

pytestmark = pytest.mark.unit

PLAIN_GO = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}>"
TOOLS_GO = (
    "{{ .Tools }}{{ range .Messages }}{{ .Role }}{{ .Content }}"
    "{{ if .ToolCalls }}<call>{{ .ToolCalls }}{{ end }}{{ end }}>"
)
DEAF_GO = (
    '{{ .Tools }}{{ range .Messages }}{{ if eq .Role "user" }}{{ .Content }}{{ end }}{{ end }}>'
)
THINKING_GO = "{{ range .Messages }}<t>{{ .Thinking }}</t>{{ .Content }}{{ end }}>"
INFILL_GO = "{{ .Prompt }}{{ .Suffix }}"
HARMONY_GO = "{{ .Tools }}<|start|>system<|end|>{{ range .Messages }}{{ .Content }}{{ end }}"

PLAIN = "{{ messages[0].content }}"
TOOLS = "{{ tools }}{{ messages[0].tool_calls }}"
ROUND_TRIP = TOOLS + "{% if messages[0].role == 'tool' %}{% endif %}"
THINKING = "<think></think>"
SPLIT = "{{ content.split('</think>')[-1] }}"

RENDERERS = ("gemma4-small", "gemma4-large", "harmony", "qwen3.5")


def pick(
    go: str | None = None, jinja: str | None = None, prefers_go: bool | None = None, **facts: str
) -> ChatChoice:
    model = ChatModel(go_template=go, jinja=jinja)
    return choose(
        dataclasses.replace(model, **facts),  # type: ignore[arg-type]
        renderers=RENDERERS,
        prefers_go=prefers_go,
    )


def test_no_template_at_all() -> None:
    assert pick() == ChatChoice(ChatFormat())


@pytest.mark.parametrize(
    ("go", "capabilities", "format_"),
    [
        (PLAIN_GO, (), ChatFormat(template=PLAIN_GO, language=GO)),
        (INFILL_GO, ("insert",), ChatFormat(template=INFILL_GO, language=GO)),
        (TOOLS_GO, ("tools",),
         ChatFormat(template=TOOLS_GO, language=GO, parser="generic", call_tag="<call>")),
        (THINKING_GO, ("thinking",),
         ChatFormat(template=THINKING_GO, language=GO, parser="generic", think_open="<t>",
                    think_close="</t>")),
        (DEAF_GO, ("tools",),
         ChatFormat(template=DEAF_GO, language=GO, parser="generic", call_tag="{")),
    ],
)  # fmt: skip
def test_a_go_template(go: str, capabilities: tuple[str, ...], format_: ChatFormat) -> None:
    assert pick(go) == ChatChoice(format_, capabilities)
    assert format_of(go) == format_


@pytest.mark.parametrize(
    ("jinja", "capabilities", "tags"),
    [
        (PLAIN, (), ("", "")),
        (TOOLS, ("tools",), ("", "")),
        (THINKING, ("thinking",), ("<think>", "</think>")),
        (SPLIT, ("thinking",), ("<think>", "</think>")),
        ("[THINK][/THINK]", ("thinking",), ("[THINK]", "[/THINK]")),
        (THINKING + TOOLS, ("tools", "thinking"), ("<think>", "</think>")),
    ],
)
def test_a_jinja_template(jinja: str, capabilities: tuple[str, ...], tags: tuple[str, str]) -> None:
    chosen = pick(jinja=jinja)
    format_ = chosen.format
    assert (chosen.capabilities, chosen.warnings) == (capabilities, ())
    assert (format_.template, format_.language, format_.renderer) == (jinja, JINJA, "")
    assert (format_.think_open, format_.think_close) == tags
    if capabilities:
        assert FAMILIES[format_.parser].calls == ("tools" in capabilities)
    else:
        assert format_.parser == ""


@pytest.mark.parametrize(
    ("go", "jinja", "prefers_go", "language"),
    [
        (PLAIN_GO, PLAIN, None, GO),
        (PLAIN_GO, PLAIN, False, JINJA),
        (PLAIN_GO, None, False, GO),
        (PLAIN_GO, TOOLS, None, JINJA),  # more capabilities
        (PLAIN_GO, TOOLS, True, GO),
        (PLAIN_GO, THINKING, None, JINJA),
        (THINKING_GO, TOOLS, None, GO),  # as many
        (TOOLS_GO, ROUND_TRIP, None, GO),
        (TOOLS_GO, TOOLS + THINKING, None, GO),  # more, but the round trip is lost
        (TOOLS_GO, ROUND_TRIP + THINKING, None, JINJA),
        (DEAF_GO, TOOLS + THINKING, None, JINJA),
        (DEAF_GO, TOOLS, None, GO),
        (DEAF_GO, ROUND_TRIP, None, JINJA),  # only Jinja has the round trip
        (INFILL_GO, PLAIN, None, GO),
    ],
)
def test_which_template_is_used(
    go: str, jinja: str | None, prefers_go: bool | None, language: str
) -> None:
    assert pick(go, jinja, prefers_go).format.language == language


def test_a_parser_alone_leaves_the_prompt_to_the_go_template() -> None:
    chosen = pick(TOOLS_GO, ROUND_TRIP + THINKING, parser="thinking")
    assert chosen.capabilities == ("tools", "thinking")
    assert chosen.format == ChatFormat(
        template=TOOLS_GO, language=GO, parser="thinking", call_tag="<call>"
    )
    assert pick(None, PLAIN, parser="thinking").format.template == PLAIN


def test_an_unknown_parser_is_no_parser() -> None:
    chosen = pick(TOOLS_GO, parser="nosuch")
    assert (chosen.format, chosen.capabilities) == (format_of(TOOLS_GO), ("tools",))
    assert chosen.warnings == ("PARSER nosuch is unknown, and not used",)


def test_a_renderer_goes_before_every_template() -> None:
    chosen = pick(INFILL_GO, ROUND_TRIP, renderer="qwen3.5", parser="thinking")
    assert chosen == ChatChoice(ChatFormat(renderer="qwen3.5", parser="thinking"), ("thinking",))


def test_an_unknown_renderer_is_named() -> None:
    chosen = pick(TOOLS_GO, renderer="nosuch")
    assert chosen.format.renderer == "nosuch"
    assert chosen.format.parser == "generic"
    assert chosen.warnings == ("RENDERER nosuch is unknown: chats are refused",)


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("gemma4:e2b", 30 * 10**9, "small"),
        ("hf.co/x/gemma-4-E4B-it", 0, "small"),
        ("gemma4:31b", 0, "large"),
        ("gemma4:26B-a4b", 0, "large"),
        ("mine", 12 * 10**9, "large"),
        ("mine", 12 * 10**9 - 1, "small"),
        ("gemma4", 0, "small"),
    ],
)
def test_gemma4_is_small_or_large(name: str, count: int, size: str) -> None:
    model = ChatModel(name=name, parameter_count=count, renderer="gemma4")
    chosen = choose(model, renderers=RENDERERS)
    assert chosen.format.renderer == f"gemma4-{size}"
    assert chosen.warnings == ()


@pytest.mark.parametrize("family", ["gptoss", "gpt-oss"])
def test_gpt_oss(family: str) -> None:
    chosen = pick(HARMONY_GO, ROUND_TRIP + THINKING, family=family)
    assert chosen.format.renderer == "harmony"
    assert chosen.capabilities == ("tools", "thinking")
    assert pick(TOOLS_GO, family=family).format.renderer == ""
    assert pick(HARMONY_GO, family="llama").format.renderer == ""
    assert pick(jinja=PLAIN, family=family).capabilities == ("thinking",)
    without = choose(ChatModel(family=family, go_template=HARMONY_GO))
    assert (without.format.renderer, without.format.template) == ("", HARMONY_GO)


def test_an_unreadable_template_is_told() -> None:
    chosen = pick("{{ .Prompt", PLAIN)
    assert chosen.format == ChatFormat(template=PLAIN)
    assert "the chat template of the GGUF file is used: template:1:1:" in chosen.warnings[0]
    alone = pick("{{ .Prompt")
    assert alone.format == ChatFormat(template="{{ .Prompt", language=GO)
    assert "chats are refused: template:1:1:" in alone.warnings[0]
    with pytest.raises(UnreadableTemplate):
        format_of("{{ .Prompt")
