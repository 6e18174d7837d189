"""Is a Modelfile parsed as Ollama parses it?"""

import codecs
import json
import random
from pathlib import Path

import pytest
from ollama_folder import put_model
from outrider.models.errors import InvalidModelfile
from outrider.models.modelfile import COMMANDS, decode_modelfile, parse_modelfile
from outrider.models.modelfile_writer import render_modelfile
from outrider.models.store import Store

pytestmark = pytest.mark.unit

WHOLE = '''\
# a comment
  # and one more

FROM ./gemma4.gguf
from mmproj.gguf
Draft ./assistant.gguf
ADAPTER ./lora.gguf
TEMPLATE """{{ .Prompt }}
  "quoted" # no comment"""
SYSTEM first
SYSTEM   second: it's # fine
PARAMETER stop "<a> "
PARAMETER\tstop <b>
PARAMETER temperature 0.5
LICENSE "two
lines"
LICENSE 'kept'
MESSAGE user hello there
MESSAGE assistant """hi
"""
RENDERER gemma4
PARSER gemma4
REQUIRES 0.14.0
'''


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_instruction(newline: str) -> None:
    modelfile = parse_modelfile(WHOLE.replace("\n", newline))
    assert modelfile.all("from") == ("./gemma4.gguf", "mmproj.gguf")
    assert modelfile.all("draft") == ("./assistant.gguf",)
    assert modelfile.last("adapter") == "./lora.gguf"
    assert modelfile.last("template") == '{{ .Prompt }}\n  "quoted" # no comment'
    assert modelfile.last("system") == "second: it's # fine"
    assert modelfile.keyed("parameter") == (
        ("stop", "<a> "),
        ("stop", "<b>"),
        ("temperature", "0.5"),
    )
    assert modelfile.all("license") == ("two\nlines", "'kept'")
    assert modelfile.keyed("message") == (("user", "hello there"), ("assistant", "hi\n"))
    assert (modelfile.last("renderer"), modelfile.last("parser")) == ("gemma4", "gemma4")
    assert modelfile.last("requires") == "0.14.0"


def test_the_last_line_needs_no_end() -> None:
    assert parse_modelfile("FROM a").all("from") == ("a",)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('SYSTEM ""', ""),
        ('SYSTEM """"""', ""),
        ('SYSTEM "a" and "b"', 'a" and "b'),
        ('SYSTEM say "a"', 'say "a"'),
        ('SYSTEM """a "b""""', 'a "b"'),
        ("SYSTEM 'a'", "'a'"),
        (r'SYSTEM "a\nb"', r"a\nb"),
        ("system ü€🦊", "ü€🦊"),
    ],
)
def test_quotes(line: str, value: str) -> None:
    assert parse_modelfile(f"FROM m\n{line}\nPARSER p\n").last("system") == value


COMMAND = "(line {}): command must be one of " + (
    '"from", "license", "template", "system", "adapter", "draft", "renderer", "parser", '
    '"parameter", "message", or "requires"'
)
ROLE = '(line {}): message role must be one of "system", "user", or "assistant"'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no FROM line"),
        ("# FROM a\nSYSTEM b", "no FROM line"),
        ("FROM a\n\nBAKE b", COMMAND.format(3)),
        ("FROM", COMMAND.format(1)),
        ('FROM a\nSYSTEM """\n\n"""\nnot one', COMMAND.format(5)),
        ("FROM a\nMESSAGE robot hi", ROLE.format(2)),
        ("FROM a\nMESSAGE USER hi", ROLE.format(2)),
        ('FROM a\nSYSTEM "b', "unexpected EOF"),
        ('FROM a\nSYSTEM """b"', "unexpected EOF"),
        ("FROM a\nPARAMETER stop", "unexpected EOF"),
        ("FROM a\nMESSAGE user", "unexpected EOF"),
        ("FROM a\nREQUIRES new", "requires must be a valid semver (e.g. 0.14.0)"),
    ],
)
def test_mistakes_are_named(text: str, error: str) -> None:
    with pytest.raises(InvalidModelfile) as caught:
        parse_modelfile(text)
    assert str(caught.value) == error


@pytest.mark.parametrize("version", ["1", "0.14", "v0.14.0", "0.14.0-rc.1+build"])
def test_versions(version: str) -> None:
    assert parse_modelfile(f"FROM a\nREQUIRES {version}").last("requires") == version


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_encodings(mark: bytes, encoding: str) -> None:
    assert decode_modelfile(mark + "FROM ü€🦊\n".encode(encoding)) == "FROM ü€🦊\n"


@pytest.mark.parametrize("data", [b"FROM \xff", codecs.BOM_UTF16_LE + b"abc"])
def test_what_is_no_text(data: bytes) -> None:
    with pytest.raises(InvalidModelfile, match="not text in UTF-8 or UTF-16"):
        decode_modelfile(data)


@pytest.mark.parametrize(
    "system",
    [
        *("plain", " lead", "a\nb", 'say "hi"\n', '"quoted" start', "'a'", "a  \n  b  "),
        *('"', '"""', '"""\n', 'a"""\n# b', 'a"""\nFROM b', '"\n"""\n"', "#\n# a"),
        'Write like this:\ndef f():\n    """One line."""\n    return 1',
        'def f():\n    """Long.\n\n    text\n    """\n\nfrom os import path',
    ],
)
def test_what_show_writes_is_read_back(tmp_path: Path, system: str) -> None:
    layers = [("model", b"w"), ("draft", b"d"), ("system", system.encode())]
    put_model(tmp_path, "registry.ollama.ai/library/m/1b", layers)
    model = Store(tmp_path).resolve("m:1b")
    modelfile = parse_modelfile(render_modelfile(model))
    assert modelfile.all("from") == (str(model.model_path),)
    assert modelfile.all("draft") == (str(model.draft_path),)
    assert modelfile.last("system") == system
    assert {command.name for command in modelfile.commands} <= set(COMMANDS)


def test_any_text_is_read_back(tmp_path: Path) -> None:
    draw = random.Random(5)
    pieces = ['"', '""', '"""', "\n", " ", "#", "a", "FROM b", "PARSER c", "\\", "\u2028"]
    texts = ["".join(draw.choices(pieces, k=draw.randint(1, 12))) for _ in range(400)]
    params = {"stop": texts[:200]}
    licenses = [("license", text.encode()) for text in texts[200:]]
    layers = [("model", b"w"), ("params", json.dumps(params).encode()), *licenses]
    put_model(tmp_path, "registry.ollama.ai/library/m/1b", layers)
    parsed = parse_modelfile(render_modelfile(Store(tmp_path).resolve("m:1b")))
    assert [text for _, text in parsed.keyed("parameter")] == texts[:200]
    assert list(parsed.all("license")) == texts[200:]


def test_three_quotes_inside_of_three_quotes() -> None:
    """As people write them; Ollama's own parser ends the value at the first pair."""
    text = 'def f():\n    """One line."""\n    return 1\n\n# end'
    parsed = parse_modelfile(f'FROM m\nSYSTEM """{text}"""\n# a comment\nPARSER p\n')
    assert (parsed.last("system"), parsed.last("parser")) == (text, "p")
    odd = parse_modelfile('FROM m\nSYSTEM """three """ quotes"""\nPARSER p')
    assert (odd.last("system"), odd.last("parser")) == ('three """ quotes', "p")


def test_a_stated_number_of_lines_that_is_wrong_does_no_harm() -> None:
    text = "FROM m\n# The next value has {} lines.\nSYSTEM {}\nPARSER p\n"
    for count in (0, 1, 2, 9, 10**20):
        parsed = parse_modelfile(text.format(count, '"""a\nb"""'))
        assert (parsed.last("system"), parsed.last("parser")) == ("a\nb", "p")
        assert parse_modelfile(text.format(count, "a")).last("parser") == "p"


def test_a_mistake_after_a_quoted_value_is_still_named() -> None:
    text = 'FROM m\nSYSTEM """a"""\nTEMPERATURE 1\nTEMPLATE """b"""\n'
    with pytest.raises(InvalidModelfile, match=r"^\(line 3\): command must be one of"):
        parse_modelfile(text)
