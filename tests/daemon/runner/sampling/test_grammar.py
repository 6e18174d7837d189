"""Grammars: whatever a model prefers, what is allowed leads to JSON that follows the schema."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from harness import make_grammar
from outrider.daemon.errors import InvalidFormat
from outrider.daemon.runner.llama.model import LlamaModel
from outrider.daemon.runner.sampling.grammar import Grammar
from outrider.daemon.runner.sampling.grammar_compiler import MAX_CACHED, GrammarCompiler
from outrider.daemon.runner.sampling.grammar_source import SchemaSource

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore:llama_token_get_attr"),
]  # llguidance calls it
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 2},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
DEEP = '{"const": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.fixture(scope="module")
def maker(model: LlamaModel) -> GrammarCompiler:
    return GrammarCompiler(model)


def walk(grammar: Grammar, model: LlamaModel, rng: random.Random) -> object:
    """What random allowed tokens say by the first place where the answer may end."""
    text = b""
    for _ in range(5000):
        allowed = np.flatnonzero(grammar.allowed()).tolist()
        assert allowed, f"nothing may come after {text!r}"
        if any(model.is_end(token) for token in allowed):
            return json.loads(text)
        token = rng.choice(allowed)
        grammar.accept(token)
        text += model.piece(token)
    pytest.fail(f"without an end: {text!r}")


def spell(grammar: Grammar, model: LlamaModel, text: str) -> None:
    """Accept a text, token by token. Raises AssertionError where it is not allowed."""
    for token in model.tokenize(text, add_bos=False):
        assert grammar.allowed()[token], f"{model.piece(token)!r} of {text!r}"
        grammar.accept(token)


@pytest.mark.parametrize("seed", range(20))
def test_every_walk_follows_the_schema(
    maker: GrammarCompiler, model: LlamaModel, seed: int
) -> None:
    answer = walk(make_grammar(maker, json.dumps(PERSON)), model, random.Random(seed))
    assert isinstance(answer, dict)
    assert {"name", "age"} <= answer.keys() <= PERSON["properties"].keys()  # type: ignore[attr-defined]
    assert isinstance(answer["name"], str)
    assert len(answer["name"]) <= 8
    assert isinstance(answer["age"], int)
    assert set(answer.get("tags", [])) <= {"red", "blue"}


@pytest.mark.parametrize("seed", range(20))
def test_any_object_will_do_for_plain_json(
    maker: GrammarCompiler, model: LlamaModel, seed: int
) -> None:
    assert isinstance(
        walk(make_grammar(maker, '{"type": "object"}'), model, random.Random(seed)), dict
    )


def test_walks_differ(maker: GrammarCompiler, model: LlamaModel) -> None:
    answers = {
        json.dumps(walk(make_grammar(maker, json.dumps(PERSON)), model, random.Random(seed)))
        for seed in range(5)
    }
    assert len(answers) == 5


def test_a_complete_answer_can_only_end(maker: GrammarCompiler, model: LlamaModel) -> None:
    grammar = make_grammar(maker, '{"enum": [{"a": 1}]}')
    spell(grammar, model, '{"a": 1}')
    allowed = np.flatnonzero(grammar.allowed()).tolist()
    assert allowed
    assert all(model.is_end(token) for token in allowed)


def test_what_contradicts_the_schema_is_not_allowed(
    maker: GrammarCompiler, model: LlamaModel
) -> None:
    for text in ("[", '{"age": "', '{"name": "123456789', '{"other"', "{\n}", '{"name": "a"}'):
        with pytest.raises(AssertionError, match="of"):
            spell(make_grammar(maker, json.dumps(PERSON)), model, text)
    spell(
        make_grammar(maker, json.dumps(PERSON)), model, '{"name": "a", "age": -5, "tags": ["red"]}'
    )


def test_whitespace_is_bounded(maker: GrammarCompiler, model: LlamaModel) -> None:
    (newline,) = model.tokenize("\n", add_bos=False)
    grammar = make_grammar(maker, '{"type": "object"}')
    spell(grammar, model, "{")
    count = 0
    while grammar.allowed()[newline]:
        grammar.accept(newline)
        count += 1
        assert count < 100
    assert count > 1
    spell(grammar, model, "}")


def test_two_answers_to_one_schema_are_apart(maker: GrammarCompiler, model: LlamaModel) -> None:
    first, second = (make_grammar(maker, json.dumps(PERSON)) for _ in range(2))
    spell(first, model, '{"name": "')
    spell(second, model, '{"name": "a", "age": 1}')
    spell(first, model, 'b", "age": 2}')


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ('{"type": "banana"}', "banana"),
        ('{"type": 3}', "type must be a string"),
        ('{"allOf": 3}', "allOf must be an array"),
        ('{"$ref": "#/nowhere"}', "nowhere"),
        ('{"type": "string", "minLength": 5, "maxLength": 2}', "Unsatisfiable"),
        ('{"minimum": NaN}', "NaN is no JSON"),
        ("yaml", "Expecting value"),
        ("[1]", "no JSON object"),
        ('"json"', "no JSON object"),
        ("null", "no JSON object"),
        (DEEP, "recursion"),
        ('{"$ref": "#"}', "refers to itself without an end"),
        ('{"properties": {"a": {"$ref": "#"}}, "required": ["a"]}', "without an end"),
        ('{"$ref": "other.json#/$defs/a"}', "names another document"),
        ('{"not": {}}', "allows no answer"),
    ],
    ids=lambda text: text[:40],
)
def test_a_schema_that_cannot_be_followed_is_one_clear_error(
    maker: GrammarCompiler, schema: str, reason: str
) -> None:
    with pytest.raises(InvalidFormat, match=reason) as caught:
        make_grammar(maker, schema)
    assert str(caught.value).startswith("invalid format: ")
    assert "expected" in str(caught.value)


ACCENTS = "é" * 60  # byte 100 of the JSON lies inside a letter


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": ["a" + ACCENTS]},
        {"type": "string", "format": ["a" + ACCENTS]},
        {"type": "object", "required": ACCENTS},
        {"type": "integer", "minimum": ACCENTS},
        {"$ref": ["a" + ACCENTS]},
        {"properties": {"a": {"items": 3}}},
        {"enum": "a"},
        {"minItems": -1},
        {"properties": {"a": "string"}},
    ],
    ids=lambda schema: [*schema][-1],
)
def test_a_keyword_of_the_wrong_type_is_named(maker: GrammarCompiler, schema: object) -> None:
    with pytest.raises(InvalidFormat, match=r"invalid format: \S+ must be an? ") as caught:
        make_grammar(maker, json.dumps(schema))
    assert len(str(caught.value).splitlines()) == 1


def objects(count: int, properties: int) -> list[dict[str, object]]:
    """Objects with string properties that are all optional and all different."""
    names = [[f"o{i}_{j}" for j in range(properties)] for i in range(count)]
    return [
        {"type": "object", "properties": {name: {"type": "string"} for name in each}}
        for each in names
    ]


@pytest.mark.parametrize(
    "schema",
    [objects(1, 550)[0], {"anyOf": objects(20, 10)}, {"anyOf": objects(20, 30)}],
    ids=["550 optional properties", "20 objects", "20 large objects"],
)
def test_large_schemas_of_everyday_use_are_followed(
    maker: GrammarCompiler, model: LlamaModel, schema: object
) -> None:
    spell(make_grammar(maker, json.dumps(schema)), model, '{"o0_1": "a", "o0_9": "b"}')


def test_a_limit_of_the_parser_is_a_clear_error_that_stays(
    maker: GrammarCompiler, model: LlamaModel
) -> None:
    grammar = make_grammar(maker, json.dumps({"anyOf": objects(20, 350)}))
    for _ in range(2):
        with pytest.raises(InvalidFormat, match=r"too complex.*max is \d+; simplify it"):
            spell(grammar, model, "{")
    assert grammar.num_possible([1, 2]) == 0


def test_a_schema_is_compiled_once_while_it_is_remembered(maker: GrammarCompiler) -> None:
    schemas = [json.dumps({"enum": [f"v{i}"]}) for i in range(MAX_CACHED + 1)]
    first = maker.start(SchemaSource(schemas[0]))
    assert maker.start(SchemaSource(schemas[0])) is first
    for schema in schemas[1:]:
        maker.start(SchemaSource(schema))
    assert maker.start(SchemaSource(schemas[0])) is not first


def test_a_schema_that_failed_is_compiled_again(maker: GrammarCompiler) -> None:
    bad = SchemaSource('{"type": "banana"}')
    first = maker.start(bad)
    assert first.exception()
    assert maker.start(bad) is not first


def test_a_bad_schema_spoils_nothing(maker: GrammarCompiler, model: LlamaModel) -> None:
    with pytest.raises(InvalidFormat):
        make_grammar(maker, '{"type": "banana"}')
    assert isinstance(
        walk(make_grammar(maker, '{"type": "object"}'), model, random.Random(1)), dict
    )
