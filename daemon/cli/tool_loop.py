"""How does a model use tools: answer, call, result, and again, until it has no further call?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from ..errors import OutriderError
from . import operations
from .answer import AnswerView
from .client import Client, Json
from .session import ChatSession

MAX_ROUNDS = 50  # of calls for one message of the user, as a model may go on without end


class TooManyCalls(OutriderError):
    """A model calls tools again and again."""


class Toolbox(Protocol):
    """Tools that a model may call."""

    @property
    def tools(self) -> Sequence[Json]:
        """Their definitions, as POST /api/chat takes them (CONTRACT 1.9)."""
        ...

    async def call(self, call: Json) -> str:
        """The result of a call, as text for the model."""
        ...

    async def close(self) -> None:
        """Free what the tools need."""
        ...


class NoTools:
    """A Toolbox without tools."""

    tools: Sequence[Json] = ()

    async def call(self, call: Json) -> str:
        """A model may call a tool that nobody has offered."""
        return f"Error: there is no tool {call['function']['name']}."

    async def close(self) -> None:
        """There is nothing to free."""


async def answer_last(
    client: Client,
    session: ChatSession,
    toolbox: Toolbox,
    new_view: Callable[[], AnswerView],
    keep: Callable[[ChatSession], None],
) -> AnswerView:
    """Answer the last message; every call is made, and its result given to the model.

    `keep` gets the session with what was answered so far: after each round, and with the part that
    was received if this is cancelled. A failed answer is dropped.
    """
    session = replace(session, tools=toolbox.tools)
    for _ in range(MAX_ROUNDS):
        answer = new_view()
        try:
            await operations.chat(client, session, answer)
        except asyncio.CancelledError:
            if answer.content:
                keep(session.with_answer(answer.message))
            raise
        session = session.with_answer(answer.message)
        for call in answer.tool_calls:
            session = session.with_result(call, await toolbox.call(call))
        keep(session)
        if not answer.tool_calls:
            return answer
    raise TooManyCalls(f"the model has called tools {MAX_ROUNDS} times in a row; it was stopped")
