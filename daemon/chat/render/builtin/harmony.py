"""How a conversation is worded for gpt-oss: the harmony format (CONTRACT 8.8)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from itertools import takewhile

from ...conversation import Conversation, Message, ToolCall
from ...tool_identifiers import identifier, identifiers
from ..renderer import ChatOnly
from .history import SYSTEM_ROLES, UNKNOWN_TOOL, results_of
from .nesting import refuses_deep_nesting
from .typescript import namespace

IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
KNOWLEDGE_CUTOFF = "2024-06"
CHANNELS = (
    "# Valid channels: analysis, commentary, final. Channel must be included for every message."
)
CALL_CHANNEL = "Calls to these tools must go to the commentary channel: 'functions'."
# The model cannot answer without analysis, so the lowest level stands for none.
LEVELS = {False: "low", True: "medium", None: "medium", "max": "high"}
HEADER = "<|start|>assistant"


class HarmonyRenderer(ChatOnly):
    """A Renderer of gpt-oss."""

    def __init__(self, today: Callable[[], date] = date.today) -> None:
        """`today` is asked at each prompt: the system message names the day."""
        self._today = today

    @refuses_deep_nesting
    def render(self, conversation: Conversation) -> str:
        messages = conversation.messages
        leading = list(takewhile(lambda message: message.role in SYSTEM_ROLES, messages))
        system = "\n\n".join(message.content for message in leading)
        names = identifiers(conversation.tools)
        history = _HarmonyHistory(messages[len(leading) :], names)
        developer = _developer(system, conversation, names)
        return f"{self._system(conversation)}{developer}{history.text()}"

    def _system(self, conversation: Conversation) -> str:
        level = LEVELS.get(conversation.think, conversation.think)
        text = (
            f"{IDENTITY}\nKnowledge cutoff: {KNOWLEDGE_CUTOFF}\nCurrent date: {self._today()}\n\n"
            f"Reasoning: {level}\n\n{CHANNELS}"
        )
        return _message("system", f"{text}\n{CALL_CHANNEL}" if conversation.tools else text)


class _HarmonyHistory:
    """The messages after those that instruct the model."""

    def __init__(self, messages: Sequence[Message], names: Mapping[str, str]) -> None:
        self._messages = messages
        self._names = names
        self._prefill = messages[-1] if messages and _is_answer(messages[-1]) else None
        # A thought is dropped once its turn has an answer; an answer to be continued is none yet.
        answers = (n for n, m in enumerate(messages) if _is_answer(m) and m is not self._prefill)
        self._last_answer = max(answers, default=-1)

    def text(self) -> str:
        """The messages, and the header of the one that the model is to write."""
        return "".join(self._parts()) + ("" if self._prefill else HEADER)

    def _parts(self) -> Iterator[str]:
        answered: list[Message] = []  # results that stand with their calls
        for index, message in enumerate(self._messages):
            if message.role == "assistant":
                answered = results_of(self._messages, index)
                yield from self._assistant(index, answered)
            elif message.role in SYSTEM_ROLES:
                yield _message("developer", f"# Instructions\n\n{message.content}")
            elif message.role != "tool":
                yield _message(message.role, message.content)
            elif not any(message is result for result in answered):
                yield self._result(message, UNKNOWN_TOOL)

    def _assistant(self, index: int, results: Sequence[Message]) -> Iterator[str]:
        message = self._messages[index]
        if message.thinking and index > self._last_answer:
            yield _message("assistant<|channel|>analysis", message.thinking)
        if message is self._prefill:
            yield f"{HEADER}<|channel|>final<|message|>{message.content}"
        elif message.content:
            channel = "commentary" if message.tool_calls else "final"
            yield _message(f"assistant<|channel|>{channel}", message.content)
        rest = list(results)
        for call in message.tool_calls:
            yield self._call(call)
            if mine := next((result for result in rest if _answers(result, call)), None):
                rest = [result for result in rest if result is not mine]
                yield self._result(mine, call.name)
        for result in rest:
            yield self._result(result, message.tool_calls[-1].name)

    def _call(self, call: ToolCall) -> str:
        header = f"assistant<|channel|>commentary to=functions.{self._name(call.name)}"
        arguments = json.dumps(call.arguments, ensure_ascii=False, separators=(",", ":"))
        return f"<|start|>{header} <|constrain|>json<|message|>{arguments}<|call|>"

    def _result(self, result: Message, tool: str) -> str:
        name = self._name(result.tool_name or tool)
        return _message(f"functions.{name} to=assistant<|channel|>commentary", result.content)

    def _name(self, tool: str) -> str:
        return self._names.get(tool) or identifier(tool)


def _developer(system: str, conversation: Conversation, names: Mapping[str, str]) -> str:
    parts = [f"# Instructions\n\n{system}"] if system else []
    if conversation.tools:
        parts.append(f"# Tools\n\n{namespace(conversation.tools, names)}")
    return _message("developer", "\n\n".join(parts)) if parts else ""


def _message(header: str, content: str) -> str:
    return f"<|start|>{header}<|message|>{content}<|end|>"


def _is_answer(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls and bool(message.content)


def _answers(result: Message, call: ToolCall) -> bool:
    """Whether the result is that of the call; one that names neither belongs to the first."""
    if result.tool_call_id:
        return result.tool_call_id == call.id
    return result.tool_name in ("", call.name)
