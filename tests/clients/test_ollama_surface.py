"""Every method of the official Python client, whole and streamed, against a daemon."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import ollama
import pytest
from daemons import Daemon
from registry_server import RegistryServer
from tiny import write_llama

pytestmark = pytest.mark.contract

TINY, TALKER = "tiny", "talker"
FEW = {"temperature": 0, "num_predict": 4}
METHODS = {
    *("chat", "generate", "systemone", "embed", "embeddings", "web_search", "web_fetch"),
    *("create", "create_blob", "copy", "delete", "list", "show", "ps", "pull", "push", "close"),
}


@pytest.fixture
def client(daemon: Daemon) -> Iterator[ollama.Client]:
    with ollama.Client(host=daemon.url) as client:
        yield client


@pytest.fixture
async def registry() -> AsyncIterator[RegistryServer]:
    async with RegistryServer().serve() as server:
        yield server


def test_this_module_knows_all_methods() -> None:
    public = inspect.getmembers(ollama.Client, inspect.isfunction)
    assert {name for name, _ in public if not name.startswith("_")} == METHODS


def test_text(client: ollama.Client) -> None:
    hi = [{"role": "user", "content": "Hi"}]
    said = client.chat(TALKER, hi).message.content
    assert said == client.generate(TALKER, "Hi").response
    chat = client.chat(TALKER, hi, stream=True)
    assert "".join(part.message.content or "" for part in chat) == said
    text = client.generate(TALKER, "Hi", stream=True)
    assert "".join(part.response for part in text) == said
    scored = client.generate(TINY, "x", raw=True, logprobs=True, top_logprobs=2, options=FEW)
    assert len(scored.logprobs or ()) == 4
    question = {"type": "choice", "instructions": "Which?", "criteria": {"a": None, "b": None}}
    answer = client.systemone("smollm2:135m", "a", {"q": question}).answers["q"]
    assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_vectors(client: ollama.Client) -> None:
    many = client.embed(TINY, ["a", "b"]).embeddings
    assert len(many) == 2
    assert len(client.embeddings(TINY, "a").embedding) == len(many[0])


def test_a_model_is_made_and_removed(client: ollama.Client, tmp_path: Path) -> None:
    digest = client.create_blob(write_llama(tmp_path / "m.gguf", seed=77))
    made = client.create("surface", files={"m.gguf": digest}, system="Be brief.", parameters=FEW)
    assert made.status == "success"
    steps = list(client.create("surface-q", from_="surface", quantize="q8_0", stream=True))
    assert steps[-1].status == "success"
    assert any((step.status or "").startswith("quantizing F32 model") for step in steps)
    assert client.copy("surface", "surface-copy").status == "success"
    names = [model.model for model in client.list().models]
    assert {"surface:latest", "surface-q:latest", "surface-copy:latest"} <= set(names)
    shown = client.show("surface-q")
    assert shown.details
    assert shown.details.quantization_level == "Q8_0"
    client.generate("surface-q", "x", options=FEW, keep_alive=60)
    assert "surface-q:latest" in [model.model for model in client.ps().models]
    client.generate("surface-q", keep_alive=0)
    for name in ("surface", "surface-q", "surface-copy"):
        assert client.delete(name).status == "success"
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.show("surface")


async def test_a_model_goes_to_a_registry_and_back(
    client: ollama.Client, registry: RegistryServer
) -> None:
    def there_and_back() -> None:
        name = f"{registry.host}/me/tiny"
        client.copy(TINY, name)
        assert list(client.push(name, insecure=True, stream=True))[-1].status == "success"
        client.delete(name)
        assert list(client.pull(name, insecure=True, stream=True))[-1].status == "success"
        assert client.pull(name, insecure=True).status == "success"
        assert client.generate(name, "x", options=FEW).response
        client.delete(name)

    await asyncio.to_thread(there_and_back)


def test_what_needs_the_network_is_refused_by_the_client_or_the_daemon(
    client: ollama.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Web search is a service of its vendor, for which the client wants a key."""
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    for ask in (lambda: client.web_search("x"), lambda: client.web_fetch("http://127.0.0.1")):
        with pytest.raises((ValueError, ollama.ResponseError)):
            ask()
