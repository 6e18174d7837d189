"""When is a failed request tried again, and after how long?"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

from .failures import HttpRefused, Unreachable

T = TypeVar("T")

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses (RFC 9110 and 6585)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter; times are in seconds (CONTRACT 6.4)."""

    tries: int = 6  # requests without any progress between them
    first_s: float = 1.0
    cap_s: float = 30.0
    patience_s: float = 60.0  # the longest Retry-After that is waited for
    jitter: Callable[[], float] = random.random  # in [0, 1)

    def delay_s(self, failures: int, error: HttpRefused | Unreachable) -> float | None:
        """The pause after that many failures in a row; None if `error` is final."""
        if failures >= self.tries or not is_transient(error):
            return None
        pause_s = min(self.cap_s, self.first_s * 2.0 ** (failures - 1))
        pause_s *= 0.5 + 0.5 * self.jitter()
        asked_s = error.retry_after_s if isinstance(error, HttpRefused) else None
        if asked_s is None:
            return pause_s
        return None if asked_s > self.patience_s else max(asked_s, pause_s)

    async def run(self, action: Callable[[], Awaitable[T]]) -> T:
        """The result of `action`, which is repeated while its failures are transient."""
        failures = 0
        while True:
            try:
                return await action()
            except (HttpRefused, Unreachable) as error:
                failures += 1
                delay_s = self.delay_s(failures, error)
                if delay_s is None:
                    raise
            await asyncio.sleep(delay_s)


def is_transient(error: HttpRefused | Unreachable) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, Unreachable):
        return not error.is_final
    return error.status in TRANSIENT


def parse_retry_after(text: str | None, now_s: float) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110 10.2.3); None if there is none.

    `now_s` is the time in seconds since the epoch, for headers that state a date.
    """
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except ValueError:
        return None
