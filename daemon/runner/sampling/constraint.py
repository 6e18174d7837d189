"""Which tokens may come next in an answer that has a schema, or that must be a tool call?

The grammar of the answer applies where the answer stands: not inside a thought, and not inside a
tool call that the model makes of its own accord. Where the answer may begin, the model may begin a
thought or a call instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...chat.parse.parser import Region
from .grammar import Grammar
from .grammar_source import GrammarSource


class Place(Enum):
    """Where an answer may begin."""

    START = auto()  # of the output
    AFTER_THOUGHT = auto()
    AFTER_CALL = auto()


MAX_BLANKS: Final = 4  # tokens of blanks between a thought and the answer
LEFT: Final = {Region.THINKING: Place.AFTER_THOUGHT, Region.CALL: Place.AFTER_CALL}


@dataclass(frozen=True, slots=True)
class ConstraintSource:
    """What a constraint is compiled from."""

    answer: GrammarSource
    openings: tuple[tuple[Place, GrammarSource], ...] = ()  # what may begin instead of the answer
    forces_calls: bool = False  # the answer is calls: the grammar goes on inside them
    is_json_call: bool = False  # the answer is a call that JsonCallParser reads
    borders: frozenset[int] = frozenset()  # tokens after which another region begins
    blanks: frozenset[int] = frozenset()  # tokens that may stand between a thought and the answer

    @property
    def grammars(self) -> tuple[GrammarSource, ...]:
        """The sources to compile: the answer's, then those of the openings."""
        return (self.answer, *(source for _, source in self.openings))


@dataclass(slots=True)
class Constraint:
    """Follows one output. Its grammars are its own: nobody else advances them."""

    answer: Grammar
    openings: dict[Place, Grammar] = field(default_factory=dict)
    forces_calls: bool = False
    borders: frozenset[int] = frozenset()
    blanks: frozenset[int] = frozenset()
    _num_blanks: int = 0  # after the last thought
    _place: Place | None = Place.START  # where the answer begins with the next token
    _possible: list[Grammar] = field(default_factory=list)  # alternatives for what has begun
    _begun: Grammar | None = None  # the alternative that is the answer

    def allowed(self, region: Region) -> NDArray[np.bool_] | None:
        """For each token, whether it may come next in this region; None: all may.

        Raises InvalidFormat if none may, or at a limit of the parser.
        """
        if self._is_free(region):
            return None
        first, *others = self._alternatives()
        allowed = first.allowed()
        for other in others:
            allowed = allowed | other.allowed()
        if self._takes_blanks:
            allowed[list(self.blanks)] = True
        return allowed

    def accept(self, token: int, region: Region) -> None:
        """Advance by an allowed token, which stands in this region.

        Raises InvalidFormat at a limit of the parser.
        """
        if self._is_free(region):
            self._place, self._possible, self._num_blanks = LEFT[region], [], 0
            return
        if self._takes_blanks and token in self.blanks:
            self._num_blanks += 1
            return
        possible = self._alternatives()
        if len(possible) > 1:
            possible = [grammar for grammar in possible if grammar.num_possible([token])]
        self._place, self._possible = None, possible
        for grammar in possible:
            grammar.accept(token)

    def num_possible(self, tokens: Sequence[int], region: Region) -> int:
        """How many of these tokens could come next, one after the other; none beyond a border."""
        borders = (i + 1 for i, token in enumerate(tokens) if token in self.borders)
        count = next(borders, len(tokens))
        if self._is_free(region):
            return count
        first = self._count_blanks(tokens[:count])
        rest = tokens[first:count]
        return first + max(grammar.num_possible(rest) for grammar in self._alternatives())

    @property
    def _takes_blanks(self) -> bool:
        return self._place is Place.AFTER_THOUGHT and self._num_blanks < MAX_BLANKS

    def _count_blanks(self, tokens: Sequence[int]) -> int:
        """How many of these tokens are blanks that may still come before the answer."""
        room = MAX_BLANKS - self._num_blanks if self._takes_blanks else 0
        others = (i for i, token in enumerate(tokens[:room]) if token not in self.blanks)
        return next(others, len(tokens[:room]))

    def _is_free(self, region: Region) -> bool:
        """An answer that its parser takes for a call goes on as an answer."""
        if region is Region.CALL:
            return not (self.forces_calls or self._begun in self._possible)
        return region is Region.THINKING

    def _alternatives(self) -> list[Grammar]:
        if self._place is None:
            return self._possible
        if not self._possible:
            opening = self.openings.get(self._place)
            grammars = (self.answer, opening) if opening else (self.answer,)
            self._possible = [grammar.copy() for grammar in grammars]
            self._begun = self._possible[0]
        return self._possible
