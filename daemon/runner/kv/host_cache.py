"""Which evicted prefixes are kept in host memory?"""

from __future__ import annotations

from collections.abc import Iterator

from .cached_sequence import HostCopy, starts_with


class HostCache:
    """Saved sequences in LRU order, together never larger than `size_bytes`."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._items: list[HostCopy] = []

    def __iter__(self) -> Iterator[HostCopy]:
        return iter(self._items)

    def put(self, item: HostCopy) -> None:
        """Add a sequence in place of those that are prefixes of it; evict the least recently used
        while the cache is too large."""
        self._items = [other for other in self._items if not starts_with(item.tokens, other.tokens)]
        self._items.append(item)
        while sum(other.size_bytes for other in self._items) > self.size_bytes:
            del self._items[0]

    def pop(self, item: HostCopy) -> None:
        self._items.remove(item)
