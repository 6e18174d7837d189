"""Which values are still known? A bounded number; the least recently used one goes first (LRU)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """A cache that any thread may use."""

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value, made if it is not there; two threads may make it at the same time."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._max_items:
                self._values.popitem(last=False)

    def keep(self, is_kept: Callable[[K], bool]) -> None:
        """Forget the others."""
        with self._lock:
            for key in [key for key in self._values if not is_kept(key)]:
                del self._values[key]
