"""How bytes of tokens become text that may be shown: whole characters, and no stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Detokenizer:
    """Turns token bytes into text; holds back what may be the start of a stop string.

    After a stop string was found, `stopped` is True and nothing more comes out; the stop string
    itself and all after it are dropped (CONTRACT 1.4). The stop string that is complete
    first counts, so the text does not depend on how it is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def push(self, piece: bytes) -> str:
        """The text that is certain now."""
        return self._release(self._decoder.decode(piece))

    def finish(self) -> str:
        """The rest, when no more tokens come."""
        text = self._release(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _release(self, new: str) -> str:
        if self.stopped:
            return ""
        if not self._stops:
            return new
        text = self._held + new
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)[1]]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text could begin the stop string."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
