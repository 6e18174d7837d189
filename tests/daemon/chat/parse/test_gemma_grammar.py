"""The grammar of forced calls: llguidance reads it, and the parser reads what it allows."""

from __future__ import annotations

from functools import cache

import pytest
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from outrider.daemon.chat.conversation import Tool
from outrider.daemon.chat.parse.functiongemma import FUNCTION_GEMMA_MARKERS
from outrider.daemon.chat.parse.gemma4 import GEMMA4_MARKERS, GemmaMarkers
from outrider.daemon.chat.parse.gemma_calls import GemmaCallReader

pytestmark = pytest.mark.unit

BOTH = pytest.mark.parametrize("markers", [GEMMA4_MARKERS, FUNCTION_GEMMA_MARKERS])
Q = GEMMA4_MARKERS.quote


class ByteTokenizer:
    """A token for each byte, and one for each marker."""

    bos_token_id = None

    def __init__(self, markers: GemmaMarkers) -> None:
        special = ["<eos>", *markers.all]
        self.tokens = [bytes([byte]) for byte in range(256)] + [text.encode() for text in special]
        self.special_token_ids = list(range(256, len(self.tokens)))
        self.eos_token_id = 256
        self._ids = {text: 256 + n for n, text in enumerate(special)}

    def __call__(self, text: bytes) -> list[int]:
        return list(text)

    def ids(self, text: str) -> list[int]:
        found: list[int] = []
        while text:
            marker = next((marker for marker in self._ids if text.startswith(marker)), "")
            found += [self._ids[marker]] if marker else list(text[0].encode())
            text = text[len(marker) or 1 :]
        return found


@cache
def vocabulary(markers: GemmaMarkers) -> tuple[ByteTokenizer, LLTokenizer]:
    tokenizer = ByteTokenizer(markers)
    return tokenizer, LLTokenizer(TokenizerWrapper(tokenizer))


def tool(parameters: object, name: str = "f") -> Tool:
    return Tool({"type": "function", "function": {"name": name, "parameters": parameters}})


def allows(text: str, *tools: Tool, markers: GemmaMarkers = GEMMA4_MARKERS) -> bool:
    """Whether the whole output is allowed, and may end."""
    tokenizer, known = vocabulary(markers)
    matcher = LLMatcher(
        known, LLMatcher.grammar_from_lark(markers.call_grammar(tools, markers.all))
    )
    assert not matcher.get_error()
    ids = tokenizer.ids(text)
    return matcher.validate_tokens([*ids, tokenizer.eos_token_id]) == len(ids) + 1


def allows_arguments(arguments: str, properties: object, required: list[str] | None = None) -> bool:
    definition = tool({
        "type": "object", "properties": properties, "required": required or [],
        "$defs": {"T": {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}}},
    })  # fmt: skip
    text = arguments.replace("Q", Q)
    allowed = allows(f"<|tool_call>call:f{text}<tool_call|>", definition)
    assert not allowed or GemmaCallReader(Q, ()).read(f"call:f{text}")
    return allowed


@BOTH
def test_one_call_or_more_of_the_tools(markers: GemmaMarkers) -> None:
    tools = (tool({"type": "object"}), tool({"type": "object"}, "g-2"))
    call = f"{markers.call_open}call:%s{{}}{markers.call_close}"
    f, g, h = (call % name for name in ("f", "g-2", "h"))
    for text in (f, g, f + g + f):
        assert allows(text, *tools, markers=markers)
    for text in ("", h, f + h, f"a{f}", f"{f}a", f.replace("{}", "{x:1}")):
        assert not allows(text, *tools, markers=markers)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ("{b:QxQ}", True), ("{a:1,b:QxQ}", True), ("{a:1,b:QxQ,c:[true,false]}", True),
        ("{b:QxQ,c:[]}", True), ("{}", False), ("{a:1}", False), ("{b:QxQ,a:1}", False),
        ("{b:1}", False), ("{a:1.5,b:QxQ}", False), ("{b:QxQ,d:1}", False),
        ("{b:QxQ,c:[1]}", False), ("{b:QxQ,}", False), ("{b:Qx}", False),
        ('{b:Q <| <em> a "b" \\ {,}:<b> é\n<|<Q}', True), ("{b:QQ}", True),
    ],
)  # fmt: skip
def test_properties(arguments: str, allowed: bool) -> None:
    properties = {"b": {"type": "string"}, "a": {"type": "integer"},
                  "c": {"type": "array", "items": {"type": "boolean"}}}  # fmt: skip
    assert allows_arguments(arguments, properties, ["b"]) is allowed


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"enum": ["a\n", "", 1, None]}, ["Qa\nQ", "QQ", "1", "null"], ["QbQ", "2"]),
        ({"const": {"k": [1, "a"]}}, ["{k:[1,QaQ]}"], ["{k:[]}"]),
        ({"const": []}, ["[]"], ["[1]"]),
        ({"type": "number"}, ["-1.5e-3", "0"], ["01", "QaQ", "9" * 30]),
        ({"type": ["string", "null"]}, ["QaQ", "null"], ["1"]),
        ({"type": "string", "nullable": True}, ["QaQ", "null"], ["1"]),
        ({"anyOf": [{"type": "integer"}, {"type": "object", "properties": {}}]},
         ["1", "{}", "{k:{l:[1,QaQ,true]}}"], ["QaQ"]),
        ({"type": "array", "minItems": 1}, ["[1]", "[QaQ,[{}]]"], ["[]"]),
        ({"$ref": "#/$defs/T"}, ["{}", "{t:{t:{}}}"], ["{t:1}", "1"]),
        ({"$ref": "other.json"}, ["1"], []),
        (True, ["1", "null", "{a:1}"], []),
    ],
)  # fmt: skip
def test_values(schema: object, good: list[str], bad: list[str]) -> None:
    for value in good:
        assert allows_arguments(f"{{x:{value}}}", {"x": schema}, ["x"]), value
    for value in bad:
        assert not allows_arguments(f"{{x:{value}}}", {"x": schema}, ["x"]), value


def test_names_that_need_quotes() -> None:
    assert allows_arguments("{Qa bQ:1,c-d:2}", {"a b": {}, "c-d": {}}, ["a b", "c-d"])
    assert allows_arguments('{Qa"Q:1}', {'a"': {}}, ['a"'])


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "properties": None}, "x"])
def test_tools_without_parameters(parameters: object) -> None:
    assert allows("<|tool_call>call:f{}<tool_call|>", tool(parameters))


def test_many_properties_and_deep_schemas() -> None:
    many: dict[str, object] = {f"p{n}": {"type": "string"} for n in range(300)}
    assert allows_arguments("{p0:QaQ,p299:QbQ}", many)
    deep: dict[str, object] = {"type": "string"}
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    assert allows_arguments("{x:[[QaQ]]}", {"x": {**deep, "items": {"type": "array"}}})
    assert not allows_arguments("{x:QaQ}", {"x": deep})


@BOTH
def test_without_special_tokens_there_is_no_grammar(markers: GemmaMarkers) -> None:
    assert markers.call_grammar([tool({})], markers.all)
    assert markers.call_grammar([tool({})], markers.all[:1]) == ""
