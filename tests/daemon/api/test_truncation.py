"""The header that tells how many messages were dropped."""

from __future__ import annotations

import pytest
from fake_runner import DONE
from outrider.daemon.api.completion import Accepted, Event, Events, Finished, Loaded, Output
from outrider.daemon.api.truncation import CUT, TRUNCATED, TruncationNotice

pytestmark = pytest.mark.unit


async def events_of(dropped: int) -> Events:
    for event in (Loaded(1), Accepted(7, dropped), Output("Hi"), Finished(DONE, 1, 2)):
        yield event


@pytest.mark.parametrize(("dropped", "headers"), [(0, {}), (3, {TRUNCATED: "3"})])
async def test_the_header_is_known_before_the_first_output(
    dropped: int, headers: dict[str, str]
) -> None:
    notice, seen = TruncationNotice(), list[Event]()
    async for event in notice.watch(events_of(dropped)):
        seen.append(event)
        if isinstance(event, Output):
            assert notice.headers() == headers
    assert seen == [event async for event in events_of(dropped)]


async def test_of_several_choices_the_most_counts() -> None:
    notice = TruncationNotice()
    for dropped in (1, 2, 0):
        async for _ in notice.watch(events_of(dropped)):
            pass
    assert notice.headers() == {"Outrider-Truncated": "2"}


async def test_cut_tokens_have_a_header_of_their_own() -> None:
    async def events() -> Events:
        yield Accepted(7, 0, cut_tokens=90)

    notice = TruncationNotice()
    async for _ in notice.watch(events()):
        pass
    assert notice.headers() == {CUT: "90"}
