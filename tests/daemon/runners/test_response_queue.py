"""The answers that wait for a client: the runner pauses before they grow without a bound."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import ToolCall
from outrider.daemon.errors import RunnerError
from outrider.daemon.protocol import Delta, Done, Logprob
from outrider.daemon.runners.response_queue import MAX_BYTES, ResponseQueue, size_of

pytestmark = pytest.mark.unit

DELTA = Delta(1, "a" * 1000)


async def test_the_runner_pauses_until_half_of_it_is_taken() -> None:
    held: list[bool] = []
    queue = ResponseQueue(held.append)
    count = 0
    while not held:
        queue.put(DELTA)
        count += 1
    assert MAX_BYTES < count * size_of(DELTA) <= MAX_BYTES + size_of(DELTA)
    queue.put(DELTA)  # what was under way when it was told
    assert (held, queue.is_held) == ([True], True)
    for _ in range(count // 2 - 1):
        await queue.get()
    assert held == [True]
    for _ in range(3):
        await queue.get()
    assert (held, queue.is_held) == ([True, False], False)


@pytest.mark.parametrize(
    "last", [Delta(1, "b" * MAX_BYTES, done=Done("stop")), RunnerError("it died")]
)
async def test_after_the_end_there_is_nothing_to_pause(last: Delta | RunnerError) -> None:
    held: list[bool] = []
    queue = ResponseQueue(held.append)
    queue.put(last)
    assert held == []
    if isinstance(last, RunnerError):
        with pytest.raises(RunnerError, match="it died"):
            await queue.get()
    else:
        assert await queue.get() == last
    assert queue.is_finished


def test_what_an_answer_takes() -> None:
    assert size_of(Delta(1, "ab", "cd")) == size_of(Delta(1)) + 4
    call = ToolCall("f", {"text": "x" * 10_000})
    assert size_of(Delta(1, tool_calls=(call,))) > 10_000
    assert size_of(Delta(1, logprobs=(Logprob(b"a", -1.0),) * 9)) > 9 * 500
