"""What must the answer to a request follow?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..chat.conversation import Conversation, Tool
from ..chat.format import ChatFormat
from ..chat.parse.forced import calls_schema, forced_tools
from ..chat.parse.parser import OutputStart, Region
from ..chat.parse.registry import family_of
from ..protocol import Submit
from .sampling.constraint import ConstraintSource, Place
from .sampling.grammar_source import CallsSource, GrammarSource, OpeningsSource, SchemaSource


def plan_constraint(
    submit: Submit, chat_format: ChatFormat, tokenize: Callable[[str], list[int]]
) -> ConstraintSource | None:
    """The constraint of an answer; None: it is free.

    `chat_format` names the parser that the request really has, and `tokenize` gives the tokens of
    a marker. Raises BadRequest for a tool choice
    that names no tool of the request.
    """
    chat = submit.prompt
    if not isinstance(chat, Conversation):
        return ConstraintSource(SchemaSource(submit.schema)) if submit.schema else None
    borders = _single_tokens(family_of(chat_format.parser).markers, tokenize)
    if tools := forced_tools(chat):
        answer = _forced_call(tools, chat_format)
        thoughts = _openings(chat, chat_format, with_calls=False)
        openings = ((Place.START, OpeningsSource(thoughts)),) if thoughts else ()
        return ConstraintSource(answer, openings, True, borders)
    if not submit.schema:
        return None
    places = _places(chat, chat_format)
    return ConstraintSource(SchemaSource(submit.schema), places, borders=borders)


def _single_tokens(markers: Iterable[str], tokenize: Callable[[str], list[int]]) -> frozenset[int]:
    """The tokens that are a marker each."""
    return frozenset(ids[0] for ids in map(tokenize, markers) if len(ids) == 1)


def _forced_call(tools: tuple[Tool, ...], chat_format: ChatFormat) -> GrammarSource:
    """In the family's own format if that has a grammar, otherwise as JSON (JsonCallParser)."""
    if family_of(chat_format.parser).call_grammar:
        return CallsSource(chat_format.parser, tools)
    return SchemaSource(calls_schema(tools))


def _places(chat: Conversation, chat_format: ChatFormat) -> tuple[tuple[Place, GrammarSource], ...]:
    """What may begin instead of an answer. An output may also end with its calls."""
    everything = _openings(chat, chat_format, with_calls=True)
    calls = tuple(
        opening for opening in everything if _opens(opening, chat, chat_format) is Region.CALL
    )
    places: list[tuple[Place, GrammarSource]] = []
    if everything:
        places.append((Place.START, OpeningsSource(everything)))
    if calls:
        places.append((Place.AFTER_THOUGHT, OpeningsSource(calls)))
        places.append((Place.AFTER_CALL, OpeningsSource(everything, may_end=True)))
    return tuple(places)


def _openings(chat: Conversation, chat_format: ChatFormat, *, with_calls: bool) -> tuple[str, ...]:
    """The markers that the output may begin with."""
    refused: set[Region] = set()
    if chat.think is False:
        refused.add(Region.THINKING)
    if not (with_calls and chat.tools):
        refused.add(Region.CALL)
    known: Iterable[str] = family_of(chat_format.parser).openings
    return tuple(each for each in known if _opens(each, chat, chat_format) not in refused)


def _opens(opening: str, chat: Conversation, chat_format: ChatFormat) -> Region:
    """The region that this marker begins; CONTENT: the text after it decides."""
    start = OutputStart(tools=chat.tools, think=chat.think, format=chat_format)
    parser = family_of(chat_format.parser).make(start)
    parser.push(opening)
    return parser.region
