"""How do the choices of one request run side by side, and reach the client?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

import msgspec
from aiohttp import web

from ..completion import Answer, Completion, Event, Events, complete, fold
from ..json_response import json_response
from ..state import APP_STATE
from ..streaming import Line, Lines, respond, sse
from ..truncation import TruncationNotice
from ..warning_header import watch
from .errors import ERRORS

MAX_SEED = (1 << 31) - 1  # seeds are 31-bit numbers
EVENTS = sse(sentinel="[DONE]")

Choices = AsyncGenerator[tuple[int, Event], None]
"""Events of several completions as they come, each with the index of its choice."""


class ChoicesWording(Protocol):
    """Words the choices of one request."""

    def whole(self, answers: Sequence[Answer]) -> Line:
        """One object with all choices."""
        ...

    def chunks(self, choices: Choices) -> Lines:
        """The chunks of a stream."""
        ...


def vary(completion: Completion, count: int) -> list[Completion]:
    """One completion for each choice. With a seed, choice i has the seed `seed + i`."""
    options = completion.options
    if options.seed < 0:  # random
        return [completion] * count
    seeds = [(options.seed + i) & MAX_SEED for i in range(count)]
    return [replace(completion, options=msgspec.structs.replace(options, seed=s)) for s in seeds]


async def send(
    request: web.Request,
    completions: Sequence[Completion],
    wording: ChoicesWording,
    *,
    stream: bool,
) -> web.StreamResponse:
    """Run the completions and answer with chunks or one object; render-only ones get an object."""
    notice, state = TruncationNotice(), request.app[APP_STATE]
    choices = merge([notice.watch(watch(request, complete(state, each))) for each in completions])
    if stream and not completions[0].render_only:
        return await respond(request, wording.chunks(choices), EVENTS, ERRORS, notice.headers)
    answers = await collect_choices(choices, len(completions))
    return json_response(wording.whole(answers), notice.headers())


async def collect_choices(choices: Choices, count: int) -> list[Answer]:
    """The whole answer of each choice."""
    taken: list[list[Event]] = [[] for _ in range(count)]
    async with aclosing(choices):
        async for index, event in choices:
            taken[index].append(event)
    return [fold(events) for events in taken]


async def merge(streams: Sequence[Events]) -> Choices:
    """The events of all streams. The first error ends all of them, as does closing."""
    if len(streams) == 1:  # needs no task of its own
        async with aclosing(streams[0]) as events:
            async for event in events:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Event | Exception | None]] = asyncio.Queue(len(streams))
    tasks = [asyncio.create_task(_pump(i, events, queue)) for i, events in enumerate(streams)]
    try:
        running = len(tasks)
        while running:
            index, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(
    index: int, events: Events, queue: asyncio.Queue[tuple[int, Event | Exception | None]]
) -> None:
    """Puts the events, and then the error that ended them, or None."""
    end: Exception | None = None
    try:
        async with aclosing(events):
            async for event in events:
                await queue.put((index, event))
    except Exception as error:
        end = error
    await queue.put((index, end))
