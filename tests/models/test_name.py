"""Does the name grammar hold, and does it keep names inside the manifests folder?"""

import pytest
from outrider.models.errors import InvalidName
from outrider.models.name import Name

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("llama3.2", "registry.ollama.ai/library/llama3.2:latest", "llama3.2:latest"),
        ("llama3.2:1b", "registry.ollama.ai/library/llama3.2:1b", "llama3.2:1b"),
        ("user/x", "registry.ollama.ai/user/x:latest", "user/x:latest"),
        ("hf.co/u/r:Q4_K_M", "hf.co/u/r:Q4_K_M", "hf.co/u/r:Q4_K_M"),
        ("localhost:5000/library/x", "localhost:5000/library/x:latest", None),
        ("https://registry.ollama.ai/library/x:y", "registry.ollama.ai/library/x:y", "x:y"),
        ("HTTP://h/n/m", "h/n/m:latest", "h/n/m:latest"),
        ("  spaced \n", "registry.ollama.ai/library/spaced:latest", "spaced:latest"),
        ("_x/_y:_z", "registry.ollama.ai/_x/_y:_z", "_x/_y:_z"),
        ("h/library/m", "h/library/m:latest", "h/library/m:latest"),
        ("Foo:BAR", "registry.ollama.ai/library/Foo:BAR", "Foo:BAR"),
    ],
)
def test_parses(text: str, full: str, short: str | None) -> None:
    name = Name.parse(text)
    assert name.full == full
    assert name.short == (short or full)
    assert Name.parse(name.short) == name
    assert Name.parse(name.full) == name


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ":", "a:", ":a", "/a", "a/", "a//b", "a/b/c/d", "../a", "a/..", "..", ".",
        "./a", "a:..", "a:../b", "a/../b", "a:b:c",
        "-a", "a:-b", ".a", "a b", "a\x00b", "a\nb", "a\\b",
        "user.name/x", "localhost:5000/x", "x@sha256:" + "0" * 64, "sha256:" + "0" * 64 + "/x",
        "ftp://h/n/m", "://x", "http://", "ü", "a:ü", "a?b", "%2e%2e/a", "h/../m", "../n/m",
    ],
)  # fmt: skip
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidName, match=r"^invalid model name$"):
        Name.parse(text)


@pytest.mark.parametrize(
    ("template", "longest"),
    [("{}/n/m", 255), ("h/{}/m", 80), ("h/n/{}", 80), ("m:{}", 80)],
)
def test_lengths(template: str, longest: int) -> None:
    assert "x" * longest in Name.parse(template.format("x" * longest)).full
    with pytest.raises(InvalidName):
        Name.parse(template.format("x" * (longest + 1)))


def test_direct_construction_is_checked_too() -> None:
    with pytest.raises(InvalidName):
        Name("h", "..", "m", "t")


def test_case_does_not_tell_models_apart() -> None:
    assert Name.parse("Foo:Latest").same(Name.parse("foo"))
    assert not Name.parse("foo").same(Name.parse("foo:1b"))
