"""What did a real model say, and what would its drafter have guessed: real texts for the lab.

`make record` writes them anew, with the pair of `make bench`; so decisions can be judged on them
where neither weights nor a quiet machine are at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from lab import WRONG, Text
from outrider.daemon.runner.speculation.drafters.drafter import Draft

FILE = Path(__file__).with_name("spoken.jsonl")


class Spoken(msgspec.Struct, frozen=True):
    """One text. What says how sure somebody is, is in percent."""

    kind: str  # of the prompt
    temperature: float
    number: int  # tells texts of one kind apart
    prompt: tuple[int, ...]
    truth: tuple[int, ...]  # the tokens of the answer
    target_confidence: tuple[int, ...]  # of the target, of each of them
    right: tuple[int, ...]  # of the guesses after each of them, so many of the first
    guesses: tuple[tuple[int, ...], ...]  # how sure the drafter is of them


class SpokenText(Text):
    """The start of one of them, as a stream."""

    def __init__(self, id_: int, spoken: Spoken, tokens: int) -> None:
        super().__init__(id_, spoken.prompt, spoken.truth[:tokens])
        self._spoken = spoken

    def draft_token(self, place: int, before: Sequence[Draft] = ()) -> Draft:
        depth, percents = len(before), self._spoken.guesses[place - 1]
        is_right = depth < self._spoken.right[place - 1]
        token = self._spoken.truth[place + depth] if is_right else WRONG
        return Draft(token, percents[min(depth, len(percents) - 1)] / 100)

    def target_confidence(self) -> float:
        return self._spoken.target_confidence[len(self.sequence.output_tokens) - 1] / 100


def read() -> list[Spoken]:
    """All that the file holds."""
    decoder = msgspec.json.Decoder(Spoken)
    return [decoder.decode(line) for line in FILE.read_bytes().splitlines()]


def write(texts: Sequence[Spoken]) -> None:
    """In place of what the file holds."""
    FILE.write_bytes(b"".join(msgspec.json.encode(text) + b"\n" for text in texts))
