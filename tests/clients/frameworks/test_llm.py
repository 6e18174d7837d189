"""The `llm` command with its plugin llm-ollama, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from daemons import Daemon
from scripted_models import CITY, HELLO, PERSON, REPORT, ROUTER, TALKER, THINKER

pytestmark = pytest.mark.clients

BERT = "bert"  # the model for embeddings (conftest.py)

FUNCTION = """
def get_weather(city: str) -> str:
    "The weather of a city."
    return "21 degrees in " + city
"""


@pytest.fixture
def user(served: Daemon, tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose files are in `tmp_path`."""
    return {**os.environ, "OLLAMA_HOST": served.url, "LLM_USER_PATH": str(tmp_path)}


def run(user: dict[str, str], *words: str) -> str:
    command = [str(Path(sys.executable).parent / "llm"), *words]
    done = subprocess.run(
        command, env=user, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_models_are_listed(user: dict[str, str]) -> None:
    assert f"Ollama: ollama/{TALKER}:latest" in run(user, "models")


@pytest.mark.parametrize("words", [(), ("--no-stream",)])
@pytest.mark.parametrize("model", [TALKER, THINKER])
def test_an_answer(user: dict[str, str], words: tuple[str, ...], model: str) -> None:
    assert HELLO in run(user, "-m", f"ollama/{model}:latest", *words, "Hi!")


def test_usage_is_logged_and_a_chat_goes_on(user: dict[str, str]) -> None:
    run(user, "-m", f"ollama/{TALKER}:latest", "Hi!")
    assert HELLO in run(user, "-c", "Again!")
    first, second = json.loads(run(user, "logs", "--json"))
    assert first["response"] == second["response"] == HELLO
    assert first["output_tokens"] > 0


@pytest.mark.parametrize("words", [(), ("--no-stream",)])
def test_a_tool(user: dict[str, str], words: tuple[str, ...]) -> None:
    told = run(
        user,
        "-m",
        f"ollama/{ROUTER}:latest",
        *words,
        "--functions",
        FUNCTION,
        "--td",
        "The weather?",
    )
    assert f"21 degrees in {CITY}" in told
    assert REPORT in told


def test_a_structured_answer(user: dict[str, str]) -> None:
    told = run(
        user, "-m", f"ollama/{ROUTER}:latest", "--schema", "name,age int", "Tell me of a person."
    )
    assert json.loads(told) == PERSON


def test_embeddings(user: dict[str, str]) -> None:
    assert (
        len(json.loads(run(user, "embed", "-m", f"ollama/{BERT}:latest", "-c", "a red house"))) > 0
    )
