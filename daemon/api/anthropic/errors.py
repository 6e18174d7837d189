"""How Anthropic's dialect words errors (CONTRACT 3)."""

from __future__ import annotations

import secrets

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
from ...options import OptionError
from ..error_table import ErrorTable

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}  # by HTTP status
ID_BYTES = 12  # 24 hexadecimal digits (CONTRACT 3)


def _body(status: int, text: str) -> dict[str, object]:
    """The type of the object names the event of a stream that failed."""
    error = {"type": TYPES.get(status, "api_error"), "message": text}
    return {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(ID_BYTES)}"}


# Clients repeat a request after a status of 500 and above, so that what no repetition can change
# has status 400.
ERRORS = ErrorTable(
    {
        BadRequest: 400,
        InvalidFormat: 400,
        InvalidName: 400,
        OptionError: 400,
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
