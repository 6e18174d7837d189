"""The prompts of Cogito 2: the turns of DeepSeek V3, and a sentence that switches thinking on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ...conversation import Conversation, Message, Tool
from ..renderer import ChatOnly
from .deepseek import (
    ASSISTANT_HEAD,
    BOS,
    CALL,
    CALL_END,
    CALLS,
    CALLS_END,
    EOS,
    RESULT,
    RESULT_END,
    SEPARATOR,
    USER_HEAD,
)
from .history import (
    ASSISTANT,
    TOOL,
    USER,
    begins_results,
    ends_results,
    is_continued,
    split_system,
    to_json,
)

RESULTS, RESULTS_END = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
_THINK = "Enable deep thinking subroutine.\n\n"
_IDENTITY = (
    "You are Cogito, an AI assistant created by Deep Cogito, which is an AI research lab based in "
    "San Francisco."
)
_TOOLS_HEAD = "\nYou have the following functions available:\n"


class CogitoRenderer(ChatOnly):
    """A Renderer. It writes the BOS token."""

    def render(self, conversation: Conversation) -> str:
        think = bool(conversation.think)
        system, messages = split_system(conversation.messages)
        parts = [BOS, _system(system or "", conversation.tools, think=think)]
        parts += _turns(messages, think=think)
        return "".join(parts)


def _system(text: str, tools: Sequence[Tool], *, think: bool) -> str:
    """The system prompt. The blank line after the text belongs to the way in which it thinks."""
    own = f"\n\n{text}" if text else ""
    after = "\n\n" if text and think else ""
    declared = "".join(
        f"```json\n{json.dumps(tool.definition, ensure_ascii=False, indent=4)}\n```\n"
        for tool in tools
    )
    listed = f"{_TOOLS_HEAD}{declared}" if tools else ""
    return f"{_THINK if think else ''}{_IDENTITY}{own}{after}{listed}"


def _turns(messages: Sequence[Message], *, think: bool) -> Iterator[str]:
    for index, message in enumerate(messages):
        if message.role == TOOL:
            yield RESULTS if begins_results(messages, index) else "\n"
            yield f"{RESULT}{message.content}{RESULT_END}"
            yield RESULTS_END if ends_results(messages, index) else ""
        elif message.role == ASSISTANT:
            after_result = index > 0 and messages[index - 1].role == TOOL
            yield "" if after_result else ASSISTANT_HEAD
            yield _answer(message) + ("" if is_continued(messages, index) else EOS)
        elif message.role == USER:
            yield f"{USER_HEAD}{message.content}"
    if messages and messages[-1].role == USER:
        yield f"{ASSISTANT_HEAD}<think>\n" if think else ASSISTANT_HEAD


def _answer(message: Message) -> str:
    if not message.tool_calls:
        return message.content
    calls = (
        f"{CALL}function{SEPARATOR}{call.name}\n```json\n{to_json(call.arguments)}\n```{CALL_END}"
        for call in message.tool_calls
    )
    return f"{message.content}{CALLS}{chr(10).join(calls)}{CALLS_END}"
