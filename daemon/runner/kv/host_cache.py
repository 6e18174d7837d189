"""Which old prefixes lie in host memory, because others needed their cells."""

from __future__ import annotations

from collections.abc import Iterator

from .cached_sequence import HostCachedSequence, begins


class HostCache:
    """Saved prefixes, the longest unused first; together never larger than `size_bytes`."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._items: list[HostCachedSequence] = []

    def __iter__(self) -> Iterator[HostCachedSequence]:
        return iter(self._items)

    def put(self, item: HostCachedSequence) -> None:
        """Keep it, in place of those that it continues; the oldest go if there is no room."""
        self._items = [other for other in self._items if not begins(item.tokens, other.tokens)]
        self._items.append(item)
        while sum(other.size_bytes for other in self._items) > self.size_bytes:
            del self._items[0]

    def take(self, item: HostCachedSequence) -> None:
        self._items.remove(item)
