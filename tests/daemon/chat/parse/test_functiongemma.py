"""FunctionGemma's output: calls between its own tokens."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.chat.conversation import ToolCall
from outrider.daemon.chat.parse.functiongemma import FUNCTION_GEMMA_FAMILY
from outrider.daemon.chat.parse.parser import OutputStart, Parsed, Region
from outrider.daemon.chat.parse.registry import family_of

pytestmark = pytest.mark.unit

OPEN, CLOSE = "<start_function_call>", "<end_function_call>"
WEATHER = f"{OPEN}call:weather{{city:<escape>Tokyo, Japan<escape>,days:2}}{CLOSE}"
STOCK = f"{OPEN}call:stock{{name:<escape>GOOG<escape>}}{CLOSE}"
CALLS = (
    ToolCall("weather", {"city": "Tokyo, Japan", "days": 2}, index=0),
    ToolCall("stock", {"name": "GOOG"}, index=1),
)


def split(pieces: Iterable[str]) -> Parsed:
    parser = family_of("functiongemma").make(OutputStart(think=True))
    return sum((parser.push(piece) for piece in pieces), Parsed()) + parser.finish()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WEATHER + STOCK, Parsed(tool_calls=CALLS)),
        (f"{WEATHER}\n{STOCK}<start_function_response>", Parsed(tool_calls=CALLS)),
        (f"Sure. {WEATHER}", Parsed("Sure.", tool_calls=CALLS[:1])),
        (WEATHER.removesuffix(CLOSE), Parsed(tool_calls=CALLS[:1])),
        (WEATHER.replace(",days:2", ",days:two"),
         Parsed("call:weather{city:Tokyo, Japan,days:two}")),
        ("It is sunny.\n", Parsed("It is sunny.\n")),
        ("thought\na <start_function", Parsed("thought\na <start_function")),
        ("", Parsed()),
    ],
)  # fmt: skip
def test_outputs(text: str, expected: Parsed) -> None:
    assert split([text]) == expected
    assert split(text) == expected


FRAGMENTS = [*FUNCTION_GEMMA_FAMILY.markers, WEATHER, "call:f{", "}", "a", " "]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join), st.integers(0, 300))
def test_cuts_change_nothing(text: str, place: int) -> None:
    at = place % (len(text) + 1)
    assert split([text[:at], text[at:]]) == split([text]) == split(text)


def test_it_calls_and_does_not_think() -> None:
    family = family_of("functiongemma")
    assert (family.calls, family.thinks) == (True, False)
    parser = family.make(OutputStart())
    parser.push(OPEN)
    assert parser.region is Region.CALL
