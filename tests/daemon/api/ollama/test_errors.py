"""Ollama's table: which status and text each error gets (CONTRACT 0)."""

from __future__ import annotations

import logging

import pytest
from aiohttp.test_utils import make_mocked_request
from outrider.daemon import errors, options
from outrider.daemon.api.error_table import INTERNAL
from outrider.daemon.api.ollama.errors import ERRORS
from outrider.daemon.errors import OutriderError
from outrider.models.errors import (
    CreateRefused,
    DigestMismatch,
    InvalidDigest,
    InvalidName,
    ModelError,
)
from outrider.quant.gguf import GGUFError

pytestmark = pytest.mark.unit

STATUSES: dict[type[Exception], int] = {
    errors.OutriderError: 500,
    errors.ConfigError: 500,
    errors.BadRequest: 400,
    errors.RenderingKilled: 400,
    errors.Unauthorized: 401,
    errors.TooManyRequests: 429,
    errors.NotFound: 404,
    errors.CloudDisabled: 403,
    errors.TooLarge: 413,
    errors.InvalidFormat: 500,
    errors.InvalidSchema: 400,
    errors.Busy: 503,
    errors.Unsupported: 501,
    errors.TemplateFailed: 500,
    errors.RunnerError: 500,
    errors.LoadFailed: 500,
    errors.DoesNotFit: 500,
    errors.RunnerDied: 500,
    errors.DecodeFailed: 500,
    options.OptionError: 500,
    CreateRefused: 400,
    InvalidDigest: 400,
    InvalidName: 400,
    ModelError: 500,
    GGUFError: 500,
}
REQUEST = make_mocked_request("POST", "/api/chat")


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
@pytest.mark.parametrize("in_stream", [True, False])
def test_an_expected_error_keeps_its_text(
    kind: type[Exception], status: int, in_stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    reply = ERRORS.explain(kind("why"), REQUEST, in_stream=in_stream)
    text = "unauthorized" if status == 401 else "why"
    assert (reply.status, reply.body) == (status, {"error": text})
    logged = ["POST /api/chat ended early: why"] if in_stream else []
    assert caplog.messages == logged


@pytest.mark.parametrize("kind", [ValueError, KeyError, AssertionError, MemoryError, OSError])
def test_the_text_of_any_other_exception_goes_to_the_log_alone(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    for in_stream in (True, False):
        reply = ERRORS.explain(kind("secret"), REQUEST, in_stream=in_stream)
        assert (reply.status, reply.body) == (500, {"error": INTERNAL})
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "secret" in caplog.text


def test_no_class_is_forgotten() -> None:
    ours = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert {kind for kind in ours if issubclass(kind, OutriderError)} <= STATUSES.keys()


def test_a_wrong_digest_is_the_request_s_fault() -> None:
    reply = ERRORS.explain(DigestMismatch("a", "b"), REQUEST)
    assert (reply.status, reply.body) == (400, {"error": 'digest mismatch, expected "a", got "b"'})
