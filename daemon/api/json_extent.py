"""How much does a JSON text hold? Counted without parsing it, and without the interpreter's lock.

A parser in C holds the lock until it is done, and nobody else is served meanwhile. numpy lets go of
it, so that a thread can find out whether a text is fit to be parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 18  # looked at a time
QUOTE = ord('"')
OPENING, CLOSING = b"{[", b"}]"
COMMA, COLON = ord(","), ord(":")


@dataclass(frozen=True, slots=True)
class JsonExtent:
    """What a text holds; of one that is no JSON the numbers mean nothing."""

    num_values: int = 0  # at most, with the keys of objects
    num_containers: int = 0  # objects and arrays
    num_keys: int = 0  # of objects
    num_escapes: int = 0  # within strings
    depth: int = 0  # of the deepest container


def _steps() -> NDArray[np.int8]:
    """What each byte outside of strings adds to the depth."""
    steps = np.zeros(256, np.int8)
    steps[list(OPENING)], steps[list(CLOSING)] = 1, -1
    return steps


def measure_json(text: bytes) -> JsonExtent:
    """The extent of a JSON text in UTF-8."""
    counts, steps = np.zeros(256, np.int64), _steps()
    num_escapes, is_inside, depth, deepest = 0, False, 0, 0
    for chunk in _chunks(text):
        plain = chunk
        if b"\\" in chunk:
            plain = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
            num_escapes += (len(chunk) - len(plain)) // 2 + plain.count(b"\\")
        codes = np.frombuffer(plain, np.uint8)
        inside = (np.cumsum(codes == QUOTE, dtype=np.uint8) + is_inside) & 1
        outside = codes[inside == 0]
        is_inside = bool(inside[-1]) if len(inside) else is_inside
        counts += np.bincount(outside, minlength=256)
        depths = depth + np.cumsum(steps[outside], dtype=np.int64)
        if len(depths):
            depth, deepest = int(depths[-1]), max(deepest, int(depths.max()))
    num_containers = int(counts[list(OPENING)].sum())
    num_keys = int(counts[COLON])
    num_values = 1 + num_containers + num_keys + int(counts[COMMA])
    return JsonExtent(num_values, num_containers, num_keys, num_escapes, deepest)


def _chunks(text: bytes) -> Iterator[bytes]:
    """The text in pieces; none ends between a backslash and what it escapes."""
    start = 0
    while start < len(text):
        chunk = text[start : start + CHUNK_BYTES]
        if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
            chunk = text[start : start + CHUNK_BYTES + 1]
        start += len(chunk)
        yield chunk
