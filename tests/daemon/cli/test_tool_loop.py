"""Answers of a model that calls tools, against a scripted daemon."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field

import pytest
from outrider.daemon.cli.answer import AnswerView, ViewOptions
from outrider.daemon.cli.client import Client, Json
from outrider.daemon.cli.session import ChatSession
from outrider.daemon.cli.tool_loop import MAX_ROUNDS, NoTools, Toolbox, TooManyCalls, answer_last
from scripted import Lines, Scripted

pytestmark = pytest.mark.unit

CHAT = "POST /api/chat"
CALL = {"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": 1, "b": 2}}}
CALLS = Lines(
    [
        {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
        {"message": {"role": "assistant", "content": "", "tool_calls": [CALL]}, "done": False},
        {"message": {"role": "assistant", "content": ""}, "done": True},
    ]
)
ANSWER = Lines([{"message": {"role": "assistant", "content": "It is 3."}, "done": True}])


@dataclass
class Calculator:
    """A toolbox with one tool."""

    tools: tuple[Json, ...] = ({"type": "function", "function": {"name": "add"}},)
    calls: list[Json] = field(default_factory=list)

    async def call(self, call: Json) -> str:
        self.calls.append(call)
        return str(sum(call["function"]["arguments"].values()))

    async def close(self) -> None:
        """Nothing was opened."""


async def ask(daemon: Scripted, toolbox: Toolbox) -> tuple[str, list[ChatSession]]:
    out, kept = io.StringIO(), list[ChatSession]()
    session = ChatSession("m").with_message("user", "1 + 2?")
    async with Client(daemon.url) as client:
        await answer_last(
            client, session, toolbox, lambda: AnswerView(out, ViewOptions()), kept.append
        )
    return out.getvalue(), kept


async def test_the_result_of_a_call_goes_back_to_the_model() -> None:
    toolbox = Calculator()
    async with Scripted({CHAT: [CALLS, ANSWER]}) as daemon:
        text, kept = await ask(daemon, toolbox)
    first, second = daemon.bodies(CHAT)
    assert toolbox.calls == [CALL]
    assert first["tools"] == second["tools"] == list(toolbox.tools)
    assert second["messages"] == [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [CALL]},
        {"role": "tool", "content": "3", "tool_name": "add", "tool_call_id": "call_1"},
    ]
    assert "It is 3." in text
    assert [len(session.messages) for session in kept] == [3, 4]


async def test_a_model_that_calls_without_end_is_stopped() -> None:
    async with Scripted({CHAT: [CALLS]}) as daemon:
        with pytest.raises(TooManyCalls, match=str(MAX_ROUNDS)):
            await ask(daemon, NoTools())
    assert "there is no tool add" in daemon.bodies(CHAT)[-1]["messages"][-1]["content"]


async def test_without_tools_none_are_offered() -> None:
    async with Scripted({CHAT: [ANSWER]}) as daemon:
        await ask(daemon, NoTools())
    assert "tools" not in daemon.bodies(CHAT)[0]


async def test_a_cancelled_answer_keeps_what_was_received() -> None:
    partial = Lines([{"message": {"content": "It is"}, "done": False}], ending="hang")
    kept: list[ChatSession] = []
    async with Scripted({CHAT: [partial]}) as daemon, Client(daemon.url) as client:
        view = AnswerView(io.StringIO(), ViewOptions())
        session = ChatSession("m").with_message("user", "?")
        answering = answer_last(client, session, NoTools(), lambda: view, kept.append)
        task = asyncio.create_task(answering)
        async with asyncio.timeout(10):
            while not view.content:  # noqa: ASYNC110  (the view has no event)
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert kept[0].messages[-1] == {"role": "assistant", "content": "It is"}
