"""The error middleware: whose table words an error, and when nothing can be sent."""

from __future__ import annotations

import logging

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from outrider.daemon import app
from outrider.daemon.api.error_table import ErrorTable
from outrider.daemon.api.ollama.errors import ERRORS

pytestmark = pytest.mark.unit

OTHER = ErrorTable({}, lambda status, text: {"message": text})


@pytest.mark.parametrize("path", ["/", "/api/chat", "/nothing", "", "*"])
def test_ollama_words_the_errors_of_every_path(path: str) -> None:
    assert app.error_table(path) is ERRORS


def test_the_longest_prefix_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "ERROR_TABLES", {"": ERRORS, "/v1/": OTHER, "/v1/messages": ERRORS})
    assert app.error_table("/v1/chat/completions") is OTHER
    assert app.error_table("/v1/messages/count") is ERRORS
    assert app.error_table("/v2") is ERRORS


@pytest.mark.parametrize(
    ("error", "has_left", "status", "num_logged"),
    [
        (ConnectionResetError("x"), True, app.CLIENT_LEFT, 0),
        (ConnectionResetError("x"), False, 500, 1),
        (ValueError("x"), True, 500, 1),
    ],
)
async def test_a_disconnect_is_not_logged_as_a_fault(
    error: Exception,
    has_left: bool,
    status: int,
    num_logged: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_request: web.Request) -> web.StreamResponse:
        raise error

    request = make_mocked_request("POST", "/api/chat")
    if has_left:
        request.protocol.transport = None
    answer = await app.answer_errors(request, fail)
    assert answer.status == status
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == num_logged
