"""How does a Jinja chat template word a conversation? (GUIDE 8.2)"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

from msgspec.structs import replace

from ...errors import BadRequest, TemplateFailed
from ..conversation import Conversation, Infill, Message
from .normalize import normalize
from .sandbox import make_environment
from .traits import probe
from .wording import TemplateTraits, word

GO_ACTION = re.compile(r"\{\{-?\s*(?:\.[A-Z]|\$|(?:range|if|with|and|or|not|eq|end|else)\b)")
OPEN, CLOSE = "<think>", "</think>"  # the tags that the source of most thinking templates names
# Marks the place where the model continues the last message. Its characters are private ones, which
# no text has; the blank at its end shows whether the template trims contents.
MARK = "\ue000\ue001\ue000\t"


class JinjaTemplate:
    """A Renderer by a compiled template. It is sandboxed, because it comes from a downloaded file.

    Neither time nor memory of all operations together is bounded here: the caller runs it in a
    process that can be ended.
    """

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        """`bos` and `eos` are the texts of these tokens. Raises TemplateFailed."""
        try:
            self._template = make_environment().from_string(source)
        except Exception as error:  # a template may exhaust any limit of the compilers
            raise TemplateFailed(_why_unreadable(source, error)) from error
        self._source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}

    def render(self, conversation: Conversation) -> str:
        """The prompt. Raises BadRequest if the template refuses the messages."""
        messages = normalize(conversation.messages, self.traits)
        if messages and messages[-1].role == "assistant" and not messages[-1].tool_calls:
            return self._continue(messages[:-1], messages[-1], conversation)
        return self._open(messages, conversation)

    def render_infill(self, infill: Infill) -> str:
        """Raises BadRequest: a chat template has no words for a gap."""
        raise BadRequest("this model cannot fill a gap: leave out the suffix")

    @cached_property
    def traits(self) -> TemplateTraits:
        """What the template takes, found on first use."""
        return probe(self._attempt, self._source)

    def _attempt(self, messages: Sequence[dict[str, object]]) -> str | None:
        try:
            return self._run(messages, add_generation_prompt=True)
        except BadRequest:
            return None

    def _open(self, messages: Sequence[Message], conversation: Conversation) -> str:
        """The prompt that ends with the header of an answer."""
        facts = _facts(conversation)
        return self._run(self._words(messages), add_generation_prompt=True, **facts)

    def _words(self, messages: Sequence[Message]) -> list[dict[str, object]]:
        return [part for message in messages for part in word(message, self.traits)]

    def _run(self, messages: Sequence[dict[str, object]], **facts: object) -> str:
        date = datetime.now().strftime("%d %b %Y")  # the format of Llama 3's templates
        names = {"tools": None, "documents": None, "date_string": date} | self._tokens | facts
        try:
            return self._template.render(names, messages=messages)
        except Exception as error:  # an expression in a template can raise any
            reason = str(error) or type(error).__name__
            raise BadRequest(f"the model's chat template refused the messages: {reason}") from error

    def _continue(
        self, before: Sequence[Message], last: Message, conversation: Conversation
    ) -> str:
        """The prompt that ends within the last message, an assistant's (prefill).

        If the template drops a part of the message, it follows the header of an answer instead.
        """
        last = self._with_thought(last)
        if not last.content and not last.thinking:
            return self._open(before, conversation)
        text = last.content or last.thinking
        field = "content" if last.content else "thinking"
        marked = replace(last, **{field: text + MARK})
        try:
            rendered = self._run(
                self._words([*before, marked]),
                add_generation_prompt=False,
                **_facts(conversation),
            )
        except BadRequest:  # such as a template that refuses an answer as the last message
            rendered = ""
        head = _before_mark(rendered)
        if head.rstrip().endswith(text.strip()):
            return head
        header = self._open(before, conversation)
        return _append(header, text if last.content else f"{OPEN}\n{text}")

    def _with_thought(self, message: Message) -> Message:
        """The message with its thought in the content, if the template has no key for thoughts.

        The tags are those that the template's source names; without them the thought is left out.
        """
        if not message.thinking or self.traits.thinking_keys:
            return message
        if OPEN not in self._source and CLOSE not in self._source:
            return replace(message, thinking="")
        thought = f"{OPEN}\n{message.thinking}"
        if message.content:
            thought += f"\n{CLOSE}\n\n{message.content}"
        return replace(message, thinking="", content=thought)


def _facts(conversation: Conversation) -> dict[str, object]:
    """The variables that a template may ask about, by the names that well-known ones use."""
    facts: dict[str, object] = {}
    if conversation.tools:
        facts["tools"] = [tool.definition for tool in conversation.tools]
    if conversation.think is not None:
        facts["enable_thinking"] = facts["thinking"] = bool(conversation.think)
    if isinstance(conversation.think, str):
        facts["reasoning_effort"] = conversation.think
    return facts


def _before_mark(rendered: str) -> str:
    """The text before the mark, without blanks at its end if the template trims contents."""
    head, mark, tail = rendered.rpartition(MARK.rstrip())
    if not mark:
        return ""
    return head if tail.startswith(MARK[len(mark) :]) else head.rstrip()


def _append(header: str, text: str) -> str:
    """The text after the header of an answer; a thought is not opened twice."""
    if text.lstrip().startswith(OPEN) and header.rstrip().endswith(OPEN):
        return header.rstrip().removesuffix(OPEN) + text.lstrip()
    return header + text


def _why_unreadable(source: str, error: Exception) -> str:
    if GO_ACTION.search(source):
        return "the chat template cannot be read: it is a Go template, not a Jinja template"
    reason = str(error) or type(error).__name__
    return f"the chat template cannot be read: {reason}"
