"""How do the bytes of tokens become text: whole characters, and no stop string?"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from ...chat.parse.markers import overlap


class Detokenizer:
    """Decodes token bytes to text; keeps back a suffix that may be the start of a stop string.

    After a stop string was found, it is in `stop` and no more text is returned; the stop string and
    everything after it are dropped (CONTRACT 1.4). Of several stop strings the one that is
    complete first counts, so the text does not depend on the pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._kept = ""
        self.stop = ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return bool(self.stop)

    def push(self, piece: bytes) -> str:
        """Add the bytes of tokens; returns the text that is certain now."""
        return self._emit(self._decoder.decode(piece))

    def finish(self) -> str:
        """The rest of the text, after the last token."""
        text = self._emit(self._decoder.decode(b"", final=True))
        kept, self._kept = self._kept, ""
        return text if self.stopped else text + kept

    def _emit(self, new: str) -> str:
        if self.stopped:
            return ""
        if not self._stops:
            return new
        text = self._kept + new
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, at, self.stop = min(found)
            self._kept = ""
            return text[:at]
        keep = max((overlap(text, stop) for stop in self._stops), default=0)
        self._kept = text[len(text) - keep :]
        return text[: len(text) - keep]
