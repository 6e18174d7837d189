"""What does a Jinja chat template take? Found by rendering small conversations (GUIDE 8.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import msgspec

from ..conversation import Message, ToolCall
from .wording import TemplateTraits, word

# Renders messages as the template sees them, with the header of an answer; None if it refuses.
Attempt = Callable[[Sequence[dict[str, object]]], str | None]

THINKING_KEYS = {  # of a message, and how a template's source names it
    "reasoning_content": re.compile(r"\breasoning_content\b"),
    "thinking": re.compile(r"\.thinking\b|['\"]thinking['\"]"),
}
FILLERS = ("", "OK.")  # contents of an answer that stands between two turns, the first that works
ARGUMENTS: dict[str, object] = {"needle_key": "needle value"}
LONG_IDS = ("call_n33dl3aa", "call_n33dl3bb")
USER, AGAIN = Message("user", "needle user"), Message("user", "needle again")
SYSTEM, LATER = Message("system", "needle system"), Message("system", "needle later")
ANSWER = Message("assistant", "needle answer")


def probe(attempt: Attempt, source: str) -> TemplateTraits:
    """The traits of the template with this source."""
    prober = _TemplateProber(attempt, TemplateTraits())
    prober.find(source)
    return prober.traits


@dataclass(slots=True)
class _TemplateProber:
    """Words each probe by what is known of the template so far."""

    attempt: Attempt
    traits: TemplateTraits

    def find(self, source: str) -> None:
        keys = [key for key, pattern in THINKING_KEYS.items() if pattern.search(source)]
        self._set(thinking_keys=tuple(keys))
        if not self._types(USER, USER):
            return  # it refuses everything, or shows nothing: no probe would tell anything
        self._find_systems(source)
        self._find_turns()
        self._find_calls()

    def _set(self, **found: object) -> None:
        self.traits = replace(self.traits, **found)  # type: ignore[arg-type]

    def _shows(self, *messages: Message, traits: TemplateTraits | None = None) -> bool:
        """Whether all contents are in the prompt of these messages."""
        text = self._text(messages, traits or self.traits)
        return text is not None and all(message.content in text for message in messages)

    def _text(self, messages: Sequence[Message], traits: TemplateTraits) -> str | None:
        return self.attempt([part for message in messages for part in word(message, traits)])

    def _types(self, message: Message, *messages: Message) -> bool:
        """Whether the message is shown; notes whether its role wants typed content."""
        if self._shows(*messages):
            return True
        typed = replace(self.traits, typed_roles=self.traits.typed_roles | {message.role})
        if not self._shows(*messages, traits=typed):
            return False
        self.traits = typed
        return True

    def _find_systems(self, source: str) -> None:
        system = self._types(SYSTEM, SYSTEM, USER)
        developer = Message("developer", "needle developer")
        self._set(
            system=system,
            developer="developer" in source and self._types(developer, developer, USER),
        )
        self._types(ANSWER, USER, ANSWER, AGAIN)
        self._set(
            later_system=system
            and self._shows(SYSTEM, USER, ANSWER, LATER, AGAIN)
            and self._shows(SYSTEM, USER, LATER, AGAIN)
        )

    def _find_turns(self) -> None:
        self._set(
            needs_user=self.traits.system and not self._shows(SYSTEM),
            user_first=not self._shows(ANSWER, USER),
        )

    def _find_calls(self) -> None:
        """How calls are worded, by the first way that shows their name and arguments."""
        call, result = _turn(1)
        ways = product((False, True), (False, True), (False, True), (result, AGAIN))
        for null_content, short_ids, string_arguments, after in ways:
            traits = replace(
                self.traits,
                null_content=null_content,
                short_ids=short_ids,
                string_arguments=string_arguments,
            )
            if self._shows_call(traits, call, after):
                with_content = msgspec.structs.replace(call, content="needle content")
                self.traits = replace(
                    traits, content_apart=not self._shows_call(traits, with_content, after)
                )
                break
        else:
            self._set(calls=False)
        self._set(results=self._types(result, USER, call, result))
        if self.traits.calls and self.traits.results:
            self._find_rounds()

    def _shows_call(self, traits: TemplateTraits, call: Message, after: Message) -> bool:
        text = self._text([USER, call, after], traits)
        if text is None or "needle_tool_0" not in text or "needle value" not in text:
            return False
        wrong = [str(ARGUMENTS), json.dumps(json.dumps(ARGUMENTS))]
        return not any(arguments in text for arguments in wrong)

    def _find_rounds(self) -> None:
        """What may follow a call: several results, another user message."""
        call, result = _turn(1)
        calls, second = _turn(2)
        text = self._text([USER, calls, result, second], self.traits)
        shown = (*(c.name for c in calls.tool_calls), result.content, second.content)
        self._set(
            several_calls=text is not None and all(part in text for part in shown),
            needs_ids=self._text([USER, _without_ids(call), _without_ids(result)], self.traits)
            is None,
        )
        if self._shows(USER, call, result, AGAIN):
            return
        for filler in FILLERS:
            if self._shows(USER, call, result, Message("assistant", filler), AGAIN):
                self._set(filler=filler)
                return


def _turn(count: int) -> tuple[Message, Message]:
    """A turn with so many calls, and the result of the last one."""
    calls = tuple(
        ToolCall(f"needle_tool_{i}", ARGUMENTS, LONG_IDS[i], index=i) for i in range(count)
    )
    result = Message(
        "tool",
        f"needle result {count}",
        tool_name=calls[-1].name,
        tool_call_id=calls[-1].id,
    )
    return Message("assistant", tool_calls=calls), result


def _without_ids(message: Message) -> Message:
    calls = tuple(ToolCall(call.name, call.arguments) for call in message.tool_calls)
    return Message(message.role, message.content, "", calls, message.tool_name)
