"""What did a real model answer, and what would its drafter have drafted? Recorded texts.

`make record` writes them anew, with the pair of `make bench`; tests of decisions about drafting use
them without weights and on a machine under load.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from lab import WRONG, Text
from outrider.daemon.runner.speculation.drafters.drafter import Draft

FILE = Path(__file__).with_name("spoken.jsonl")


class Spoken(msgspec.Struct, frozen=True):
    """One answer. Confidences are in percent."""

    kind: str  # of the prompt
    temperature: float
    number: int  # of the text among those of its kind, from 1 on
    prompt: tuple[int, ...]
    truth: tuple[int, ...]  # the tokens of the answer
    target_confidence: tuple[int, ...]  # the target's confidence in each of them
    num_accepted: tuple[int, ...]  # draft tokens that are right after each of them
    confidences: tuple[tuple[int, ...], ...]  # the drafter's, of its tokens after each of them


class SpokenText(Text):
    """The first tokens of a recorded answer, as a stream."""

    def __init__(self, id_: int, spoken: Spoken, tokens: int) -> None:
        super().__init__(id_, spoken.prompt, spoken.truth[:tokens])
        self._spoken = spoken

    def draft_token(self, place: int, before: Sequence[Draft] = ()) -> Draft:
        depth, percents = len(before), self._spoken.confidences[place - 1]
        is_right = depth < self._spoken.num_accepted[place - 1]
        token = self._spoken.truth[place + depth] if is_right else WRONG
        return Draft(token, percents[min(depth, len(percents) - 1)] / 100)

    def target_confidence(self) -> float:
        return self._spoken.target_confidence[len(self.sequence.output_tokens) - 1] / 100


def read() -> list[Spoken]:
    """All recorded texts."""
    decoder = msgspec.json.Decoder(Spoken)
    return [decoder.decode(line) for line in FILE.read_bytes().splitlines()]


def write(texts: Sequence[Spoken]) -> None:
    """Replace the recorded texts."""
    FILE.write_bytes(b"".join(msgspec.json.encode(text) + b"\n" for text in texts))
