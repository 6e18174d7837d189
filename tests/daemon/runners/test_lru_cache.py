"""The LRU cache: it is bounded, and the least recently used goes first."""

from __future__ import annotations

import threading

import pytest
from outrider.daemon.runners.lru_cache import LruCache

pytestmark = pytest.mark.unit


def test_the_least_recently_used_goes_first() -> None:
    made: list[str] = []
    cache: LruCache[str, str] = LruCache(3)

    def get(key: str) -> str:
        return cache.get(key, lambda: made.append(key) or key.upper())  # type: ignore[func-returns-value]

    assert [get(key) for key in "abcadae"] == list("ABCADAE")
    assert made == ["a", "b", "c", "d", "e"]
    assert len(cache) == 3
    assert ("a" in cache, "b" in cache) == (True, False)
    cache.keep(lambda key: key == "e")
    assert (len(cache), "e" in cache) == (1, True)


def test_what_cannot_be_made_is_not_remembered() -> None:
    cache: LruCache[str, int] = LruCache(3)
    with pytest.raises(ValueError, match="invalid literal"):
        cache.get("a", lambda: int("a"))
    assert len(cache) == 0


def test_many_threads_keep_the_bound() -> None:
    cache: LruCache[int, int] = LruCache(10)

    def work(start: int) -> None:
        for number in range(start, start + 2000):
            assert cache.get(number % 50, lambda key=number % 50: key) == number % 50

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 10
