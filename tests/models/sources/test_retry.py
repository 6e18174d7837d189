"""When is a failed request repeated, and after how long?"""

from __future__ import annotations

import pytest
from outrider.models.sources.failures import HttpRefused, Unreachable
from outrider.models.sources.retry import RetryPolicy, parse_retry_after

pytestmark = pytest.mark.unit

LATEST = RetryPolicy(jitter=lambda: 1.0)
EARLIEST = RetryPolicy(jitter=lambda: 0.0)


def test_pauses_grow_up_to_the_cap_and_end() -> None:
    lost = Unreachable("h", "cut")
    assert [LATEST.delay_s(n, lost) for n in range(1, 7)] == [1.0, 2.0, 4.0, 8.0, 16.0, None]
    assert [EARLIEST.delay_s(n, lost) for n in range(1, 6)] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert RetryPolicy(tries=9, jitter=lambda: 1.0).delay_s(8, lost) == 30.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 416, 501])
def test_what_will_not_change_is_not_repeated(status: int) -> None:
    assert LATEST.delay_s(1, HttpRefused(status, "h")) is None
    assert LATEST.delay_s(1, Unreachable("h", "no such host", is_final=True)) is None


def test_the_host_says_how_long_to_wait() -> None:
    assert LATEST.delay_s(1, HttpRefused(429, "h", retry_after_s=20.0)) == 20.0
    assert LATEST.delay_s(1, HttpRefused(503, "h", retry_after_s=0.0)) == 1.0
    assert LATEST.delay_s(1, HttpRefused(429, "h", retry_after_s=3600.0)) is None


def test_a_retry_after_header() -> None:
    assert parse_retry_after("120", 0.0) == 120.0
    assert parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 45.0) == 15.0
    assert parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 90.0) == 0.0
    assert parse_retry_after("soon", 0.0) is None
    assert parse_retry_after(None, 0.0) is None


async def test_an_action_is_repeated_until_it_succeeds() -> None:
    outcomes: list[Exception | str] = [Unreachable("h", "cut"), HttpRefused(500, "h"), "done"]

    async def act() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    policy = RetryPolicy(first_s=0.0)
    assert await policy.run(act) == "done"
    outcomes[:] = [HttpRefused(404, "h"), "never"]
    with pytest.raises(HttpRefused):
        await policy.run(act)
    assert outcomes == ["never"]
