"""Choices that run side by side."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from fake_runner import DONE
from outrider.daemon.api.completion import Completion, Events, Finished, Loaded, Output
from outrider.daemon.api.openai.choices import MAX_SEED, collect_choices, merge, vary
from outrider.daemon.errors import RunnerDied
from outrider.daemon.options import Options
from outrider.daemon.runners.model_info import ModelIndex
from outrider.models.store import Store

pytestmark = pytest.mark.unit

END = Finished(DONE, 1, 2)


class Stream:
    """Events of a completion that a test lets come; it notes when it was closed."""

    def __init__(self, *texts: str, fails: bool = False, hangs: bool = False) -> None:
        self._texts, self._fails, self._hangs = texts, fails, hangs
        self.is_closed = False

    async def events(self) -> Events:
        try:
            yield Loaded(1)
            for text in self._texts:
                await asyncio.sleep(0)
                yield Output(text)
            if self._hangs:
                await asyncio.Event().wait()
            if self._fails:
                raise RunnerDied("gone")
            yield END
        finally:
            self.is_closed = True


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_every_choice_keeps_its_events_in_order(count: int) -> None:
    streams = [Stream(f"a{i}", f"b{i}", f"c{i}") for i in range(count)]
    answers = await collect_choices(merge([s.events() for s in streams]), count)
    assert [answer.output.text for answer in answers] == [f"a{i}b{i}c{i}" for i in range(count)]
    assert [answer.end for answer in answers] == [END] * count


async def test_choices_come_as_they_are_made() -> None:
    streams = [Stream("a", hangs=True), Stream("b", hangs=True)]
    texts: set[tuple[int, str]] = set()
    async with aclosing(merge([s.events() for s in streams])) as choices:
        async for index, event in choices:
            if isinstance(event, Output):
                texts.add((index, event.text))
            if len(texts) == 2:
                break
    assert texts == {(0, "a"), (1, "b")}
    assert all(stream.is_closed for stream in streams)


async def test_an_error_of_one_ends_all() -> None:
    streams = [Stream("a", hangs=True), Stream("b", fails=True), Stream("c", hangs=True)]
    with pytest.raises(RunnerDied, match="gone"):
        await collect_choices(merge([s.events() for s in streams]), 3)
    assert all(stream.is_closed for stream in streams)


async def test_a_cancelled_request_closes_every_choice() -> None:
    streams = [Stream("a", hangs=True), Stream("b", hangs=True)]
    task = asyncio.create_task(collect_choices(merge([s.events() for s in streams]), 2))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(stream.is_closed for stream in streams)


@pytest.mark.parametrize(
    ("seed", "seeds"),
    [(7, [7, 8, 9]), (0, [0, 1, 2]), (-1, [-1, -1, -1]), (MAX_SEED, [MAX_SEED, 0, 1])],
)
async def test_choices_differ_in_their_seeds(
    header_store: Path, seed: int, seeds: list[int]
) -> None:
    info = await ModelIndex(Store(header_store)).find("chat", "not found")
    completion = Completion(info=info, prompt=None, options=Options(seed=seed), start_ns=0)
    assert [varied.options.seed for varied in vary(completion, 3)] == seeds
