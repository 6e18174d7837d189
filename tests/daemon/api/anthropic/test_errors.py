"""Anthropic's table: which status and type each error gets (CONTRACT 3)."""

from __future__ import annotations

import re

import pytest
from aiohttp.test_utils import make_mocked_request
from outrider.daemon import errors, options
from outrider.daemon.api.anthropic.errors import ERRORS
from outrider.daemon.errors import OutriderError
from outrider.models.errors import InvalidName, ModelError

pytestmark = pytest.mark.unit

INVALID, API = "invalid_request_error", "api_error"
STATUSES: dict[type[Exception], tuple[int, str]] = {
    errors.OutriderError: (500, API),
    errors.ConfigError: (500, API),
    errors.BadRequest: (400, INVALID),
    errors.RenderingKilled: (400, INVALID),
    errors.Unauthorized: (401, "authentication_error"),
    errors.TooManyRequests: (429, "rate_limit_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.CloudDisabled: (403, "permission_error"),
    errors.TooLarge: (413, "request_too_large"),
    errors.InvalidFormat: (400, INVALID),
    errors.InvalidSchema: (400, INVALID),
    errors.Busy: (503, "overloaded_error"),
    errors.Unsupported: (400, INVALID),
    errors.RunnerError: (500, API),
    errors.LoadFailed: (500, API),
    errors.DoesNotFit: (400, "invalid_request_error"),
    errors.RunnerDied: (500, API),
    errors.DecodeFailed: (500, API),
    options.OptionError: (400, INVALID),
    InvalidName: (400, INVALID),
    errors.TemplateFailed: (400, INVALID),
    ModelError: (500, API),
}
REQUEST = make_mocked_request("POST", "/v1/messages")


@pytest.mark.parametrize(("kind", "expected"), STATUSES.items())
def test_an_expected_error_keeps_its_text(kind: type[Exception], expected: tuple[int, str]) -> None:
    reply = ERRORS.explain(kind("why"), REQUEST)
    status, name = expected
    assert reply.status == status
    request_id = reply.body.pop("request_id")
    assert reply.body == {"type": "error", "error": {"type": name, "message": "why"}}
    assert re.fullmatch("req_[0-9a-f]{24}", str(request_id))


def test_no_class_is_forgotten() -> None:
    ours = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert {kind for kind in ours if issubclass(kind, OutriderError)} <= STATUSES.keys()
