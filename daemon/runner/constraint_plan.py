"""What must the answer to a request follow?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, Protocol

import msgspec

from ..chat.conversation import Conversation
from ..chat.format import ChatFormat
from ..chat.parse.forced import calls_schema, forced_tools
from ..chat.parse.parser import OutputStart, ParserFamily, Region
from ..chat.parse.registry import family_of
from ..protocol import Submit
from .sampling.constraint import ConstraintSource, Place
from .sampling.grammar_source import GrammarSource, LarkSource, OpeningsSource, SchemaSource

# An answer in JSON begins like a call without a marker. "[TOOL_CALLS]" is a marker.
BARE: Final = re.compile(r"\s*(\{|\[\s*(\{|$))")

# What models write between a thought and the answer. The grammar of an answer begins without.
BLANKS: Final = ("\n\n", "\n", " ")


class MarkerVocabulary(Protocol):
    """What the vocabulary makes of a parser's markers."""

    def tokens_of(self, text: str) -> list[int]:
        """The tokens of a marker."""
        ...

    def special_of(self, markers: Iterable[str]) -> frozenset[str]:
        """The markers that a grammar must name as tokens."""
        ...


def plan_constraint(submit: Submit, vocabulary: MarkerVocabulary) -> ConstraintSource | None:
    """The constraint of an answer; None: it is free.

    Raises BadRequest for a tool choice that names no tool of the request.
    """
    chat, schema = submit.prompt, submit.schema
    if not isinstance(chat, Conversation):
        return ConstraintSource(SchemaSource(schema)) if schema else None
    tools = forced_tools(chat)
    if not (tools or schema):
        return None
    family = family_of(submit.format.parser)
    singles = (ids for marker in family.markers if len(ids := vocabulary.tokens_of(marker)) == 1)
    blanks = (ids for text in BLANKS if len(ids := vocabulary.tokens_of(text)) == 1)
    source = ConstraintSource(
        SchemaSource(schema),
        borders=frozenset(ids[0] for ids in singles),
        blanks=frozenset(ids[0] for ids in blanks),
    )
    openings = _regions_by_opening(chat, submit.format)
    if not tools:
        return replace(source, openings=_places(chat, openings, family))
    lark = ""
    if family.call_grammar:
        lark = family.call_grammar(tools, vocabulary.special_of(family.markers))
    return replace(
        source,
        answer=LarkSource(lark) if lark else SchemaSource(calls_schema(tools)),
        openings=_places(msgspec.structs.replace(chat, tools=()), openings, family),
        forces_calls=True,
        is_json_call=not lark,
    )


def _places(
    chat: Conversation, openings: Mapping[str, Region], family: ParserFamily
) -> tuple[tuple[Place, GrammarSource], ...]:
    """What may begin instead of an answer. An output may also end with its calls."""
    refused: set[Region] = set()
    if chat.think is False and not family.reopens:
        refused.add(Region.THINKING)
    if not chat.tools:
        refused.add(Region.CALL)
    everything = tuple(each for each, region in openings.items() if region not in refused)
    calls = tuple(each for each in everything if openings[each] is Region.CALL)
    later = everything if family.reopens else calls
    places: list[tuple[Place, GrammarSource]] = []
    if everything:
        places.append((Place.START, OpeningsSource(everything)))
    if later:
        places.append((Place.AFTER_THOUGHT, OpeningsSource(later)))
    if later and chat.tools:
        places.append((Place.AFTER_CALL, OpeningsSource(everything, may_end=True)))
    return tuple(places)


def _regions_by_opening(chat: Conversation, chat_format: ChatFormat) -> dict[str, Region]:
    """The region that each marker begins: those of the family, and the tags of the template.

    A tag that the parser does not know begins none.
    """
    tags = (chat_format.think_open.strip(), chat_format.call_tag.strip())
    known = dict.fromkeys([*family_of(chat_format.parser).openings, *filter(None, tags)])
    regions = {each: _opens(each, chat, chat_format) for each in known}
    return {
        each: region
        for each, region in regions.items()
        if region is not Region.CONTENT and not BARE.match(each)
    }


def _opens(opening: str, chat: Conversation, chat_format: ChatFormat) -> Region:
    """The region of the text after this marker."""
    start = OutputStart(tools=chat.tools, think=chat.think, format=chat_format)
    parser = family_of(chat_format.parser).make(start)
    parser.push(opening)
    return parser.region
