"""What does the service manager hear while the daemon serves: signs of life, and a status line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from .notify import ServiceManager

STATUS_S = 2.0  # between two looks at what has changed
BEATS_PER_PERIOD = 3  # of the watchdog: one late beat does no harm

log = logging.getLogger("outrider")


def describe(where: str, num_models: int, num_running: int) -> str:
    """The status line, such as "serving on 127.0.0.1:11434; 1 model loaded, no request running"."""
    models, running = _count(num_models, "model"), _count(num_running, "request")
    return f"serving on {where}; {models} loaded, {running} running"


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'s' if number > 1 else ''}"


async def beat(
    manager: ServiceManager, status: Callable[[], str], find_stuck: Callable[[], Sequence[str]]
) -> None:
    """Feed the watchdog and renew the status line until this is cancelled.

    That this runs shows that the event loop does. While `find_stuck` names runners, no sign of life
    is sent, so that the service manager restarts the whole service: they should have been ended.
    """
    period_s = min(STATUS_S, (manager.watchdog_s or STATUS_S) / BEATS_PER_PERIOD)
    last, stuck_before = "", False
    while True:
        stuck = find_stuck()
        if stuck and not stuck_before:
            log.error("no sign of progress from %s: the watchdog is not fed", ", ".join(stuck))
        stuck_before = bool(stuck)
        line = f"stuck: {', '.join(stuck)}" if stuck else status()
        changed = (f"STATUS={line}",) if line != last else ()
        alive = ("WATCHDOG=1",) if manager.watchdog_s and not stuck else ()
        if changed or alive:
            manager.say(*changed, *alive)
        last = line
        await asyncio.sleep(period_s)
