"""How does the memory of a long request return to the system?

The allocator of the C library keeps what was freed, in an arena of each thread that has prepared a
request: after some prompts of 4 MB these are hundreds of megabytes.
"""

from __future__ import annotations

import ctypes

LONG_CHARACTERS = 1 << 18  # of a request whose memory is worth a call that takes milliseconds


class MemoryReturn:
    """Gives memory back when nothing is done any more, if a long request came before."""

    def __init__(self) -> None:
        self._is_due = False
        libc = ctypes.CDLL(None)
        self._trim = getattr(libc, "malloc_trim", None)  # glibc's

    def note(self, num_characters: int) -> None:
        """A request with texts of this length is received; callable from any thread."""
        self._is_due = self._is_due or num_characters > LONG_CHARACTERS

    def give_back(self) -> None:
        """What is free; at once if there was no long request."""
        if self._is_due and self._trim:
            self._is_due = False
            self._trim(0)
