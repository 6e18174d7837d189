"""What an answer with a schema or a forced tool call may say, token by token, with its parser."""

from __future__ import annotations

import json
import random
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from outrider.daemon.chat.conversation import REQUIRED, Conversation, RawPrompt, Tool
from outrider.daemon.chat.format import ChatFormat
from outrider.daemon.chat.parse import registry
from outrider.daemon.chat.parse.json_call import JsonCallParser
from outrider.daemon.chat.parse.parser import (
    OutputParser,
    OutputStart,
    Parsed,
    ParserFamily,
    Region,
)
from outrider.daemon.chat.parse.thinking import CLOSE, OPEN, THINKING_FAMILY
from outrider.daemon.errors import BadRequest, InvalidFormat
from outrider.daemon.protocol import Submit
from outrider.daemon.runner.constraint_plan import plan_constraint
from outrider.daemon.runner.llama.interface import LanguageModel
from outrider.daemon.runner.sampling.constraint import MAX_BLANKS, Constraint
from outrider.daemon.runner.sampling.grammar import Grammar
from outrider.daemon.runner.sampling.grammar_compiler import GrammarCompiler

pytestmark = pytest.mark.unit

CHARACTERS = ["\n", *map(chr, range(32, 127)), *"｜▁"]  # the last two are of DeepSeek's markers
CLOSING = ('"', "}", "]", "<", "/")
END = "</s>"
CALL, CALL_END = "<call>", "</call>"
SCHEMA = json.dumps({"properties": {"a": {"type": "integer"}}, "required": ["a"]})
FORMAT = "tagged"


class CallTagParser:
    """Thoughts, then content in which `<call>` and `</call>` enclose calls."""

    def __init__(self, start: OutputStart) -> None:
        self._thoughts = THINKING_FAMILY.make(start)
        self._said = ""

    @property
    def region(self) -> Region:
        if self._thoughts.region is Region.THINKING:
            return Region.THINKING
        in_call = self._said.count(CALL) > self._said.count(CALL_END)
        return Region.CALL if in_call else Region.CONTENT

    def push(self, text: str) -> Parsed:
        parsed = self._thoughts.push(text)
        self._said += parsed.content
        return parsed

    def finish(self) -> Parsed:
        return self._thoughts.finish()


def call_grammar(tools: Sequence[Tool], special: Container[str]) -> str:
    schemas = [json.dumps(tool.definition["function"]["parameters"]) for tool in tools]  # type: ignore[index]
    opening, closing = (each if each in special else f'"{each}"' for each in (CALL, CALL_END))
    return f"start: {opening} ({' | '.join(f'%json {each}' for each in schemas)}) {closing}"


FAMILY = ParserFamily(
    CallTagParser,
    markers=(OPEN, CLOSE, CALL, CALL_END),
    openings=(OPEN, CALL),
    thinks=True,
    calls=True,
    call_grammar=call_grammar,
)


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast("dict[str, ParserFamily]", registry.FAMILIES), FORMAT, FAMILY)


@dataclass
class MarkedModel:
    """A vocabulary of characters, an end token, and some markers as special tokens."""

    markers: tuple[str, ...]

    def __post_init__(self) -> None:
        self.texts = [*CHARACTERS, END, *self.markers]
        self.num_tokens = len(self.texts)
        self.end = len(CHARACTERS)

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        tokens = []
        while text:
            marker = next((each for each in self.markers if text.startswith(each)), text[0])
            tokens.append(self.texts.index(marker))
            text = text[len(marker) :]
        return tokens

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return self.texts[token].encode()

    def grammar_tokenizer(self) -> LLTokenizer:
        return LLTokenizer(TokenizerWrapper(MarkedTokenizer(self)))


@dataclass
class MarkedTokenizer:
    """What llguidance asks of a tokenizer."""

    model: MarkedModel
    bos_token_id = None

    @property
    def eos_token_id(self) -> int:
        return self.model.end

    @property
    def special_token_ids(self) -> list[int]:
        return list(range(self.model.end, self.model.num_tokens))

    @property
    def tokens(self) -> list[bytes]:
        return [text.encode() for text in self.model.texts]

    def __call__(self, data: bytes) -> list[int]:
        return self.model.tokenize(data.decode(), add_bos=False)


@dataclass
class Output:
    """One output in the making."""

    model: MarkedModel
    constraint: Constraint
    parser: OutputParser

    def could_say(self, text: str) -> bool:
        (token, *_) = self.model.tokenize(text, add_bos=False)
        allowed = self.constraint.allowed(self.parser.region)
        return allowed is None or bool(allowed[token])

    def could_end(self) -> bool:
        allowed = self.constraint.allowed(self.parser.region)
        return allowed is None or bool(allowed[self.model.end])

    def say(self, text: str) -> Parsed:
        """Raises AssertionError where that is not allowed."""
        parsed = Parsed()
        for token in self.model.tokenize(text, add_bos=False):
            region = self.parser.region
            allowed = self.constraint.allowed(region)
            written = self.model.texts[token]
            assert allowed is None or allowed[token], f"{written!r} of {text!r}"
            self.constraint.accept(token, region)
            parsed += self.parser.push(written)
        return parsed

    def possible(self, text: str) -> str:
        """The beginning of a draft that is possible."""
        tokens = self.model.tokenize(text, add_bos=False)
        count = self.constraint.num_possible(tokens, self.parser.region)
        return "".join(self.model.texts[token] for token in tokens[:count])


def tool(name: str, /, **parameters: Any) -> Tool:
    schema = {"type": "object", "properties": parameters, "required": [*parameters]}
    return Tool({"type": "function", "function": {"name": name, "parameters": schema}})


ADD, STOP = tool("add", n={"type": "integer", "not": {"const": 3}}), tool("stop")


def begin(
    *,
    special: bool = True,
    parser: str = FORMAT,
    prompt: str = "",
    schema: str = SCHEMA,
    think: bool | None = None,
    tools: tuple[Tool, ...] = (),
    choice: str = "",
    tag: str = "",
) -> Output:
    chat = Conversation((), tools, think, choice)
    chat_format = ChatFormat(parser=parser, call_tag=tag)
    markers = registry.family_of(parser).markers if special else ()
    model = MarkedModel(tuple(each for each in markers if "```" not in each))  # these are text
    submit = Submit(1, chat, schema=schema, format=chat_format)
    compiler = GrammarCompiler(cast(LanguageModel, model))
    source = plan_constraint(submit, compiler)
    assert source
    answer, *others = (compiler.start(each).result() for each in source.grammars)
    openings = {place: each for (place, _), each in zip(source.openings, others, strict=True)}
    constraint = Constraint(answer, openings, source.forces_calls, source.borders, source.blanks)
    start = OutputStart(prompt, tools, think, chat_format)
    read = registry.family_of(parser).make(start)
    return Output(model, constraint, JsonCallParser(read) if source.is_json_call else read)


both_spellings = pytest.mark.parametrize("special", [True, False], ids=["tokens", "text"])


@both_spellings
def test_an_answer_may_begin_at_once(special: bool) -> None:
    output = begin(special=special)
    assert not output.could_say("x")
    output.say('{"a": 1')
    assert not output.could_end()
    output.say("}")
    assert output.could_end()
    assert not output.could_say(OPEN)


@both_spellings
def test_an_answer_may_follow_a_thought(special: bool) -> None:
    output = begin(special=special)
    thought = output.say(f"{OPEN}so ]] {{free}}{CLOSE}")
    assert thought.thinking == "so ]] {free}"
    for text in ("x", OPEN, "[") if special else ("x", "["):
        assert not output.could_say(text)
    output.say('{"a": 1}')
    assert output.could_end()


@both_spellings
def test_the_prompt_may_have_opened_the_thought(special: bool) -> None:
    output = begin(special=special, prompt=f"user: hi{OPEN}\n")
    output.say(f"free{CLOSE}")
    assert not output.could_say("x")
    output.say('{"a": 1}')


def test_some_blanks_may_stand_between_a_thought_and_the_answer() -> None:
    output = begin()
    assert not output.could_say("\n")
    assert output.say(f"{OPEN}so{CLOSE}").thinking == "so"
    assert output.possible('\n\n{"a": 1} x') == '\n\n{"a": 1}'
    assert output.possible("\n\n\n\n\n") == "\n" * MAX_BLANKS
    parsed = output.say("\n" * MAX_BLANKS)
    assert not output.could_say("\n")
    parsed += output.say('{"a": 1}')
    assert parsed.content == '{"a": 1}'
    assert output.could_end()


@both_spellings
def test_half_an_opening_is_no_answer(special: bool) -> None:
    output = begin(special=special)
    output.say("<thi")
    assert not output.could_say("{")
    output.say("nk>{")


def test_no_thought_where_none_is_wanted() -> None:
    assert begin().could_say(OPEN)
    assert not begin(think=False).could_say(OPEN)
    assert not begin(parser=registry.CONTENT, think=True).could_say(OPEN)


@both_spellings
def test_calls_may_take_the_place_of_an_answer_only_with_tools(special: bool) -> None:
    output = begin(special=special, tools=(ADD,))
    output.say(f"{OPEN}hm{CLOSE}")
    output.say(f"{CALL}whatever the model writes{CALL_END}")
    assert output.could_end(), "the calls are the answer"
    output.say(f"{CALL}one more{CALL_END}")
    assert not output.could_say("x")
    output.say('{"a": 5}')
    assert output.could_end()


def test_without_tools_no_call_begins() -> None:
    assert not begin().could_say(CALL)
    assert begin(tools=(ADD,)).could_say(CALL)


@both_spellings
def test_a_forced_call_follows_the_schema_of_its_tool(special: bool) -> None:
    output = begin(special=special, schema="", tools=(ADD, STOP), choice=REQUIRED)
    assert not output.could_say("I")
    output.say(f"{OPEN}free{CLOSE}")
    output.say(f"{CALL}{{")
    output.say('"n": 3}')
    assert not output.could_end()
    output.say(CALL_END)
    assert output.could_end()
    other = begin(special=special, schema="", tools=(ADD, STOP), choice=REQUIRED)
    other.say(f"{CALL}{{}}{CALL_END}")


def test_a_named_tool_is_the_only_one() -> None:
    output = begin(schema="", tools=(ADD, STOP), choice="stop")
    output.say(f"{CALL}{{")
    assert not output.could_say('"')


@pytest.mark.parametrize("parser", [registry.CONTENT, registry.THINKING])
def test_a_format_without_a_grammar_calls_in_json(parser: str) -> None:
    output = begin(parser=parser, schema="", tools=(ADD, STOP), choice=REQUIRED)
    thought = f"{OPEN}free{CLOSE}" if parser == registry.THINKING else ""
    parsed = output.say(thought + '{"name": "add", "arguments": {"n": 7}}')
    parsed += output.parser.finish()
    assert output.could_end()
    assert parsed.thinking == ("free" if thought else "")
    assert not parsed.content
    (call,) = parsed.tool_calls
    assert (call.name, call.arguments) == ("add", {"n": 7})


def test_definitions_of_a_tool_are_its_own() -> None:
    """A `$ref` of pydantic's schemas starts at the tool's parameters."""
    function = {
        "name": "sum",
        "parameters": {
            "type": "object",
            "properties": {"of": {"$ref": "#/$defs/Pair"}},
            "required": ["of"],
            "$defs": {"Pair": {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}]}},
        },
    }
    given = Tool({"type": "function", "function": function})
    output = begin(parser=registry.CONTENT, schema="", tools=(given, STOP), choice=REQUIRED)
    output.say('{"name": "sum", "arguments": {"of": [1, 2]}}')
    assert output.could_end()


def test_a_choice_without_such_a_tool_is_refused() -> None:
    with pytest.raises(BadRequest, match="a call of 'other'"):
        begin(schema="", tools=(ADD,), choice="other")
    with pytest.raises(BadRequest, match="demands a call"):
        begin(schema="", choice=REQUIRED)


def test_drafts_end_at_a_border_of_regions() -> None:
    output = begin()
    assert output.possible(f"{OPEN}free{CLOSE}") == OPEN
    output.say(OPEN)
    assert output.possible(f"free{CLOSE}never json") == f"free{CLOSE}"
    output.say(f"free{CLOSE}")
    assert output.possible('{"a": 1, never') == '{"a": 1'
    output.say('{"a": 1}')
    assert output.possible("x") == ""


def test_a_prompt_without_a_chat_has_the_grammar_alone() -> None:
    submit = Submit(1, RawPrompt("x"), schema=SCHEMA, format=ChatFormat(parser=FORMAT))
    compiler = GrammarCompiler(cast(LanguageModel, MarkedModel(())))
    source = plan_constraint(submit, compiler)
    assert source
    assert not source.openings
    free = Submit(1, RawPrompt("x"))
    assert plan_constraint(free, compiler) is None


def test_a_grammar_that_is_stuck_says_so() -> None:
    """llguidance itself compiles a schema that describes nothing, and then stops."""
    model = MarkedModel(())
    worded = LLMatcher.grammar_from_json_schema('{"$ref": "#"}')
    matcher = LLMatcher(model.grammar_tokenizer(), worded, log_level=0)
    assert not matcher.is_error()
    with pytest.raises(InvalidFormat, match="the schema allows no further token"):
        Constraint(Grammar(matcher, model.num_tokens)).allowed(Region.CONTENT)


@pytest.mark.parametrize("parser", ["json", "llama3", registry.GENERIC])
def test_an_answer_that_looks_like_a_call_follows_its_schema(parser: str) -> None:
    output = begin(parser=parser, tools=(ADD,), tag="{")
    output.say('{"a": 1')
    assert not output.could_say("x")
    assert not output.could_end()
    output.say("}")
    assert output.could_end()


def test_the_tags_of_a_template_are_openings() -> None:
    output = begin(parser=registry.GENERIC, tools=(ADD,), tag="[CALLS]")
    assert output.could_say("[")
    output.say('[CALLS] {"name": "add"')
    assert not begin(parser=registry.GENERIC, tag="[CALLS]").could_say("[")


# What begins and what ends the values that no JSON encloses.
CLOSERS = {
    "<parameter=": "\n</parameter>",
    "<arg_value>": "</arg_value>",
    '<|"|>': '<|"|>',
    "<escape>": "<escape>",
}


def likely_end(text: str, allowed: set[str]) -> str | None:
    """The token that brings a value nearer to its end, if one of them does."""
    closer = next((closer for opener, closer in CLOSERS.items() if opener in text), "")
    for length in range(len(closer) - 1, -1, -1):
        if text.endswith(closer[:length]):
            for token in (closer[length:], closer[length : length + 1]):
                if token in allowed:
                    return token
    return None


def random_answer(output: Output, rng: random.Random) -> Parsed:
    """What random allowed tokens say, up to the first place where the output may end."""
    output.constraint.openings.clear()  # the call comes first
    parsed, text = Parsed(), ""
    for count in range(3000):
        region = output.parser.region
        allowed = output.constraint.allowed(region)
        assert allowed is not None
        ids = np.flatnonzero(allowed).tolist()
        if output.model.end in ids:
            return parsed + output.parser.finish()
        texts = [output.model.texts[each] for each in ids]
        chosen = rng.choice([each for each in texts if each in CLOSING] or texts)
        if count > 60 or rng.random() < 0.5:
            chosen = likely_end(text, set(texts)) or chosen
        elif rng.random() < 0.5:
            chosen = rng.choice(texts)
        output.constraint.accept(output.model.texts.index(chosen), region)
        parsed += output.parser.push(chosen)
        text += chosen
    pytest.fail(f"without an end: {text[:300]!r}")


CITY = tool("get_city", name={"type": "string", "maxLength": 9}, n={"enum": [1, 20]})


@both_spellings
@pytest.mark.parametrize("parser", sorted(registry.FAMILIES))
def test_a_forced_call_is_always_read(parser: str, special: bool) -> None:
    rng = random.Random(parser)
    for choice, names in ((REQUIRED, {"get_city", "stop"}), ("get_city", {"get_city"})):
        output = begin(
            special=special,
            parser=parser,
            schema="",
            tools=(CITY, STOP),
            choice=choice,
            think=False,
        )
        parsed = random_answer(output, rng)
        assert not parsed.content.strip()
        assert parsed.tool_calls
        for call in parsed.tool_calls:
            assert call.name in names
            expected = {"get_city": {"name", "n"}, "stop": set()}[call.name]
            assert call.arguments.keys() == expected
            assert call.arguments.get("n", 1) in (1, 20)
