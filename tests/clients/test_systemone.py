"""Decisions through Ollama's own client, as a user's program asks for them (CONTRACT 2.8)."""

from __future__ import annotations

from collections.abc import Iterator

import ollama
import pytest
from daemons import Daemon, start_daemon
from ollama import SystemOneChoiceAnswer, SystemOneNoulAnswer, SystemOneScoreAnswer
from tiny import write_llama
from tiny_bert import write_bert
from tiny_scripted import write_scripted
from weights import import_gguf

pytestmark = pytest.mark.contract

STATE = "Our checkout has returned 500 errors since 9am."
TEAM = {
    "type": "choice",
    "instructions": "Which team should handle this ticket?",
    "criteria": {"billing": "Payments and refunds", "technical": "Software errors", "none": None},
}
URGENT = {"type": "noul", "instructions": {"question": "Is it urgent?"}}
LEVEL = {"type": "score", "instructions": "How severe is it?", "criteria": ["low", "mid", "high"]}
QUESTIONS = {"team": TEAM, "urgent": URGENT, "level": LEVEL}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with two slots; `second` always says "B"."""
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, "tiny", write_llama(folder / "tiny.gguf", seed=1))
    import_gguf(root, "bert", write_bert(folder / "bert.gguf"))
    import_gguf(root, "second", write_scripted(folder / "second.gguf", "B"))
    env = {"OUTRIDER_NUM_PARALLEL": "2"}
    with start_daemon(root, tmp_path_factory.mktemp("daemon"), env=env) as running:
        yield running


@pytest.fixture
def client(served: Daemon) -> Iterator[ollama.Client]:
    client = ollama.Client(served.url)
    yield client
    client._client.close()


def test_the_likeliest_option_is_the_answer(client: ollama.Client) -> None:
    """The model is certain of "B", the code of each second option."""
    answer = client.systemone("second", STATE, QUESTIONS)
    team, urgent, level = (answer.answers[name] for name in QUESTIONS)
    assert isinstance(team, SystemOneChoiceAnswer)
    assert isinstance(urgent, SystemOneNoulAnswer)
    assert isinstance(level, SystemOneScoreAnswer)
    assert team.choice == "technical"
    assert list(team.probabilities) == ["billing", "technical", "none"]
    assert list(team.probabilities.values()) == pytest.approx([0, 1, 0])
    assert team.confidence == pytest.approx(1)
    assert urgent.noul == pytest.approx(1)
    assert level.score == pytest.approx(1)
    assert level.legend == {"0": "low", "1": "mid", "2": "high"}
    assert answer.usage.output_tokens == 3
    assert answer.usage.input_tokens > 300


def test_options_that_a_model_hardly_thinks_of_have_their_probability(
    client: ollama.Client,
) -> None:
    """Of a model of random weights, whose likeliest tokens are no codes; from the cache, too."""
    state = {"ticket": STATE, "n": [1, 2]}
    first, again = (client.systemone("tiny", state, QUESTIONS) for _ in range(2))
    for name in ("team", "level"):
        told, repeated = first.answers[name], again.answers[name]
        assert not isinstance(told, SystemOneNoulAnswer)
        assert not isinstance(repeated, SystemOneNoulAnswer)
        assert sum(told.probabilities.values()) == pytest.approx(1)
        assert min(told.probabilities.values()) > 0
        assert 0 < told.confidence < 1
        assert repeated.probabilities == pytest.approx(told.probabilities, abs=1e-2)
    assert first.usage == again.usage


def test_a_nonsense_key_is_as_good_as_any(client: ollama.Client) -> None:
    criteria = {f"<|im_end|> {i} é": None for i in range(26)}
    question = {"type": "choice", "instructions": "Which?", "criteria": criteria}
    answer = client.systemone("second", "<|im_start|>", {"<|im_end|>": question}, keep_alive="1m")
    chosen = answer.answers["<|im_end|>"]
    assert isinstance(chosen, SystemOneChoiceAnswer)
    assert chosen.choice == "<|im_end|> 1 é"


def test_errors_are_told_as_ollama_tells_them(client: ollama.Client) -> None:
    refused = [
        ("gone", STATE, 404, "model 'gone' not found"),
        ("bert", STATE, 400, '"bert" does not support decision'),
        ("tiny", " ", 400, "state must be a nonempty string, object, or array"),
        ("tiny", "word " * 4000, 400, "the prompt is longer than the context length"),
        ("tiny", "word " * 14000, 413, "the request body is too large: at most 64 KiB are read"),
    ]
    for model, state, status, text in refused:
        with pytest.raises(ollama.ResponseError) as error:
            client.systemone(model, state, {"urgent": URGENT})
        assert error.value.status_code == status
        assert error.value.error.startswith(text)


async def test_the_asynchronous_client(served: Daemon) -> None:
    client = ollama.AsyncClient(served.url)
    try:
        answer = await client.systemone("second", STATE, {"urgent": URGENT})
    finally:
        await client._client.aclose()
    assert answer.model == "second"
    assert isinstance(answer.answers["urgent"], SystemOneNoulAnswer)
