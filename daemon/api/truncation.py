"""How do dialects without a field for it tell that old messages did not fit the context?"""

from __future__ import annotations

from contextlib import aclosing

from .completion import Accepted, Events

TRUNCATED = "Outrider-Truncated"  # header: how many messages were dropped; absent if none were


class TruncationNotice:
    """Notes the dropped messages in the events of a request."""

    def __init__(self) -> None:
        self._dropped = 0

    async def watch(self, events: Events) -> Events:
        """The same events."""
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Accepted):
                    self._dropped = max(self._dropped, event.dropped_messages)
                yield event

    def headers(self) -> dict[str, str]:
        """The header of the answer, once the request was accepted."""
        return {TRUNCATED: str(self._dropped)} if self._dropped else {}
