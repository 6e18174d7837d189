"""How /v1/responses words errors (CONTRACT 2.1)."""

from __future__ import annotations

from ....models.errors import InvalidName, ModelError
from ...errors import (
    BadRequest,
    Busy,
    InvalidFormat,
    NotFound,
    OutriderError,
    TooLarge,
    Unsupported,
)
from ...options import OptionError
from ..error_table import ErrorTable

TYPES = {400: "invalid_request_error", 404: "not_found_error"}  # by HTTP status


def _body(status: int, text: str) -> dict[str, object]:
    kind = TYPES.get(status, "api_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": None}}


# Clients repeat a request after a status of 500 and above, so that what no repetition can change
# has status 400.
RESPONSE_ERRORS = ErrorTable(
    {
        BadRequest: 400,
        InvalidFormat: 400,
        InvalidName: 400,
        OptionError: 400,
        Unsupported: 400,
        NotFound: 404,
        TooLarge: 413,
        Busy: 503,
        OutriderError: 500,
        ModelError: 500,
    },
    _body,
)
