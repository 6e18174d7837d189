"""Which renderer a chat format gets."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Conversation, Infill, Message
from outrider.daemon.chat.format import GO, ChatFormat
from outrider.daemon.chat.render.registry import open_renderer
from outrider.daemon.errors import BadRequest, TemplateFailed

pytestmark = pytest.mark.unit

OWN, OTHER = "own {{ bos_token }}{{ eos_token }}", "other {{ messages[-1].content }}"
HELLO = Conversation((Message("system", "be brief"), Message("user", "hello")))


def render(chat_format: ChatFormat, model_template: str | None) -> str:
    renderer = open_renderer(chat_format, model_template=model_template, bos="<s>", eos="</s>")
    return renderer.render(HELLO)


def test_the_format_goes_before_the_model() -> None:
    assert render(ChatFormat(), OWN) == "own <s></s>"
    assert render(ChatFormat(template=OTHER), OWN) == "other be brief\n\nhello"
    assert render(ChatFormat(template=OTHER), None) == "other be brief\n\nhello"


@pytest.mark.parametrize("model_template", [None, ""])
def test_without_a_template_the_contents_stand_one_after_another(
    model_template: str | None,
) -> None:
    assert render(ChatFormat(), model_template) == "be brief\n\nhello"
    plain = open_renderer(ChatFormat(), model_template=model_template, bos="", eos="")
    assert plain.render(Conversation(())) == ""
    prefill = (*HELLO.messages, Message("assistant", "Hi "))
    assert plain.render(Conversation(prefill)).endswith("hello\n\nHi ")
    with pytest.raises(BadRequest, match="suffix"):
        plain.render_infill(Infill("a", "b"))


def test_an_unknown_renderer_is_named() -> None:
    with pytest.raises(TemplateFailed, match=r'^unknown renderer "nothing"$'):
        render(ChatFormat(renderer="nothing", template=OTHER), OWN)


def test_a_go_template_is_rendered_as_one() -> None:
    source = "{{ range .Messages }}[{{ .Role }}: {{ .Content }}]{{ end }}"
    chat_format = ChatFormat(template=source, language=GO)
    assert render(chat_format, OWN) == "[system: be brief][user: hello]"
    assert render(ChatFormat(language=GO), OWN) == "own <s></s>"


@pytest.mark.parametrize(
    "chat_format", [ChatFormat(template="{% if %}"), ChatFormat(template="{{ if }}", language=GO)]
)
def test_a_template_that_cannot_be_compiled_is_told(chat_format: ChatFormat) -> None:
    with pytest.raises(TemplateFailed, match=r"^the chat template cannot be read: "):
        render(chat_format, OWN)
