"""/v1/embeddings without weights (CONTRACT 2.4)."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from front import Front
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit

VECTORS = [[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]]
PATH = "/v1/embeddings"


async def embed(front: Front, **fields: object) -> Any:
    front.runners.vectors = VECTORS
    status, answer = await front.post(PATH, {"model": "vectors", **fields})
    assert status == 200, answer
    return answer


async def refusal(front: Front, **fields: object) -> tuple[int, str]:
    status, answer = await front.post(PATH, {"model": "vectors", **fields})
    return status, answer["error"]["message"]


async def test_an_answer_byte_by_byte(front: Front) -> None:
    front.runners.vectors = VECTORS
    body = {"model": "vectors", "input": ["a", "b"]}
    assert await front.send("POST", PATH, body) == (
        200,
        '{"object":"list","data":['
        '{"object":"embedding","embedding":[0.6000000238418579,0.800000011920929,0.0,0.0],"index":0},'
        '{"object":"embedding","embedding":[0.0,0.0,0.0,1.0],"index":1}],'
        '"model":"vectors","usage":{"prompt_tokens":6,"total_tokens":6}}',
    )
    assert front.runners.embeds[-1].texts == ("a", "b")
    assert front.runners.embeds[-1].truncate


async def test_one_text_may_be_empty(front: Front) -> None:
    assert len((await embed(front, input=""))["data"]) == 1
    assert front.runners.embeds[-1].texts == ("",)


async def test_base64_is_little_endian_float32(front: Front) -> None:
    answer = await embed(front, input=["a", "b"], encoding_format="base64")
    first, second = (base64.b64decode(item["embedding"], validate=True) for item in answer["data"])
    assert np.allclose(np.frombuffer(first, "<f4"), [0.6, 0.8, 0, 0])
    assert np.frombuffer(second, "<f4").tolist() == [0, 0, 0, 1]


async def test_dimensions_cut_and_normalise_again(front: Front) -> None:
    answer = await embed(front, input="a", dimensions=1)
    assert answer["data"][0]["embedding"] == [1.0]


REFUSALS: list[tuple[dict[str, object], int, str]] = [
    ({}, 400, "invalid input"),
    ({"input": None}, 400, "invalid input"),
    ({"input": []}, 400, "invalid input"),
    ({"input": [1, 2]}, 400, "invalid input type"),
    ({"input": [[1, 2]]}, 400, "invalid input type"),
    ({"input": 3}, 400, "invalid input type"),
    (
        {"input": "a", "encoding_format": "int8"},
        400,
        "Invalid value for 'encoding_format' = int8. Supported values: ['float', 'base64'].",
    ),
    ({"input": "a", "model": ""}, 404, "model '' not found"),
    ({"input": "a", "model": "no"}, 404, 'model "no" not found, try pulling it first'),
]


async def test_what_is_refused(front: Front) -> None:
    for fields, status, text in REFUSALS:
        got, message = await refusal(front, **fields)
        assert (got, message[: len(text)]) == (status, text)


async def test_what_the_runner_refuses(front: Front) -> None:
    front.runners.embed_error = BadRequest("too long")
    assert await refusal(front, input="a") == (400, "too long")


async def test_numbers_that_json_cannot_express(front: Front) -> None:
    front.runners.vectors = [[float("nan")] * 4]
    status, text = await front.send("POST", PATH, {"model": "vectors", "input": "a"})
    assert status == 400
    assert json.loads(text)["error"]["message"] == "embedding contains NaN or Inf values"
