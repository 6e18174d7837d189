"""How OpenAI's dialect words errors (CONTRACT 2.1)."""

from __future__ import annotations

from ..error_table import STATUSES_FOR_RETRIES, ErrorTable

# By HTTP status: type and code, those of 401 and 429 as OpenAI itself has them.
KINDS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("not_found_error", None),
    429: ("requests", "rate_limit_exceeded"),
}


def _body(status: int, text: str) -> dict[str, object]:
    kind, code = KINDS.get(status, ("api_error", None))
    return {"error": {"message": text, "type": kind, "param": None, "code": code}}


ERRORS = ErrorTable(STATUSES_FOR_RETRIES, _body)
