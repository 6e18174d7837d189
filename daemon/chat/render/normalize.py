"""Which messages does a Jinja template get? Those of the client, changed where it refuses them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ..conversation import Message, ToolCall
from .merging import merge, paragraphs
from .wording import TemplateTraits

Messages = Sequence[Message]
Step = Callable[[Messages, TemplateTraits], Iterator[Message]]
NO_USER = Message("user")  # where a template insists on a user message and the client sent none


def normalize(messages: Messages, traits: TemplateTraits) -> tuple[Message, ...]:
    """The messages that the template takes, in the order of the client's texts.

    Neighbours of one role are always merged (CONTRACT 8.2). All other changes are made only if the
    template needs them.
    """
    for step in STEPS:
        messages = merge(tuple(step(messages, traits)))
    if not traits.several_calls:  # last, as it makes neighbours of one role
        messages = tuple(_split_calls(messages))
    return tuple(messages)


def _name_results(messages: Messages, traits: TemplateTraits) -> Iterator[Message]:
    """Give each result the name of its tool, and if the template needs ids, each call an id."""
    open_calls: list[ToolCall] = []
    for place, message in enumerate(messages):
        if message.tool_calls and traits.needs_ids:
            message = replace(
                message,
                tool_calls=tuple(
                    replace(call, id=call.id or f"call_{place}_{i}")
                    for i, call in enumerate(message.tool_calls)
                ),
            )
        open_calls += message.tool_calls
        if message.role == "tool" and (call := _call_of(message, open_calls)):
            open_calls.remove(call)
            id_ = call.id if traits.needs_ids else ""
            message = replace(
                message,
                tool_name=message.tool_name or call.name,
                tool_call_id=message.tool_call_id or id_,
            )
        yield message


def _call_of(result: Message, calls: Sequence[ToolCall]) -> ToolCall | None:
    """The call that the message answers: by its id, else by its name, else the first open one."""
    if result.tool_call_id:
        return next((call for call in calls if call.id == result.tool_call_id), None)
    named = (call for call in calls if result.tool_name in ("", call.name))
    return next(named, None)


def _word_calls(messages: Messages, traits: TemplateTraits) -> Iterator[Message]:
    """Calls become JSON in the content, and results user messages, if the template has neither."""
    for message in messages:
        if message.tool_calls and not traits.calls:
            lines = (
                json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
                for call in message.tool_calls
            )
            content = paragraphs(message.content, "\n".join(lines))
            message = replace(message, content=content, tool_calls=())
        if message.role == "tool" and not traits.results:
            message = Message("user", message.content)
        yield message


def _place_systems(messages: Messages, traits: TemplateTraits) -> Iterator[Message]:
    """A system message becomes a user message where the template refuses it.

    It keeps its place: the merging puts it in front of the user message that follows.
    """
    for place, message in enumerate(messages):
        refused = not (traits.later_system if place else traits.system)
        yield replace(message, role="user") if message.role == "system" and refused else message


def _rename_developers(messages: Messages, traits: TemplateTraits) -> Iterator[Message]:
    """The developer is the system; a template that tells them apart does so in front only."""
    kept = "developer" if traits.developer else "system"
    in_front = kept if messages and messages[0].role == "developer" else "system"
    for message in messages:
        if message.role not in ("system", "developer"):
            in_front = "system"
            yield message
        else:
            yield replace(message, role=in_front)


def _add_user(messages: Messages, traits: TemplateTraits) -> Iterator[Message]:
    """A conversation without a user message gets one: its system message, else an empty one."""
    if not traits.needs_user or any(message.role == "user" for message in messages):
        return iter(messages)
    if messages and messages[0].role == "system":
        return iter((replace(messages[0], role="user"), *messages[1:]))
    return iter((NO_USER, *messages))


def _begin_with_user(messages: Messages, traits: TemplateTraits) -> Iterator[Message]:
    first = next((i for i, message in enumerate(messages) if message.role != "system"), 0)
    if traits.user_first and messages and messages[first].role == "assistant":
        return iter((*messages[:first], NO_USER, *messages[first:]))
    return iter(messages)


def _answer_results(messages: Messages, traits: TemplateTraits) -> Iterator[Message]:
    """Between a call or its result and a user message stands an answer, if it must."""
    after_call = False
    for message in messages:
        if after_call and message.role == "user" and traits.filler is not None:
            yield Message("assistant", traits.filler)
        yield message
        after_call = bool(message.tool_calls) or message.role == "tool"


@dataclass(frozen=True, slots=True)
class _Round:
    """A turn with several calls, and the results that follow it."""

    turn: Message
    results: list[Message]

    def split(self) -> Iterator[Message]:
        """One turn for each call, each followed by its own result."""
        results, rest = list(self.results), replace(self.turn, tool_calls=())
        for call in self.turn.tool_calls:
            yield replace(rest, tool_calls=(call,))
            rest = Message(self.turn.role)
            result = next((r for r in results if _call_of(r, [call])), None)
            if result:
                results.remove(result)
                yield result
        yield from results


def _split_calls(messages: Messages) -> Iterator[Message]:
    """Give each call a turn of its own."""
    rest = list(messages)
    while rest:
        turn = rest.pop(0)
        if len(turn.tool_calls) < 2:
            yield turn
            continue
        results: list[Message] = []
        while rest and rest[0].role == "tool":
            results.append(rest.pop(0))
        yield from _Round(turn, results).split()


STEPS: tuple[Step, ...] = (
    _rename_developers,
    _name_results,
    _word_calls,
    _place_systems,
    _add_user,
    _begin_with_user,
    _answer_results,
)
