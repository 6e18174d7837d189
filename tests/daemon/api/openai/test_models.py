"""/v1/models (CONTRACT 2.5)."""

from __future__ import annotations

from pathlib import Path

import pytest
from front import LLAMA, Front, start_front
from tiny import named, write_gguf
from weights import import_gguf

pytestmark = pytest.mark.unit

UNSLOTH = "hf.co/unsloth/tiny-GGUF:Q4_K_M"


async def test_the_list(front: Front) -> None:
    status, answer = await front.get("/v1/models")
    assert (status, answer["object"]) == (200, "list")
    stored = {model.name.short: model for model in front.store.list()}
    assert {model["id"] for model in answer["data"]} == stored.keys()
    chat = next(model for model in answer["data"] if model["id"] == "chat:latest")
    created = int(stored["chat:latest"].modified_at.timestamp())
    assert chat == {
        "id": "chat:latest",
        "object": "model",
        "created": created,
        "owned_by": "library",
    }


async def test_an_empty_store_has_no_data(tmp_path: Path) -> None:
    async with start_front(tmp_path) as front:
        assert await front.send("GET", "/v1/models") == (200, '{"object":"list","data":null}')


async def test_one_model_by_any_of_its_names(front: Front) -> None:
    for path, shown in (
        ("chat", "chat"),
        ("chat:latest", "chat:latest"),
        ("CHAT", "CHAT"),
        ("library/chat", "library/chat"),
        ("library%2Fchat%3Alatest", "library/chat:latest"),
        ("registry.ollama.ai/library/chat:latest", "registry.ollama.ai/library/chat:latest"),
    ):
        status, model = await front.get(f"/v1/models/{path}")
        assert (status, model["id"], model["owned_by"]) == (200, shown, "library")


async def test_the_owner_is_the_namespace(tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "x.gguf", named("llama", LLAMA), ())
    import_gguf(tmp_path / "store", UNSLOTH, gguf)
    async with start_front(tmp_path / "store") as front:
        _, listed = await front.get("/v1/models")
        _, one = await front.get(f"/v1/models/{UNSLOTH.replace('/', '%2F')}")
    assert listed["data"] == [one]
    assert (one["id"], one["owned_by"]) == (UNSLOTH, "unsloth")


async def test_models_that_are_not_there(front: Front) -> None:
    status, answer = await front.get("/v1/models/nobody")
    assert (status, answer["error"]["type"]) == (404, "not_found_error")
    assert answer["error"]["message"] == "model 'nobody:latest' not found"
    status, answer = await front.get("/v1/models/a//b/c/d")
    assert (status, answer["error"]["message"]) == (400, "invalid model name")
