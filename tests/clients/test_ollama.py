"""The official Python client, as a user's program has it."""

from __future__ import annotations

from collections.abc import Iterator

import ollama
import pytest
from daemons import Daemon

pytestmark = pytest.mark.contract

SMOL = "smollm2:135m"
GREEDY = {"temperature": 0, "num_predict": 20}
ASK = [{"role": "user", "content": "Name a color."}]


@pytest.fixture
def client(daemon: Daemon) -> Iterator[ollama.Client]:
    client = ollama.Client(host=daemon.url)
    yield client
    client._client.close()


def test_chat_and_its_stream_agree(client: ollama.Client) -> None:
    whole = client.chat(SMOL, ASK, options=GREEDY)
    parts = list(client.chat(SMOL, ASK, options=GREEDY, stream=True))
    assert whole.message.content == "".join(part.message.content or "" for part in parts)
    assert parts[-1].done_reason in ("stop", "length")
    assert parts[-1].eval_count == whole.eval_count


def test_generate(client: ollama.Client) -> None:
    answer = client.generate(SMOL, "The capital of France is", raw=True, options=GREEDY)
    assert "Paris" in answer.response


def test_the_models(client: ollama.Client) -> None:
    assert SMOL in [model.model for model in client.list().models]
    assert client.show(SMOL).details.family == "llama"
    client.copy(SMOL, "smol-copy")
    client.delete("smol-copy")
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        client.show("smol-copy")
    assert caught.value.status_code == 404


def test_pull_and_ps(client: ollama.Client) -> None:
    assert list(client.pull(SMOL, stream=True))[-1].status == "success"
    client.generate(SMOL)
    assert SMOL in [model.model for model in client.ps().models]


async def test_the_async_client_chats_side_by_side(daemon: Daemon) -> None:
    client = ollama.AsyncClient(host=daemon.url)
    try:
        stream = await client.chat(SMOL, ASK, options=GREEDY, stream=True)
        text = "".join([part.message.content or "" async for part in stream])
    finally:
        await client._client.aclose()
    assert text
