"""How do dialects without a field for it tell that old messages did not fit the context?"""

from __future__ import annotations

from contextlib import aclosing

from .completion import Accepted, Events

# Headers; absent if nothing was left out of the prompt.
TRUNCATED = "Outrider-Truncated"  # how many messages were dropped
CUT = "Outrider-Truncated-Tokens"  # how many tokens were cut out of the rest


class TruncationNotice:
    """Notes the dropped messages in the events of a request."""

    def __init__(self) -> None:
        self._dropped = self._cut = 0

    async def watch(self, events: Events) -> Events:
        """The same events."""
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Accepted):
                    self._dropped = max(self._dropped, event.dropped_messages)
                    self._cut = max(self._cut, event.cut_tokens)
                yield event

    def headers(self) -> dict[str, str]:
        """The headers of the answer, once the request was accepted."""
        counts = {TRUNCATED: self._dropped, CUT: self._cut}
        return {name: str(count) for name, count in counts.items() if count}
