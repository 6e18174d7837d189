"""How Anthropic's dialect words errors (CONTRACT 3)."""

from __future__ import annotations

from ...options import OptionError
from ...request_note import current_id
from ..error_table import STATUSES_FOR_RETRIES, ErrorTable

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


def _body(status: int, text: str) -> dict[str, object]:
    """The type of the object names the event of a stream that failed."""
    error = {"type": TYPES.get(status, "api_error"), "message": text}
    return {"type": "error", "error": error, "request_id": current_id()}


ERRORS = ErrorTable({OptionError: 400, **STATUSES_FOR_RETRIES}, _body)
