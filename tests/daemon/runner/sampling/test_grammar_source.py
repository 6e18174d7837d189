"""Whatever schema a library writes: a grammar accepts it, and answers follow what it can follow."""

from __future__ import annotations

import json
import logging
import random
from typing import cast

import jsonschema
import numpy as np
import pytest
from library_schemas import LIBRARY_SCHEMAS, LibrarySchema
from llguidance import LLTokenizer, TokenizerWrapper
from outrider.daemon.runner.llama.interface import LanguageModel
from outrider.daemon.runner.sampling.grammar import Grammar
from outrider.daemon.runner.sampling.grammar_compiler import GrammarCompiler
from outrider.daemon.runner.sampling.grammar_source import SchemaSource

pytestmark = pytest.mark.unit

END = 256
CLOSING = b'"}]'
PRINTABLE = range(32, 127)
every_schema = pytest.mark.parametrize(
    "case", LIBRARY_SCHEMAS, ids=[case.name for case in LIBRARY_SCHEMAS]
)


class ByteModel:
    """A vocabulary of all bytes, and an end token."""

    num_tokens = 257
    eos_token_id, bos_token_id, special_token_ids = END, None, (END,)
    tokens = (*(bytes([code]) for code in range(256)), b"</s>")

    def __call__(self, data: bytes) -> list[int]:
        return list(data)

    def grammar_tokenizer(self) -> LLTokenizer:
        return LLTokenizer(TokenizerWrapper(self))


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(cast(LanguageModel, ByteModel()))


def compile_schema(compiler: GrammarCompiler, schema: object) -> Grammar:
    return compiler.start(SchemaSource(json.dumps(schema))).result().copy()


def follows(grammar: Grammar, text: str) -> bool:
    """Whether the grammar allows this text, as a whole or as the beginning of an answer."""
    return grammar.num_possible(list(text.encode())) == len(text.encode())


def walk(grammar: Grammar, rng: random.Random, length: int = 60) -> object:
    """A random answer of mostly printable characters, that soon comes to an end."""
    text = bytearray()
    for count in range(5000):
        allowed = np.flatnonzero(grammar.allowed()).tolist()
        if END in allowed and (allowed == [END] or rng.random() < 0.3):
            return json.loads(text)
        allowed = [code for code in allowed if code in PRINTABLE] or allowed
        closing = [code for code in allowed if code in CLOSING]
        allowed = closing if closing and (count > length or rng.random() < 0.3) else allowed
        token = rng.choice(allowed)
        grammar.accept(token)
        text.append(token)
    pytest.fail(f"without an end: {bytes(text[:200])!r}")


@every_schema
def test_a_schema_of_a_library_is_followed(compiler: GrammarCompiler, case: LibrarySchema) -> None:
    grammar = compile_schema(compiler, case.schema)
    assert follows(grammar, case.answer)
    for byte in case.answer.encode():
        grammar.accept(byte)
    assert grammar.allowed()[END], "the answer is complete"
    assert not follows(compile_schema(compiler, case.schema), case.wrong)


@every_schema
def test_random_answers_are_valid(compiler: GrammarCompiler, case: LibrarySchema) -> None:
    """Also of the client's own schema, if nothing was passed over."""
    rng = random.Random(case.name)
    for _ in range(3):
        answer = walk(compile_schema(compiler, case.schema), rng)
        if not case.passed_over:
            newest = jsonschema.Draft202012Validator
            jsonschema.validators.validator_for(case.schema, newest)(case.schema).validate(answer)


@every_schema
def test_what_is_passed_over_is_logged_once(
    case: LibrarySchema, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        compiler = GrammarCompiler(cast(LanguageModel, ByteModel()))
        for _ in range(2):
            compile_schema(compiler, case.schema)
    expected = [f"passed over: {', '.join(case.passed_over)}"] if case.passed_over else []
    assert [line.partition("; ")[2] for line in caplog.messages] == expected


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"type": "number", "multipleOf": 0.00000000001}, "1.5"),
        ({"patternProperties": {"^a": {"type": "string"}, "^ab": {"type": "null"}}}, '{"ab": 1}'),
        ({"type": "string", "format": "email", "pattern": "^a*$"}, '"aa"'),
    ],
    ids=["too many digits", "patterns that overlap", "a pattern against a format"],
)
def test_what_llguidance_refuses_is_left_out(
    compiler: GrammarCompiler, schema: object, answer: str
) -> None:
    assert follows(compile_schema(compiler, schema), answer)


def test_objects_that_refer_to_each_other_with_more_beside_it(compiler: GrammarCompiler) -> None:
    """llguidance has no intersection of recursive definitions."""
    value = {"minProperties": 1, "anyOf": [{"type": "string"}, {"$ref": "#/definitions/map"}]}
    definitions = {"map": {"type": "object", "additionalProperties": value}}
    schema = {"additionalProperties": value, "definitions": definitions, "type": "object"}
    assert follows(compile_schema(compiler, schema), '{"a": {"b": "c"}}')
    assert not follows(compile_schema(compiler, schema), '{"a": {"b": 1')


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"properties": {"x": {"$ref": "#/properties/y"}, "y": {"const": 1}}}, '{"x": 1}'),
        ({"items": {"$ref": "#/$defs/a~1b"}, "$defs": {"a/b": {"const": 1}}}, "[1]"),
        ({"items": {"$ref": "#/$defs/a%25b"}, "$defs": {"a%b": {"const": 1}}}, "[1]"),
        ({"items": {"$ref": "#/$defs/a~0b"}, "$defs": {"a~b": {"const": 1}}}, "[1]"),
        ({"items": {"$ref": "#$defs/a"}, "$defs": {"a": {"const": 1}}}, "[1]"),
    ],
)
def test_a_reference_is_found(compiler: GrammarCompiler, schema: object, answer: str) -> None:
    assert follows(compile_schema(compiler, schema), answer)
    assert not follows(compile_schema(compiler, schema), answer.replace("1", "2"))
