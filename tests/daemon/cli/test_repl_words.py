"""Completion at the prompt of `run`."""

import pytest
from outrider.daemon.cli.repl_words import HELP, HELP_TOPICS, WORDS, candidates

pytestmark = pytest.mark.unit

MODELS = ["gemma:1b", "llama:8b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/s", ["/save", "/set", "/show"]),
        ("/set no", ["nohistory", "nothink", "nowordwrap", "noformat"]),
        ("/set parameter temp", ["temperature"]),
        ("/set format ", ["json"]),
        ("/set think m", ["max", "medium"]),
        ("/show m", ["modelfile"]),
        ("/? sh", ["shortcuts", "show"]),
        ("/load ", MODELS),
        ("/save ll", ["llama:8b"]),
        ("/load gemma:1b ", []),
        ("/set parameter temperature ", []),
        ("/nothing x", []),
        ("hello", []),
        ("", []),
    ],
)
def test_the_last_word_is_completed(text: str, words: list[str]) -> None:
    assert candidates(text, MODELS) == sorted(words)


def test_help_has_every_command_and_setting() -> None:
    assert [word for word in WORDS if word not in HELP] == []
    assert [word for word in WORDS["/set"] if word not in HELP_TOPICS["set"]] == []
    assert [word for word in WORDS["/show"] if word not in HELP_TOPICS["show"]] == []
