"""A runner that is killed, stopped, or out of memory under eight streams: every stream hears of it,
and the next request is served."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import aiohttp
import psutil
import pytest
from daemons import Daemon, start_daemon
from long.dialects import CUT, DIALECTS, DONE, FAILED, Outcome, follow
from long.log_faults import find_faults
from long.sizes import SIZES
from tiny import write_llama
from weights import import_gguf

pytestmark = pytest.mark.long

STREAMS = 8
HEARD_S = 2.0  # within which the streams of a dead runner end; it takes 0.1 s on an idle machine
# A stopped runner is told from a slow one by its silence: 30 s (daemon/README.md), and two looks.
STOPPED_S = 45.0
AGAIN_S = 30.0  # for the next request, which loads the model again
ENDLESS = 100_000  # tokens, more than a stream gets before its runner ends


def send(number: int) -> Callable[[psutil.Process], None]:
    return lambda runner: runner.send_signal(number)


def limit_memory(runner: psutil.Process) -> None:
    """No allocation succeeds from now on, but what the process has."""
    size = runner.memory_info().vms
    _, hard = resource.prlimit(runner.pid, resource.RLIMIT_AS)
    resource.prlimit(runner.pid, resource.RLIMIT_AS, (size, hard))


ENDS: Mapping[str, Callable[[psutil.Process], None]] = {
    "KILL": send(signal.SIGKILL),
    "SEGV": send(signal.SIGSEGV),
    "ABRT": send(signal.SIGABRT),
    "memory": limit_memory,
    "STOP": send(signal.SIGSTOP),
}
BOUNDS_S = {name: STOPPED_S if name == "STOP" else HEARD_S for name in ENDS}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    root = tmp_path / "models"
    import_gguf(root, "tiny", write_llama(tmp_path / "tiny.gguf", seed=1))
    env = {"OUTRIDER_NUM_PARALLEL": str(STREAMS), "OUTRIDER_CONTEXT_LENGTH": "512"}
    with start_daemon(root, tmp_path, env=env) as running:
        yield running
        assert not find_faults(running.log), "\n\n".join(find_faults(running.log))


async def serves_again(session: aiohttp.ClientSession, dialect_number: int) -> float:
    """Seconds until a request is answered; some that meet the end of the runner may fail."""
    start_s = time.monotonic()
    dialect = DIALECTS[dialect_number % len(DIALECTS)]
    while True:
        outcome = await follow(session, dialect, dialect.body("tiny", "and again", 4))
        took_s = time.monotonic() - start_s
        if outcome.end.kind == DONE:
            return took_s
        assert took_s < AGAIN_S, outcome
        await asyncio.sleep(0.05)


async def ask_for_memory(session: aiohttp.ClientSession) -> None:
    """A request that cannot be served in what the process has: it fails, or ends the runner."""
    dialect = DIALECTS[0]
    outcome = await asyncio.wait_for(
        follow(session, dialect, dialect.body("tiny", "ab " * 300_000, 4)), AGAIN_S
    )
    assert outcome.end.kind != CUT, outcome


async def end_under_streams(daemon: Daemon, how: str, draw: random.Random) -> list[Outcome]:
    """The outcomes of eight streams whose runner ends while they are read."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=BOUNDS_S[how] + AGAIN_S)
    async with aiohttp.ClientSession(daemon.url, timeout=timeout) as session:
        tasks, begun = [], [asyncio.Event() for _ in range(STREAMS)]
        for number, event in enumerate(begun):
            dialect = DIALECTS[number % len(DIALECTS)]
            body = dialect.body("tiny", f"tell me of {draw.random()}", ENDLESS)
            tasks.append(asyncio.create_task(follow(session, dialect, body, event)))
        await asyncio.gather(*(asyncio.wait_for(event.wait(), AGAIN_S) for event in begun))
        await asyncio.sleep(draw.uniform(0, 0.1))
        (runner,) = daemon.runners()
        ENDS[how](runner)
        start_s = time.monotonic()
        if how == "memory":
            await ask_for_memory(session)
            if runner.is_running():  # that request failed alone
                runner.kill()
            start_s = time.monotonic()
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks), BOUNDS_S[how] + AGAIN_S)
        late_s = max(outcome.ended_s for outcome in outcomes) - start_s
        assert late_s < BOUNDS_S[how], f"{how}: the last stream ended after {late_s:.1f} s"
        LATE_S.setdefault(how, []).append(late_s)
        AGAIN.setdefault(how, []).append(await serves_again(session, draw.randrange(99)))
    return outcomes


LATE_S: dict[str, list[float]] = {}
AGAIN: dict[str, list[float]] = {}


@pytest.mark.timeout(120 + 20 * SIZES.runner_kills)
def test_every_stream_of_a_runner_that_ends_gets_its_error(
    daemon: Daemon, measurements: list[str]
) -> None:
    draw, kinds, wrong = random.Random(SIZES.seed), Counter[str](), []
    for number in range(SIZES.runner_kills):
        how = list(ENDS)[number % len(ENDS)]
        try:
            outcomes = asyncio.run(end_under_streams(daemon, how, draw))
        except (AssertionError, TimeoutError) as error:
            wrong.append(f"{how}: {error!r}")
            for runner in daemon.runners():
                runner.kill()
            continue
        kinds.update(outcome.end.kind for outcome in outcomes)
        wrong += [f"{how}: {o}" for o in outcomes if o.end.kind == CUT]
    for how, late_s in LATE_S.items():
        measurements.append(
            f"runner ended by {how} {len(late_s)} times under {STREAMS} streams: all ended within "
            f"{max(late_s):.2f} s, the next answer came within {max(AGAIN[how]):.2f} s"
        )
    measurements.append(f"streams of ended runners: {dict(kinds)}, wrong: {len(wrong)}")
    assert not wrong, "\n".join(wrong[:10])
    assert kinds[FAILED] > kinds[DONE]
    assert daemon.process.poll() is None
