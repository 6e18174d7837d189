"""OpenAI's table: which status and type each error gets (CONTRACT 2.1)."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from front import Front
from outrider.daemon import errors, options
from outrider.daemon.api.openai.errors import ERRORS
from outrider.models.errors import InvalidName, ModelError

pytestmark = pytest.mark.unit

STATUSES: dict[type[Exception], tuple[int, str]] = {
    errors.BadRequest: (400, "invalid_request_error"),
    errors.RenderingKilled: (400, "invalid_request_error"),
    errors.InvalidFormat: (400, "invalid_request_error"),
    errors.Unsupported: (400, "invalid_request_error"),
    InvalidName: (400, "invalid_request_error"),
    errors.Unauthorized: (401, "invalid_request_error"),
    errors.TooManyRequests: (429, "requests"),
    errors.NotFound: (404, "not_found_error"),
    errors.CloudDisabled: (403, "api_error"),
    errors.TooLarge: (413, "api_error"),
    errors.Busy: (503, "api_error"),
    errors.LoadFailed: (500, "api_error"),
    errors.DoesNotFit: (400, "invalid_request_error"),
    errors.RunnerDied: (500, "api_error"),
    errors.OutriderError: (500, "api_error"),
    options.OptionError: (500, "api_error"),
    ModelError: (500, "api_error"),
}
ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


@pytest.mark.parametrize(("kind", "reply"), STATUSES.items())
def test_an_expected_error_keeps_its_text(kind: type[Exception], reply: tuple[int, str]) -> None:
    status, kind_name = reply
    answer = ERRORS.explain(kind("why"), make_mocked_request("POST", "/v1/chat/completions"))
    code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
    error = {"message": "why", "type": kind_name, "param": None, "code": code}
    assert (answer.status, answer.body) == (status, {"error": error})


@pytest.mark.parametrize("path", ROUTES)
async def test_an_empty_body(front: Front, path: str) -> None:
    error = {"message": "EOF", "type": "invalid_request_error", "param": None, "code": None}
    assert await front.post(path, b"") == (400, {"error": error})


@pytest.mark.parametrize("path", ROUTES)
async def test_a_malformed_body(front: Front, path: str) -> None:
    for body in (b"{", b"x", b'{"model":3}', b"[]"):
        status, answer = await front.post(path, body)
        assert status == 400
        assert answer["error"]["type"] == "invalid_request_error"
        assert answer["error"]["message"]


async def test_routes_that_do_not_exist_and_wrong_methods(front: Front) -> None:
    assert await front.send("POST", "/v1/images/generations", {}) == (404, "404 page not found")
    assert (await front.send("GET", "/v1/chat/completions"))[0] == 405
