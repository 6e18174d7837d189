"""How does a Jinja chat template word a conversation? (GUIDE 8.2)"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from itertools import product

from msgspec.structs import replace

from ...errors import BadRequest, TemplateFailed
from ..conversation import Conversation, Message
from .normalize import normalize
from .renderer import ChatOnly
from .sandbox import make_environment
from .traits import probe
from .wording import TemplateTraits, word

GO_ACTION = re.compile(r"\{\{-?\s*(?:\.[A-Z]|\$|(?:range|if|with|and|or|not|eq|end|else)\b)")
OPEN, CLOSE = "<think>", "</think>"  # the tags that the source of most thinking templates names
# Marks the place where the model continues the last message. Its characters are private ones, which
# no text has; the blank at its end shows whether the template trims contents.
MARK = "\ue000\ue001\ue000\t"


class JinjaTemplate(ChatOnly):
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

    @cached_property
    def _absent(self) -> Mapping[str, object]:
        """How the template takes it that there are no tools: Hugging Face hands over None.

        Templates for tools alone loop over them unasked, which only an undefined variable bears.
        """
        as_none: dict[str, object] = {"tools": None, "documents": None}
        for absent, content in product((as_none, {}), ("x", [{"type": "text", "text": "x"}])):
            with suppress(BadRequest):
                self._render([{"role": "user", "content": content}], absent)
                return absent
        return as_none

    def _run(self, messages: Sequence[dict[str, object]], **facts: object) -> str:
        return self._render(messages, {**self._absent, **facts})

    def _render(self, messages: Sequence[dict[str, object]], facts: Mapping[str, object]) -> str:
        date = datetime.now().strftime("%d %b %Y")  # the format of Llama 3's templates
        try:
            return self._template.render(
                {**self._tokens, "date_string": date, **facts}, messages=messages
            )
        except Exception as error:  # an expression in a template can raise any
            reason = str(error) or type(error).__name__
            raise BadRequest(f"the model's chat template refused the messages: {reason}") from error

    def _continue(
        self, before: Sequence[Message], last: Message, conversation: Conversation
    ) -> str:
        """The prompt that ends within the last message, an assistant's (prefill).

        If the template drops a part of the message, it follows the header of an answer instead.
        """
        if not last.content and not last.thinking:
            return self._open(before, conversation)
        head = self._cut(before, last, conversation)
        shows_content = bool(head) and head.rstrip().endswith(
            (last.content or last.thinking).strip()
        )
        has_tags = OPEN in self._source and CLOSE in self._source
        if shows_content and (last.thinking.strip() in head or not has_tags):
            return head
        text = _with_thought(last) if has_tags else last.content
        return _append(self._open(before, conversation), text)

    def _cut(self, before: Sequence[Message], last: Message, conversation: Conversation) -> str:
        """What the template makes of the messages, up to the end of the last one; "" if nothing."""
        if last.content:
            marked = replace(last, content=last.content + MARK)
        else:
            marked = replace(last, thinking=last.thinking + MARK)
        messages = self._words([*before, marked])
        try:
            text = self._run(messages, add_generation_prompt=False, **_facts(conversation))
        except BadRequest:  # such as a template that refuses an answer as the last message
            return ""
        head, mark, tail = text.rpartition(MARK.rstrip())
        trims = not tail.startswith(MARK[len(mark) :])
        return head.rstrip() if trims else head


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


def _with_thought(message: Message) -> str:
    """The thought in tags and the content; without content the thought stays open."""
    if not message.thinking:
        return message.content
    thought = f"{OPEN}\n{message.thinking}"
    return f"{thought}\n{CLOSE}\n\n{message.content}" if message.content else thought


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
