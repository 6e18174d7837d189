"""How OpenAI's dialect words errors (CONTRACT 2.1).

What no retry can help has a status below 500, because OpenAI's clients retry the others.
"""

from __future__ import annotations

from ....models.errors import InvalidName, ModelError
from ...errors import (
    BadRequest,
    Busy,
    CloudDisabled,
    InvalidFormat,
    NotFound,
    OutriderError,
    TemplateFailed,
    TooLarge,
    Unsupported,
)
from ..error_table import ErrorTable

KINDS = {400: "invalid_request_error", 404: "not_found_error"}  # by HTTP status


def _body(status: int, text: str) -> dict[str, object]:
    kind = KINDS.get(status, "api_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": None}}


ERRORS = ErrorTable(
    {
        BadRequest: 400,
        InvalidFormat: 400,
        InvalidName: 400,
        Unsupported: 400,
        TemplateFailed: 400,
        CloudDisabled: 403,
        NotFound: 404,
        TooLarge: 413,
        Busy: 503,
        OutriderError: 500,
        ModelError: 500,
    },
    _body,
)
