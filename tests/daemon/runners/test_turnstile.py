"""The turnstile: how many requests a runner gets, in which order, and who gives up."""

from __future__ import annotations

import asyncio
import random

import pytest
from outrider.daemon.errors import Busy
from outrider.daemon.runners.turnstile import Turnstile

pytestmark = pytest.mark.unit


class Visitors:
    """Requests at a turnstile; they stay until they are told to leave."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.turnstile = turnstile
        self.inside: list[int] = []
        self.most = 0
        self._leave: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def _visit(self, number: int) -> None:
        async with self.turnstile.turn():
            self.inside.append(number)
            self.most = max(self.most, len(self.inside))
            try:
                await self._leave[number].wait()
            finally:
                self.inside.remove(number)

    async def come(self, *numbers: int) -> None:
        for number in numbers:
            self._leave[number] = asyncio.Event()
            self.tasks[number] = asyncio.create_task(self._visit(number))
        await settle()

    async def leave(self, *numbers: int) -> None:
        for number in numbers:
            self._leave[number].set()
        await settle()

    async def vanish(self, *numbers: int) -> None:
        for number in numbers:
            self.tasks[number].cancel()
        await settle()


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    visitors = Visitors(Turnstile(2))
    await visitors.come(1, 2, 3, 4, 5)
    assert visitors.inside == [1, 2]
    assert visitors.turnstile.num_waiting == 3
    await visitors.leave(2)
    assert visitors.inside == [1, 3]
    await visitors.vanish(4)
    await visitors.leave(1, 3)
    assert visitors.inside == [5]
    assert visitors.turnstile.num_waiting == 0
    await visitors.leave(5)


async def test_who_leaves_in_the_moment_of_its_turn_gives_it_on() -> None:
    visitors = Visitors(Turnstile(1))
    await visitors.come(1, 2, 3)
    visitors._leave[1].set()
    await asyncio.sleep(0)  # 1 leaves, and it is the turn of 2
    await visitors.vanish(2)
    assert visitors.inside == [3]
    await visitors.leave(3)


async def test_a_turn_that_steps_aside_lets_another_in() -> None:
    turnstile = Turnstile(1)
    visitors = Visitors(turnstile)
    async with turnstile.turn() as turn:
        turn.step_aside()
        turn.step_aside()
        await visitors.come(1, 2)
        assert visitors.inside == [1]
        turn.come_back()  # over the bound, which holds again when someone leaves
        await visitors.leave(1)
        assert visitors.inside == []
    await settle()
    assert visitors.inside == [2]
    await visitors.leave(2)


async def test_a_wait_has_an_end() -> None:
    turnstile = Turnstile(1, limit_s=0.01)
    async with turnstile.turn():
        with pytest.raises(Busy, match=r"^server busy, please try again\.  .* for 0.01 s$"):
            async with turnstile.turn():
                raise AssertionError
        assert turnstile.num_waiting == 0
    async with turnstile.turn():
        pass


async def test_2000_requests_whose_clients_leave_are_gone_at_once() -> None:
    visitors = Visitors(Turnstile(4))
    await visitors.come(*range(2000))
    order = list(range(2000))
    random.Random(1).shuffle(order)
    await visitors.vanish(*order[:1990])
    await settle()
    assert sorted(visitors.inside) == sorted(order[1990:])[: len(visitors.inside)]
    assert len(visitors.inside) == 4
    assert visitors.turnstile.num_waiting == 6
    assert visitors.most == 4
    for _ in range(3):
        await visitors.leave(*visitors.inside)
    assert visitors.inside == []
