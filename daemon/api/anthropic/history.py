"""How do the content blocks of a request become the messages of a conversation (CONTRACT 3)?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...chat.conversation import Message, ToolCall
from .attribution import strip_attribution
from .wire import (
    Block,
    DocumentBlock,
    ImageBlock,
    InputMessage,
    ResultBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)

ERROR = "Error: "  # before the result of a call that failed, since messages have no field for it


def read_messages(
    system: Sequence[TextBlock], messages: Sequence[InputMessage]
) -> tuple[Message, ...]:
    """All messages of a request; its system text is the first one unless it is empty."""
    text = "".join(strip_attribution(block.text) for block in system)
    first = (Message("system", text),) if text else ()
    blocks = (block for message in messages for block in message.content)
    names = {block.id: block.name for block in blocks if isinstance(block, ToolUseBlock)}
    rest = (turn for message in messages for turn in _turns(message, names))
    return (*first, *rest)


def has_images(messages: Sequence[InputMessage]) -> bool:
    """Whether there is an image in a message or in the result of a tool."""
    blocks = [block for message in messages for block in message.content]
    results = [block for block in blocks if isinstance(block, ToolResultBlock)]
    inside = [block for result in results for block in result.content]
    return any(isinstance(block, ImageBlock) for block in (*blocks, *inside))


def _turns(message: InputMessage, names: Mapping[str, str]) -> Iterator[Message]:
    """The results of tools, and behind them what the message says itself.

    `names` has the tool of each call, by the id of the call.
    """
    blocks = message.content
    results = [block for block in blocks if isinstance(block, ToolResultBlock)]
    for result in results:
        yield Message(
            role="tool",
            content=_result_text(result),
            tool_name=names.get(result.tool_use_id, ""),
            tool_call_id=result.tool_use_id,
        )
    turn = Message(
        role=message.role,
        content=_text(blocks),
        thinking="".join(b.thinking for b in blocks if isinstance(b, ThinkingBlock)),
        tool_calls=_calls(blocks),
    )
    if turn != Message(message.role) or not results:
        yield turn


def _calls(blocks: Sequence[Block]) -> tuple[ToolCall, ...]:
    uses = [block for block in blocks if isinstance(block, ToolUseBlock)]
    return tuple(ToolCall(use.name, use.input, use.id, i) for i, use in enumerate(uses))


def _text(blocks: Sequence[Block] | Sequence[ResultBlock]) -> str:
    return "".join(
        block.text if isinstance(block, TextBlock) else block.source.data
        for block in blocks
        if isinstance(block, TextBlock | DocumentBlock)
    )


def _result_text(result: ToolResultBlock) -> str:
    text = _text(result.content)
    return ERROR + text if result.is_error else text
