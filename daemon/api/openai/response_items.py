"""How do the items of a request become the messages of a conversation (CONTRACT 2.6)?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...chat.conversation import Message, ToolCall
from ...errors import BadRequest, Unsupported
from .messages import read_arguments
from .response_tools import full_name
from .responses_wire import (
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
    ResponsePart,
    UnknownItem,
)

TEXT_TYPES = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
PART_BREAK = "\n\n"  # between the texts of one item


def read_items(instructions: str, items: Sequence[Item]) -> tuple[Message, ...]:
    """All messages of a request; its instructions are a system message at the front.

    Raises BadRequest and Unsupported; their texts name the place of the item.
    """
    history = _History()
    for i, item in enumerate(items):
        try:
            history.add(item)
        except (BadRequest, Unsupported) as error:
            raise type(error)(f"input[{i}]: {error}") from None
    first = (Message("system", instructions),) if instructions else ()
    return (*first, *history.messages)


class _History:
    """The messages so far, and the thought that belongs to the next turn of the model."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._thinking = ""
        self._names: dict[str, str] = {}  # of tools, by the id of the call

    def add(self, item: Item) -> None:
        match item:
            case MessageItem(role="assistant"):
                self._say(_text(item.content))
            case MessageItem(role=role):
                self.messages.append(Message(role, _text(item.content)))
            case FunctionCallItem():
                self._call(item)
            case FunctionOutputItem(call_id=call_id):
                name = self._names.get(call_id, "")
                text = _text(item.output)
                self.messages.append(Message("tool", text, tool_name=name, tool_call_id=call_id))
            case ReasoningItem():
                self._thinking += item.encrypted_content or _text(item.summary)
            case UnknownItem(type=kind):
                raise BadRequest(f'unknown input item type: "{kind}"')

    def _say(self, text: str) -> None:
        """What is said between a call and its result belongs to the calling message."""
        last = self._turn()
        if last is None or not last.tool_calls:
            last = Message("assistant")
            self.messages.append(last)
        self._update(last, content=PART_BREAK.join(filter(None, (last.content, text))))

    def _call(self, item: FunctionCallItem) -> None:
        """A call joins the message of the model in front of it."""
        name = full_name(item.namespace, item.name)
        self._names[item.call_id] = name
        last = self._turn()
        if last is None:
            last = Message("assistant")
            self.messages.append(last)
        index = len(last.tool_calls)
        call = ToolCall(name, read_arguments(item.arguments), item.call_id, index)
        self._update(last, tool_calls=(*last.tool_calls, call))

    def _turn(self) -> Message | None:
        """The last message, if the model wrote it."""
        last = self.messages[-1] if self.messages else None
        return last if last and last.role == "assistant" else None

    def _update(self, last: Message, **fields: object) -> None:
        fields["thinking"] = last.thinking + self._thinking
        self._thinking = ""
        self.messages[-1] = msgspec.structs.replace(last, **fields)


def _text(parts: Sequence[ResponsePart]) -> str:
    """The text of a content. Raises BadRequest and Unsupported for what is not text."""
    return PART_BREAK.join(filter(None, map(_part_text, parts)))


def _part_text(part: ResponsePart) -> str:
    if part.type in TEXT_TYPES:
        return part.text
    if part.type == "refusal":
        return part.refusal
    if part.type == "input_image":
        raise Unsupported("images are not supported yet; leave them out")
    if part.type == "input_file":
        raise BadRequest("file inputs are not currently supported")
    raise BadRequest(f'unknown content type: "{part.type}"')
