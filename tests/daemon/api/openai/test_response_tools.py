"""Which tools a request to /v1/responses offers (CONTRACT 2.6)."""

from __future__ import annotations

from typing import Any

import pytest
from outrider.daemon.api.openai.response_tools import read_offer
from outrider.daemon.chat.conversation import REQUIRED
from outrider.daemon.errors import BadRequest, Unsupported

pytestmark = pytest.mark.unit

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "d",
    "parameters": SCHEMA,
}
CLOCK: dict[str, Any] = {"type": "function", "name": "clock", "strict": True}
MEMBERS: dict[str, Any] = {
    "type": "namespace",
    "name": "mcp",
    "description": "d",
    "tools": [WEATHER, CLOCK],
}
SEARCH: dict[str, Any] = {"type": "web_search", "search_context_size": "low"}
Choice = str | dict[str, Any]


def test_a_flat_function() -> None:
    (offered,) = read_offer([WEATHER], "auto").tools
    function = {"name": "weather", "description": "d", "parameters": SCHEMA}
    assert offered.tool.definition == {"type": "function", "function": function}
    (offered,) = read_offer([CLOCK], "auto").tools
    function = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
    assert offered.tool.definition == {"type": "function", "function": function}


def test_members_of_a_namespace_have_its_name_in_front() -> None:
    offer = read_offer([MEMBERS, CLOCK], "auto")
    assert [tool.full_name for tool in offer.tools] == ["mcp.weather", "mcp.clock", "clock"]
    assert offer.tools[0].tool.definition["function"] == {
        "name": "mcp.weather",
        "description": "d",
        "parameters": SCHEMA,
    }
    assert offer.split("mcp.clock") == ("mcp", "clock")
    assert offer.split("clock") == ("", "clock")
    assert offer.split("other.name") == ("", "other.name")


@pytest.mark.parametrize(
    ("choice", "names", "expected"),
    [
        ("auto", ["weather", "clock"], ""),
        ("none", [], ""),
        ("required", ["weather", "clock"], REQUIRED),
        ({"type": "function", "name": "clock"}, ["weather", "clock"], "clock"),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [CLOCK]},
            ["clock"],
            REQUIRED,
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": [CLOCK, SEARCH]}, ["clock"], ""),
    ],
)
def test_the_choice(choice: Choice, names: list[str], expected: str) -> None:
    offer = read_offer([WEATHER, CLOCK], choice)
    assert [tool.name for tool in offer.tools] == names
    assert offer.choice == expected


def test_a_choice_inside_a_namespace() -> None:
    for choice in ({"name": "clock"}, {"name": "clock", "namespace": "mcp"}):
        assert read_offer([MEMBERS], {"type": "function", **choice}).choice == "mcp.clock"


def test_tools_of_the_server_are_left_out_beside_functions() -> None:
    offer = read_offer([SEARCH, {"type": "custom", "name": "patch"}, CLOCK], "auto")
    assert [tool.name for tool in offer.tools] == ["clock"]


@pytest.mark.parametrize(
    ("tools", "choice", "kind", "error"),
    [
        ([SEARCH], "auto", Unsupported, 'the tool type "web_search" is not supported'),
        ([CLOCK], {"type": "web_search"}, Unsupported, 'tool_choice of type "web_search"'),
        ([CLOCK], "some", BadRequest, 'invalid tool_choice: "some"'),
        ([], "required", BadRequest, 'tool_choice "required" needs tools'),
        ([CLOCK], {"type": "function", "name": "x"}, BadRequest, 'tool_choice names "x"'),
        ([{"type": "function"}], "auto", BadRequest, "a tool has no name"),
        ([{**CLOCK, "parameters": [1]}], "auto", BadRequest, "tools.0: the parameters of clock"),
    ],
)
def test_what_is_refused(
    tools: list[dict[str, object]], choice: Choice, kind: type[Exception], error: str
) -> None:
    with pytest.raises(kind) as caught:
        read_offer(tools, choice)
    assert str(caught.value).startswith(error)
