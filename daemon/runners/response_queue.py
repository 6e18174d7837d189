"""What has a runner answered that its client has not taken yet? A bounded amount."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ..errors import OutriderError
from ..protocol import Delta, Embedded

MAX_BYTES = 1 << 18  # of answers that wait for a client; some thousand deltas of a plain text
DELTA_BYTES, LOGPROB_BYTES = 256, 512  # what one of them takes beside its text, roughly

Item = Delta | Embedded | OutriderError
Hold = Callable[[bool], None]
"""Called with True when the runner has to pause, and with False when it may go on."""


class ResponseQueue:
    """The messages of the runner about one request."""

    def __init__(self, hold: Hold = lambda _: None) -> None:
        self._hold = hold
        self._items: deque[Item] = deque()
        self._has_items = asyncio.Event()
        self._num_bytes = 0
        self.is_held = False
        """Whether the runner pauses until the client has taken what there is."""
        self.is_finished = False

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._has_items.set()
        self._num_bytes += size_of(item)
        if self._num_bytes > MAX_BYTES and not self.is_held and not _is_last(item):
            self.is_held = True
            self._hold(True)

    async def get(self) -> Delta | Embedded:
        """The next answer. Raises the error that the runner has sent instead."""
        await self._has_items.wait()
        item = self._items.popleft()
        if not self._items:
            self._has_items.clear()
        self._num_bytes -= size_of(item)
        self.is_finished = _is_last(item)
        if self.is_held and self._num_bytes <= MAX_BYTES // 2:
            self.is_held = False
            self._hold(False)
        if isinstance(item, OutriderError):
            raise item
        return item


def size_of(item: Item) -> int:
    """About how many bytes an answer takes while it waits."""
    if not isinstance(item, Delta):
        return DELTA_BYTES
    calls = sum(len(str(call.arguments)) for call in item.tool_calls)
    texts = len(item.text) + len(item.thinking) + calls
    return DELTA_BYTES + texts + LOGPROB_BYTES * len(item.logprobs)


def _is_last(item: Item) -> bool:
    return not isinstance(item, Delta) or item.done is not None
