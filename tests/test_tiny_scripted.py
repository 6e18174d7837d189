"""Scripted models really say their script, through llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import open_engine
from harness import load_spec, text_request
from tiny_scripted import DEFAULT, split, write_scripted

pytestmark = pytest.mark.model


@pytest.mark.parametrize("text", ["", "a", "aaaaaaaa", 'é {"a": "a", "b": [1, 1, 1]}\n\n"aa"'])
def test_pieces_are_different_and_make_the_text(text: str) -> None:
    pieces = split(text, (), set())
    assert "".join(pieces) == text
    assert len(set(pieces)) == len(pieces)


def test_pieces_of_several_texts_are_different() -> None:
    seen = {"\n"}
    texts = ("-\n<t>\n\nab", "a\n", "a<t>bab\n")
    pieces = [split(text, ("<t>",), seen) for text in texts]
    assert ["".join(each) for each in pieces] == list(texts)
    told = [piece for each in pieces for piece in each]
    assert len(set(told)) == len(told)
    assert "\n" not in told


def test_a_text_that_has_no_pieces() -> None:
    with pytest.raises(ValueError, match="no piece"):
        split("<t>\n<u>", ("<t>", "<u>"), {"\n"})


def test_a_model_says_its_script_to_anything(tmp_path: Path) -> None:
    script = 'Hé said: {"a": 1, "a": 1} again and again.\n'
    gguf = write_scripted(tmp_path / "m.gguf", script)
    with open_engine(load_spec(gguf)) as harness:
        texts = harness.run(text_request(0, "x", 100), text_request(1, "Hello there", 100))
        assert harness.done[0].reason == "stop"
    assert texts == {0: script, 1: script}


def test_a_script_may_depend_on_the_end_of_the_prompt(tmp_path: Path) -> None:
    scripts = {DEFAULT: "first", "<|t|>": "second", "?": "third"}
    gguf = write_scripted(tmp_path / "m.gguf", scripts, specials=("<|t|>",))
    with open_engine(load_spec(gguf)) as harness:
        ends = ("x", "x<|t|>", "x?")
        texts = harness.run(*(text_request(i, end, 100) for i, end in enumerate(ends)))
    assert texts == {0: "first", 1: "second", 2: "third"}


def test_a_script_may_be_endless(tmp_path: Path) -> None:
    gguf = write_scripted(tmp_path / "m.gguf", "ab", ends=False)
    with open_engine(load_spec(gguf)) as harness:
        assert harness.run(text_request(0, "x", 6)) == {0: "ababab"}


def test_wholes_are_one_token(tmp_path: Path) -> None:
    script = '{"name": 1}'
    gguf = write_scripted(tmp_path / "m.gguf", script, wholes=('{"name": ',))
    with open_engine(load_spec(gguf)) as harness:
        assert harness.run(text_request(0, "x", 2)) == {0: '{"name": 1'}
