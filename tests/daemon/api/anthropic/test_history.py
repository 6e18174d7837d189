"""Content blocks become messages (CONTRACT 3)."""

from __future__ import annotations

from typing import Any

import pytest
from outrider.daemon.api.anthropic.history import has_images, read_messages
from outrider.daemon.api.anthropic.wire import CountRequest
from outrider.daemon.chat.conversation import Message, ToolCall
from pydantic import ValidationError

pytestmark = pytest.mark.unit

USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


def convert(*messages: object, system: object = None) -> list[Message]:
    body = CountRequest.model_validate({"messages": list(messages), "system": system})
    return list(read_messages(body.system, body.messages))


def user(*blocks: object) -> dict[str, object]:
    return {"role": "user", "content": list(blocks)}


def text(content: str) -> dict[str, object]:
    return {"type": "text", "text": content, "cache_control": {"type": "ephemeral"}}


def test_a_string_is_one_text_block() -> None:
    assert convert({"role": "user", "content": "hi"}) == convert(user(text("hi")))
    assert convert(user(text("a "), text("b"))) == [Message("user", "a b")]


def test_the_system_text_goes_first() -> None:
    expected = [Message("system", "Be kind."), Message("user", "hi")]
    assert convert(user(text("hi")), system="Be kind.") == expected
    assert convert(user(text("hi")), system=[text("Be "), text("kind.")]) == expected
    assert convert(user(text("hi")), system="") == [Message("user", "hi")]


def test_a_hash_that_changes_with_each_request_is_not_in_the_prompt() -> None:
    header = "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch=abc12;"
    blocks = convert(user(text("hi")), system=[text(header), text("Be kind.")])
    line = convert(user(text("hi")), system=f"{header}\nBe kind.")
    assert blocks == line == [Message("system", "Be kind."), Message("user", "hi")]
    assert convert(user(text("hi")), system=[text(header)]) == [Message("user", "hi")]


def test_a_system_message_may_stand_between_others() -> None:
    between = {"role": "system", "content": "Now in German."}
    assert convert(user(text("hi")), between)[1] == Message("system", "Now in German.")


def test_a_turn_of_the_model() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "abc"}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    turn = {"role": "assistant", "content": [thought, hidden, text("Let me look."), USE]}
    call = ToolCall("weather", {"city": "Köln"}, "toolu_1", 0)
    assert convert(turn) == [Message("assistant", "Let me look.", "hm", (call,))]


def test_results_stand_before_the_user_s_own_text() -> None:
    turn = {"role": "assistant", "content": [USE, {**USE, "id": "toolu_2"}]}
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "21 °C"},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": [text("a"), text("b")]},
    ]
    messages = convert(turn, user(text("And?"), *results))
    assert [call.index for call in messages[0].tool_calls] == [0, 1]
    assert messages[1:] == [
        Message("tool", "21 °C", tool_name="weather", tool_call_id="toolu_1"),
        Message("tool", "ab", tool_name="weather", tool_call_id="toolu_2"),
        Message("user", "And?"),
    ]


def test_a_result_alone_brings_no_empty_text() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_9"}
    assert convert(user(result)) == [Message("tool", tool_call_id="toolu_9")]


def test_a_failed_call_is_told_to_the_model() -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": "no city", "is_error": True}
    assert convert(user(result))[0].content == "Error: no city"


def test_unknown_blocks_are_passed_over() -> None:
    search = {"type": "web_search_tool_result", "tool_use_id": "x", "content": {"type": "error"}}
    used = {"type": "server_tool_use", "id": 7}
    assert convert(user(search, used, text("hi"))) == [Message("user", "hi")]


def test_a_document_of_plain_text_is_text() -> None:
    document = {"type": "document", "source": {"type": "text", "data": "Page 1. "}}
    assert convert(user(document, text("Sum up."))) == [Message("user", "Page 1. Sum up.")]


@pytest.mark.parametrize("inside", [False, True])
def test_images_are_found(inside: bool) -> None:
    block: dict[str, Any] = IMAGE
    if inside:
        block = {"type": "tool_result", "tool_use_id": "1", "content": [IMAGE]}
    assert has_images(CountRequest.model_validate({"messages": [user(block)]}).messages)
    assert not has_images(CountRequest.model_validate({"messages": [user(text("hi"))]}).messages)


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ({"type": "image"}, "invalid image source"),
        (
            {"type": "image", "source": {"type": "url", "url": "http://x"}},
            "invalid image source type: url. Only base64 images are supported.",
        ),
        ({"type": "tool_use", "name": "f"}, "tool_use block missing required 'id' field"),
        ({"type": "tool_use", "id": "1"}, "tool_use block missing required 'name' field"),
        ({"type": "tool_result"}, "tool_result block missing required 'tool_use_id' field"),
        ({"type": "document", "source": {"type": "base64"}}, "documents are not supported"),
        ({"type": "text", "text": 1}, "valid string"),
        ("text", "valid dictionary"),
    ],
)
def test_what_is_refused(block: object, error: str) -> None:
    with pytest.raises(ValidationError, match=error):
        convert(user(block))
